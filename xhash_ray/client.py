"""The client of the endpoint: plain HTTP, no ray, no torch."""

from __future__ import annotations

import base64
from typing import Any

import httpx2

from xhash_ray.errors import BadInput, Unreachable, XhashError


class Client:
    """Asks one endpoint.

    Args:
        url: Such as http://127.0.0.1:8000.
        timeout_s: For each request.
    """

    def __init__(self, url: str, timeout_s: float = 30.0) -> None:
        self.url = url.rstrip("/")
        self.http = httpx2.Client(timeout=timeout_s)

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.http.close()

    def search(self, k: int = 10, target: str | None = None, **query: Any) -> dict[str, Any]:
        """The k nearest pairs.

        Args:
            k: Hits wanted.
            target: "image" or "text"; the other modality than the query's when left out.
            query: Exactly one of text=str, image=bytes, code=hex, vector=list, id=str.

        Raises:
            Unreachable: when nothing answers.
            BadInput: when the endpoint refuses the query.
        """
        if isinstance(query.get("image"), bytes):
            query["image"] = base64.b64encode(query["image"]).decode()
        request = {"k": k, **({"target": target} if target else {}), **query}
        return self.ask("POST", "/v1/search", request)

    def index(self) -> dict[str, Any]:
        """What the endpoint serves."""
        return self.ask("GET", "/v1/index")

    def ask(self, verb: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        """One request, its errors made clear."""
        try:
            response = self.http.request(verb, self.url + path, json=body)
        except (httpx2.HTTPError, httpx2.InvalidURL) as error:
            found = f"no answer ({error or type(error).__name__})"
            raise Unreachable(f"endpoint {self.url}", found, "Start it with `xhash serve`, or check --url") from None
        if response.is_success:
            answer: dict[str, Any] = response.json()
            return answer
        raise refusal(self.url, response)


def refusal(url: str, response: httpx2.Response) -> XhashError:
    """The endpoint's own words about a request it did not serve."""
    try:
        body = response.json()
    except ValueError:
        return Unreachable(f"endpoint {url}", f"HTTP {response.status_code}, not from xhash-ray", "Check --url")
    error = body.get("error")
    if isinstance(error, dict):
        kind = BadInput if response.status_code < 500 else XhashError
        return kind(error["asked"], error["found"], error["do"])
    if response.status_code == 422:
        first = body["detail"][0]
        where = ".".join(str(part) for part in first["loc"][1:])
        return BadInput(f"endpoint {url}, field {where}", first["msg"], "See /docs of the endpoint")
    return XhashError(f"endpoint {url}", f"HTTP {response.status_code}: {body}", "Check the endpoint's logs")
