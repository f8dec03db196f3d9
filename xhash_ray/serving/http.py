"""The endpoint's HTTP face: routes, who may use them, and errors as JSON.

Ray Serve runs a copy of the application, which therefore cannot carry what answers: `door.gateway` of the process does.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import Annotated, Any

from fastapi import APIRouter, Depends, FastAPI, Header, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from xhash_ray.errors import BadInput, Overloaded, XhashError
from xhash_ray.serving.gateway import Gateway
from xhash_ray.serving.requests import (
    ActivateRequest,
    BatchAnswer,
    BatchRequest,
    EncodeAnswer,
    Item,
    SearchAnswer,
    SearchRequest,
)

MAX_BODY_BYTES = 32 * 2**20
RETRY_AFTER_S = "1"
ITEM_TIMEOUT_S = 10.0
INVALID, TOO_LARGE, NOT_FOUND, NO_KEY, WRONG_KEY, LATER = 422, 413, 404, 401, 403, 503


class Door:
    """Where requests of this process go."""

    def __init__(self) -> None:
        self.opened: Gateway | None = None

    @property
    def gateway(self) -> Gateway:
        """What answers.

        Raises:
            Overloaded: before there is one.
        """
        if self.opened is None:
            raise Overloaded("this endpoint", "it is still loading", "Ask again when /readyz says so")
        return self.opened


door = Door()
routes = APIRouter()


class Refused(Exception):
    """A request without the key it needs."""

    def __init__(self, status: int, found: str) -> None:
        super().__init__(found)
        self.status, self.error = status, XhashError("this endpoint", found, "Send `Authorization: Bearer KEY`")


async def may_read(authorization: Annotated[str | None, Header()] = None) -> None:
    """Raises Refused without any key."""
    if door.gateway.keys.role(authorization) is None:
        raise Refused(NO_KEY, "no key, or an unknown one")


async def may_change(authorization: Annotated[str | None, Header()] = None) -> None:
    """Raises Refused without an admin's key."""
    role = door.gateway.keys.role(authorization)
    if role != "admin":
        raise Refused(WRONG_KEY if role else NO_KEY, "an admin's key is needed")


READING, CHANGING = [Depends(may_read)], [Depends(may_change)]


@routes.post("/v1/search", response_model=SearchAnswer, dependencies=READING)
async def search(body: SearchRequest) -> Response:
    """The k stored pairs nearest to a query."""
    return plain(await door.gateway.search(body))


@routes.post("/v1/search/batch", response_model=BatchAnswer, dependencies=READING)
async def search_batch(body: BatchRequest) -> Response:
    """Several queries at once."""
    return plain({"answers": await door.gateway.search_batch(body.queries)})


@routes.post("/v1/encode", response_model=EncodeAnswer, dependencies=READING)
async def encode(body: SearchRequest) -> Response:
    """The code of a query."""
    served = door.gateway.router.ready()
    code = await door.gateway.code_of(body, served, time.monotonic() + body.timeout_s)
    fingerprint = served.generation.facts["model_fingerprint"]
    return plain({"code": code.hex(), "bits": served.generation.bits, "model_fingerprint": fingerprint})


@routes.get("/v1/items/{identity:path}", response_model=Item, dependencies=READING)
async def item(identity: str) -> Response:
    """A stored pair."""
    try:
        router = door.gateway.router
        return plain(await router.item(router.ready(), identity, time.monotonic() + ITEM_TIMEOUT_S))
    except BadInput as error:
        return refusal(error, NOT_FOUND)


@routes.get("/v1/index", dependencies=READING)
async def index() -> dict[str, Any]:
    """What is served."""
    return door.gateway.facts()


@routes.post("/v1/admin/activate", dependencies=CHANGING)
async def activate(body: ActivateRequest) -> dict[str, Any]:
    """Serves another generation, as soon as all shards have it."""
    served = await door.gateway.activate(body.generation)
    return {"generation": served.generation.number, "rows": served.generation.rows}


@routes.get("/healthz")
async def healthz() -> dict[str, str]:
    """Answers as soon as the gateway runs."""
    return {"status": "ok"}


@routes.get("/readyz")
async def readyz() -> dict[str, int]:
    """Answers when a generation can be searched."""
    return {"generation": door.gateway.router.ready().generation.number}


def http_api() -> FastAPI:
    """The HTTP application."""
    app = FastAPI(title="xhash-ray", description="Exact Hamming search across modalities")
    app.include_router(routes)
    app.add_exception_handler(XhashError, say_error)
    app.add_exception_handler(Refused, say_refused)
    app.add_exception_handler(RequestValidationError, say_invalid)
    app.add_middleware(Bounded)
    return app


class Bounded:
    """Refuses bodies that are too large, or do not say how large they are, before they are read.

    Plain ASGI: what `app.middleware("http")` makes costs half a millisecond a request.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers in the application's place, or lets it answer."""
        if scope["type"] == "http" and scope["method"] == "POST":
            length = dict(scope["headers"]).get(b"content-length", b"").decode("latin-1")
            if not (length.isdigit() and int(length) <= MAX_BODY_BYTES):
                found = f"{length[:20]} bytes" if length else "no content-length"
                error = BadInput("a request body", found, f"Say its length, at most {MAX_BODY_BYTES:,} bytes")
                await refusal(error, TOO_LARGE)(scope, receive, send)
                return
        await self.app(scope, receive, send)


async def say_error(request: Request, error: Exception) -> JSONResponse:
    """400 for what the caller can mend, 503 for what time will, 500 otherwise."""
    assert isinstance(error, XhashError)
    return refusal(error, 400 if isinstance(error, BadInput) else LATER if isinstance(error, Overloaded) else 500)


async def say_refused(request: Request, error: Exception) -> JSONResponse:
    """401 or 403."""
    assert isinstance(error, Refused)
    return refusal(error.error, error.status)


async def say_invalid(request: Request, error: Exception) -> JSONResponse:
    """422, naming the field."""
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"][1:]) or "body"
    return refusal(BadInput(f"field {where}", str(first["msg"])[:500], "See /docs"), INVALID)


def refusal(error: XhashError, status: int) -> JSONResponse:
    """An error of this project as JSON."""
    content = {"error": {"asked": error.asked, "found": error.found, "do": error.do}}
    return JSONResponse(content, status_code=status, headers={"Retry-After": RETRY_AFTER_S} if status == LATER else {})


def plain(answer: Mapping[str, Any]) -> Response:
    """JSON, as fast as it goes: what we made ourselves is not validated again."""
    return Response(json.dumps(answer, default=str), media_type="application/json")
