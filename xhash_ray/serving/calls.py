"""The endpoint's gRPC face: the same gateway behind wire/search.proto. Errors are statuses with the words of HTTP's."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
from pydantic import ValidationError

from xhash_ray.errors import BadInput, Conflict, Overloaded, Unreachable, XhashError
from xhash_ray.serving.bodies import invalid
from xhash_ray.serving.gateway import Gateway
from xhash_ray.serving.messages import SERVICE, message, to_answer, to_index, to_item, to_request
from xhash_ray.serving.observing import reading
from xhash_ray.serving.requests import MAX_BATCH
from xhash_ray.serving.router import ITEM_TIMEOUT_S

STATUSES = (
    (BadInput, grpc.StatusCode.INVALID_ARGUMENT),
    (Conflict, grpc.StatusCode.ABORTED),
    (Overloaded, grpc.StatusCode.UNAVAILABLE),
    (Unreachable, grpc.StatusCode.UNAVAILABLE),
)
ASKED = {
    "Search": ("SearchRequest", "SearchAnswer"),
    "SearchBatch": ("BatchRequest", "BatchAnswer"),
    "Encode": ("SearchRequest", "EncodeAnswer"),
    "GetItem": ("ItemRequest", "Item"),
    "GetIndex": ("IndexRequest", "IndexAnswer"),
}


class NotFound(BadInput):
    """A pair that is not there."""


class Calls:
    """Answers calls by a gateway.

    Args:
        gateway: Gives it; raises Overloaded before there is one.
    """

    def __init__(self, gateway: Callable[[], Gateway]) -> None:
        self.gateway = gateway

    async def answer(self, method: str, request: Any, context: Any) -> Any:
        """A call's answer; where there is none, the context says why."""
        try:
            gateway = self.gateway()
            if gateway.keys.role(authorization(context)) is None:
                return refused(context, method, grpc.StatusCode.UNAUTHENTICATED, "no key, or an unknown one")
            work: Callable[[Gateway, Any, float | None], Awaitable[Any]] = getattr(self, method)
            return await work(gateway, request, time_left(context))
        except ValidationError as error:
            said = str(invalid(error.errors(include_url=False, include_context=False)).error)
            return refused(context, method, grpc.StatusCode.INVALID_ARGUMENT, said)
        except NotFound as error:
            return refused(context, method, grpc.StatusCode.NOT_FOUND, str(error))
        except XhashError as error:
            status = next((status for kind, status in STATUSES if isinstance(error, kind)), grpc.StatusCode.INTERNAL)
            return refused(context, method, status, str(error))

    async def Search(self, gateway: Gateway, request: Any, left_s: float | None) -> Any:  # noqa: N802
        """SearchRequest to SearchAnswer."""
        with reading():
            asked = to_request(request, left_s)
        return to_answer(await gateway.search(asked))

    async def SearchBatch(self, gateway: Gateway, request: Any, left_s: float | None) -> Any:  # noqa: N802
        """BatchRequest to BatchAnswer."""
        with reading():
            if not 1 <= len(request.queries) <= MAX_BATCH:
                raise BadInput("a batch", f"{len(request.queries):,} queries", f"Send 1 to {MAX_BATCH:,}")
            asked = [to_request(query, left_s) for query in request.queries]
        found = await gateway.search_batch(asked)
        return message("BatchAnswer")(answers=[to_answer(each) for each in found])

    async def Encode(self, gateway: Gateway, request: Any, left_s: float | None) -> Any:  # noqa: N802
        """SearchRequest to EncodeAnswer."""
        asked, served = to_request(request, left_s), gateway.router.ready()
        query = await gateway.query_of(asked, served, time.monotonic() + asked.timeout_s)
        facts = {"bits": served.generation.bits, "model_fingerprint": served.generation.facts["model_fingerprint"]}
        return message("EncodeAnswer")(code=query.code, **facts)

    async def GetItem(self, gateway: Gateway, request: Any, left_s: float | None) -> Any:  # noqa: N802
        """ItemRequest to Item."""
        deadline_s = time.monotonic() + (ITEM_TIMEOUT_S if left_s is None else left_s)
        try:
            return to_item(await gateway.router.item(gateway.router.ready(), request.id, deadline_s))
        except BadInput as error:
            raise NotFound(error.asked, error.found, error.do) from None

    async def GetIndex(self, gateway: Gateway, request: Any, left_s: float | None) -> Any:  # noqa: N802
        """IndexRequest to IndexAnswer."""
        return to_index(gateway.facts())


def authorization(context: Any) -> str | None:
    """A call's key, as HTTP's header has it."""
    return dict(context.invocation_metadata() or ()).get("authorization")


def time_left(context: Any) -> float | None:
    """Seconds until a call's deadline; None for one without."""
    left_s = context.time_remaining() if hasattr(context, "time_remaining") else None
    return left_s if left_s is not None and left_s < 1e9 else None


def refused(context: Any, method: str, status: grpc.StatusCode, said: str) -> Any:
    """An empty answer whose status says why it is empty."""
    context.set_code(status)
    context.set_details(said)
    return message(ASKED[method][1])()


def add_servicer(servicer: Any, server: Any) -> None:
    """Registers an object with one method per call (request, context) at a server: grpc's own, or Serve's proxy."""
    handlers = {
        name: grpc.unary_unary_rpc_method_handler(
            getattr(servicer, name),
            request_deserializer=message(asked).FromString,
            response_serializer=message(answered).SerializeToString,
        )
        for name, (asked, answered) in ASKED.items()
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))


def answering(name: str) -> Callable[[Any, Any, Any], Awaitable[Any]]:
    """A method that answers one call by `self.calls`."""

    async def method(self: Any, request: Any, grpc_context: Any) -> Any:  # Serve looks for a parameter of that name
        return await self.calls.answer(name, request, grpc_context)

    return method


class Servicer:
    """One method per call of wire/search.proto, for `add_servicer` and for Serve's proxy, which calls them by name.

    Attributes:
        calls: Answers them.
    """

    calls: Calls
    Search = answering("Search")
    SearchBatch = answering("SearchBatch")
    Encode = answering("Encode")
    GetItem = answering("GetItem")
    GetIndex = answering("GetIndex")
