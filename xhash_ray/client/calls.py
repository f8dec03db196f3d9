"""Every call that the endpoint understands: the methods of both clients, before anybody waits.

Each raises BadInput for values that no request can hold; a client's method also raises what `refusals.result` does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal
from urllib.parse import quote

from xhash_ray.client import answers
from xhash_ray.client.answers import Answer, Encoded, Item
from xhash_ray.client.wire import Call, as_json, given
from xhash_ray.errors import BadInput

Modality = Literal["image", "text"]
Rescoring = Literal["outputs", "features"]
QUERY_DEFAULTS = {"k": 10, "metadata": True, "ties": False, "require_complete": False, "timeout_s": 10.0}


def search(
    *,
    text: str | None = None,
    image: bytes | str | None = None,
    vector: Sequence[float] | None = None,
    code: bytes | str | None = None,
    id: str | None = None,
    source: Modality | None = None,
    target: Modality | None = None,
    k: int = 10,
    filter: str | None = None,
    rescore: Rescoring | None = None,
    candidates: int | None = None,
    metadata: bool = True,
    ties: bool = False,
    require_complete: bool = False,
    timeout_s: float = 10.0,
) -> Call[Answer]:
    """The k nearest pairs to exactly one of text, image, vector, code and id.

    Args:
        text: Finds images.
        image: An encoded file, or its base64; finds texts.
        vector: A feature as the model was trained on.
        code: Packed bytes, or their hexadecimal.
        id: Of a stored pair: more like this.
        source: Modality of vector, code or id; image unless said.
        target: Modality searched; the other than the query's unless said.
        k: Hits wanted.
        filter: Such as 'category = "shoes" and year >= 2010'.
        rescore: Orders the nearest candidates by what is finer than distance: the query's "outputs" of the hash
            function, or stored "features".
        candidates: Codes that are rescored; the endpoint's choice unless said.
        metadata: Whether hits come with theirs.
        ties: Whether codes at the k-th distance are counted.
        require_complete: Overloaded is raised instead of an answer that lacks shards.
        timeout_s: For the endpoint's own work on one attempt.
    """
    kinds = {"text": text, "image": image, "vector": vector, "code": code, "id": id}
    where = {"source": source, "target": target, "k": k, "filter": filter, "rescore": rescore, "candidates": candidates}
    how = {"metadata": metadata, "ties": ties, "require_complete": require_complete, "timeout_s": timeout_s}
    return Call("POST", "/v1/search", answers.answer, as_json(given({**kinds, **where, **how}, QUERY_DEFAULTS)))


def search_batch(queries: Sequence[Mapping[str, Any]]) -> Call[list[Answer]]:
    """The answers to several queries, in their order; each has the arguments of `search`."""
    body = {"queries": [given(query, QUERY_DEFAULTS) for query in queries]}
    return Call("POST", "/v1/search/batch", answers.batch, as_json(body))


def encode(
    *,
    text: str | None = None,
    image: bytes | str | None = None,
    vector: Sequence[float] | None = None,
    code: bytes | str | None = None,
    id: str | None = None,
    source: Modality | None = None,
    timeout_s: float = 10.0,
) -> Call[Encoded]:
    """The code of a query; arguments as of `search`."""
    kinds = {"text": text, "image": image, "vector": vector, "code": code, "id": id}
    body = given({**kinds, "source": source, "timeout_s": timeout_s}, QUERY_DEFAULTS)
    return Call("POST", "/v1/encode", answers.encoded, as_json(body))


def item(id: str) -> Call[Item]:
    """A stored pair: codes and metadata."""
    name = quote(id, safe="", errors="surrogatepass")
    if name in (".", ".."):  # which would be taken for steps of the path
        name = name.replace(".", "%2E")
    return Call("GET", f"/v1/items/{name}", answers.item)


def index() -> Call[dict[str, Any]]:
    """What the endpoint serves."""
    return Call("GET", "/v1/index", answers.facts)


def alive() -> Call[bool]:
    """Whether an endpoint answers; asked once."""
    return Call("GET", "/healthz", answers.alive, repeat="never")


def activate(generation: int | None = None) -> Call[dict[str, Any]]:
    """Has a generation served, the current one by default; wants an admin's key."""
    return change("activate", given({"generation": generation}))


def rollback(to: int | None = None) -> Call[dict[str, Any]]:
    """Makes an earlier generation current again, the one before by default; wants an admin's key."""
    return change("rollback", given({"to": to}))


def delete(ids: Sequence[str], ignore_missing: bool = False) -> Call[dict[str, Any]]:
    """Deletes pairs; wants an admin's key.

    Args:
        ids: Of the pairs.
        ignore_missing: Whether ids that are not stored are passed over; otherwise they are BadInput.
    """
    if isinstance(ids, str):  # a sequence too: of ids of one letter
        raise BadInput("ids to delete", f"one text, '{ids[:200]}'", "Give a list of ids")
    return change("delete", {"ids": list(ids), **({"ignore_missing": True} if ignore_missing else {})})


def add(pairs: Sequence[Mapping[str, Any]], replace: bool = False) -> Call[dict[str, Any]]:
    """Adds pairs; wants an admin's key.

    Args:
        pairs: Each has `id`; one of `image` (a file's bytes), `image_vector` and `image_code`; one of `text`,
            `text_vector` and `text_code`; and may have `metadata`, by column.
        replace: Whether pairs whose ids are stored take their place; otherwise they are BadInput.
    """
    return change("add", {"pairs": [given(pair) for pair in pairs], **({"replace": True} if replace else {})})


def change(verb: str, body: Mapping[str, Any]) -> Call[dict[str, Any]]:
    """What only an admin may ask for."""
    return Call("POST", f"/v1/admin/{verb}", answers.facts, as_json(body), repeat="unsent")
