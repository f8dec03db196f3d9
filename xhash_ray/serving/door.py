"""The endpoint's door: where requests go, who may pass, and how much may be brought in."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

from fastapi import Depends, Request, Response
from fastapi.security import HTTPBearer
from starlette.types import ASGIApp, Receive, Scope, Send

from xhash_ray.errors import BadInput, Overloaded, XhashError
from xhash_ray.serving.bodies import Refused
from xhash_ray.serving.gateway import Gateway
from xhash_ray.serving.refusing import NO_KEY, TOO_LARGE, WRONG_KEY, refusal_of
from xhash_ray.serving.requests import MAX_BODY_BYTES

Handler = Callable[[Request], Awaitable[Response]]
KEYED, CHANGING = "/v1/", "/v1/admin/"
READING = [Depends(HTTPBearer(auto_error=False))]  # for the API's description; `Guard` looks at keys


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


class Guard:
    """Refuses requests without the key they need, and bodies that are too large, before anything is read.

    Plain ASGI: what `app.middleware("http")` makes costs half a millisecond a request, and FastAPI's way to a route as
    much again.

    Args:
        app: Answers the rest.
        at_once: What answers a POST to some paths, without that way.
    """

    def __init__(self, app: ASGIApp, at_once: Mapping[str, Handler] | None = None) -> None:
        self.app, self.at_once = app, at_once or {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers in the application's place, or lets it answer."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        path = scope["path"].removeprefix(scope.get("root_path", ""))
        headers = dict(scope["headers"])
        try:
            check_key(path, headers.get(b"authorization", b""))
            if scope["method"] in {"POST", "PUT", "PATCH"}:
                check_length(headers.get(b"content-length", b"").decode("latin-1"))
            handler = self.at_once.get(path) if scope["method"] == "POST" else None
            if handler is None:
                await self.app(scope, receive, send)
                return
            response = await handler(Request(scope, receive))
        except (XhashError, Refused) as error:
            response = refusal_of(error)
        await response(scope, receive, send)


def check_key(path: str, header: bytes) -> None:
    """Raises Refused for a path that asks for a key other than this one."""
    if not path.startswith(KEYED):
        return
    role = door.gateway.keys.role(header.decode("latin-1"))
    do = "Send `Authorization: Bearer KEY`"
    if role is None:
        raise Refused(NO_KEY, XhashError("this endpoint", "no key, or an unknown one", do))
    if path.startswith(CHANGING) and role != "admin":
        raise Refused(WRONG_KEY, XhashError("this endpoint", "an admin's key is needed", do))


def check_length(length: str) -> None:
    """Raises Refused for a body that is too large, or does not say how large it is."""
    # "²" is a digit to Python and no number, and numbers of thousands of digits are refused by int()
    if not (length.isdecimal() and len(length) < 20 and int(length) <= MAX_BODY_BYTES):
        found = f"{length[:20]} bytes" if length else "no content-length"
        do = f"Say its length, at most {MAX_BODY_BYTES:,} bytes"
        raise Refused(TOO_LARGE, BadInput("a request body", found, do))
