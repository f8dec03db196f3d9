"""The endpoint's HTTP face: routes, who may use them, and errors as JSON.

Ray Serve runs a copy of the application, which therefore cannot carry what answers: `door.gateway` of the process does.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import orjson
from fastapi import APIRouter, FastAPI, Request, Response

from xhash_ray.errors import BadInput
from xhash_ray.serving import changes
from xhash_ray.serving.bodies import INVALID, UNSUPPORTED, body_of, described, described_search, search_request
from xhash_ray.serving.door import READING, Guard, door
from xhash_ray.serving.observing import reading
from xhash_ray.serving.pages import pages
from xhash_ray.serving.refusing import NOT_FOUND, TAKEN, TOO_LARGE, WRONG, refusal, refusals, say_errors
from xhash_ray.serving.requests import BatchAnswer, BatchRequest, EncodeAnswer, Item, SearchAnswer
from xhash_ray.serving.router import ITEM_TIMEOUT_S, Served

SEARCHING = refusals(WRONG, TOO_LARGE, UNSUPPORTED, INVALID)
CHANGED = refusals(WRONG, TAKEN, TOO_LARGE, INVALID)
routes = APIRouter()


@routes.post(
    "/v1/search",
    response_model=SearchAnswer,
    dependencies=READING,
    responses=SEARCHING,
    openapi_extra=described_search(),
)
async def search(request: Request) -> Response:
    """The k stored pairs nearest to a query."""
    with reading():
        asked = await search_request(request)
    return plain(await door.gateway.search(asked))


@routes.post(
    "/v1/search/batch",
    response_model=BatchAnswer,
    dependencies=READING,
    responses=SEARCHING,
    openapi_extra=described(BatchRequest),
)
async def search_batch(request: Request) -> Response:
    """Several queries at once."""
    with reading():
        body = await body_of(request, BatchRequest)
    return plain({"answers": await door.gateway.search_batch(body.queries)})


@routes.post(
    "/v1/encode",
    response_model=EncodeAnswer,
    dependencies=READING,
    responses=SEARCHING,
    openapi_extra=described_search(),
)
async def encode(request: Request) -> Response:
    """The code of a query."""
    body, served = await search_request(request), door.gateway.router.ready()
    query = await door.gateway.query_of(body, served, time.monotonic() + body.timeout_s)
    fingerprint = served.generation.facts["model_fingerprint"]
    return plain({"code": query.code.hex(), "bits": served.generation.bits, "model_fingerprint": fingerprint})


@routes.get("/v1/items/{identity:path}", response_model=Item, dependencies=READING, responses=refusals(NOT_FOUND))
async def item(identity: str) -> Response:
    """A stored pair."""
    try:
        router = door.gateway.router
        return plain(await router.item(router.ready(), identity, time.monotonic() + ITEM_TIMEOUT_S))
    except BadInput as error:
        return refusal(error, NOT_FOUND)


@routes.get("/v1/index", dependencies=READING, responses=refusals())
async def index() -> dict[str, Any]:
    """What is served, and what can be asked of it."""
    return door.gateway.facts()


@routes.post("/v1/admin/activate", dependencies=READING, responses=CHANGED)
async def activate(body: changes.ActivateRequest) -> changes.ChangeAnswer:
    """Serves another generation, as soon as all shards have it."""
    async with door.gateway.changing:
        return now_served(await door.gateway.serve(body.generation))


@routes.post("/v1/admin/rollback", dependencies=READING, responses=CHANGED)
async def rollback(body: changes.RollbackRequest) -> changes.ChangeAnswer:
    """Makes an older generation's content the index's current one, and serves it."""
    return now_served(await changes.rollback(door.gateway, body))


@routes.post("/v1/admin/add", dependencies=READING, responses=CHANGED)
async def add(body: changes.AddRequest) -> changes.ChangeAnswer:
    """Stores pairs, and serves them."""
    return now_served(await changes.add(door.gateway, body))


@routes.post("/v1/admin/delete", dependencies=READING, responses=CHANGED)
async def delete(body: changes.DeleteRequest) -> changes.ChangeAnswer:
    """Deletes pairs."""
    return now_served(await changes.delete(door.gateway, body))


def now_served(served: Served) -> changes.ChangeAnswer:
    """What a change says in the end."""
    return changes.ChangeAnswer(generation=served.generation.number, rows=served.generation.rows)


@routes.get("/healthz")
async def healthz() -> dict[str, str]:
    """Answers as soon as the gateway runs."""
    return {"status": "ok"}


@routes.get("/readyz", responses=refusals())
async def readyz() -> dict[str, int]:
    """Answers when a generation can be searched."""
    return {"generation": door.gateway.router.ready().generation.number}


def http_api() -> FastAPI:
    """The HTTP application."""
    description = "Exact Hamming search across modalities"
    app = FastAPI(title="xhash-ray", description=description, docs_url=None, redoc_url=None)  # see described.py
    app.include_router(routes)
    app.include_router(pages)
    say_errors(app)
    app.add_middleware(Guard, at_once={"/v1/search": search, "/v1/search/batch": search_batch})
    return app


def plain(answer: Mapping[str, Any]) -> Response:
    """JSON, as fast as it goes: what we made ourselves is not validated again."""
    return Response(orjson.dumps(answer, default=str), media_type="application/json")
