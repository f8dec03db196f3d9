"""The client of the endpoint: plain HTTP, no ray, no torch."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

import httpx2

from xhash_ray.errors import BadInput, Overloaded, Unreachable, XhashError

LATER = 503


class Client:
    """Asks one endpoint.

    Args:
        url: Such as http://127.0.0.1:8000.
        timeout_s: For each request.
        key: API key, where the endpoint wants one.
    """

    def __init__(self, url: str, timeout_s: float = 30.0, key: str | None = None) -> None:
        self.url = url.rstrip("/")
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        self.http = httpx2.Client(timeout=timeout_s, headers=headers)

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.http.close()

    def search(self, k: int = 10, target: str | None = None, **query: Any) -> dict[str, Any]:
        """The k nearest pairs.

        Args:
            k: Hits wanted.
            target: "image" or "text"; the other modality than the query's when left out.
            query: Exactly one of text=str, image=bytes, code=hex, vector=list, id=str; and any of filter=str,
                metadata=bool, ties=bool, require_complete=bool, timeout_s=float.

        Raises:
            Unreachable: when nothing answers.
            BadInput: when the endpoint refuses the query.
            Overloaded: when it should be asked again later.
        """
        return self.ask("POST", "/v1/search", as_request(k=k, target=target, **query))

    def search_batch(self, queries: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """The answers to several queries, each with the arguments of `search`; errors as of it."""
        answers: list[dict[str, Any]] = self.ask(
            "POST", "/v1/search/batch", {"queries": [as_request(**query) for query in queries]}
        )["answers"]
        return answers

    def item(self, identity: str) -> dict[str, Any]:
        """A stored pair: codes and metadata. Errors as of `search`."""
        return self.ask("GET", f"/v1/items/{quote(identity, safe='')}")

    def encode(self, **query: Any) -> str:
        """The code of a query, in hexadecimal. Arguments and errors as of `search`."""
        return str(self.ask("POST", "/v1/encode", as_request(**query))["code"])

    def activate(self, generation: int | None = None) -> dict[str, Any]:
        """Has a generation served, the current one by default; wants an admin's key. Errors as of `search`."""
        return self.ask("POST", "/v1/admin/activate", {"generation": generation})

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


def as_request(**query: Any) -> dict[str, Any]:
    """A query as the endpoint takes it."""
    request = {name: value for name, value in query.items() if value is not None}
    if isinstance(request.get("image"), bytes):
        request["image"] = base64.b64encode(request["image"]).decode()
    return request


def refusal(url: str, response: httpx2.Response) -> XhashError:
    """The endpoint's own words about a request it did not serve."""
    try:
        body = response.json()
    except ValueError:
        return Unreachable(f"endpoint {url}", f"HTTP {response.status_code}, not from xhash-ray", "Check --url")
    error = body.get("error")
    if isinstance(error, dict):
        later = Overloaded if response.status_code == LATER else XhashError
        kind = BadInput if response.status_code < 500 else later
        return kind(error["asked"], error["found"], error["do"])
    return XhashError(f"endpoint {url}", f"HTTP {response.status_code}: {body}", "Check the endpoint's logs")
