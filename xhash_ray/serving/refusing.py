"""Errors of this project as HTTP says them: a status, and as JSON what was asked, what was found, what to do."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from xhash_ray.errors import BadInput, Conflict, Overloaded, Unreachable, XhashError
from xhash_ray.serving.bodies import Refused, invalid
from xhash_ray.serving.requests import ErrorAnswer

WRONG, NO_KEY, WRONG_KEY, NOT_FOUND, TAKEN, TOO_LARGE, LATER = 400, 401, 403, 404, 409, 413, 503
HEADERS = {LATER: {"Retry-After": "1"}, NO_KEY: {"WWW-Authenticate": "Bearer"}}
STATUSES = ((BadInput, WRONG), (Conflict, TAKEN), (Overloaded, LATER), (Unreachable, LATER))


def refusals(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """What a route may answer besides 200, for the API's description."""
    return {status: {"model": ErrorAnswer} for status in (*statuses, NO_KEY, WRONG_KEY, LATER)}


def refusal(error: XhashError, status: int, headers: Mapping[str, str] | None = None) -> Response:
    """An error as JSON."""
    content = {"error": {"asked": error.asked, "found": error.found, "do": error.do}}
    return JSONResponse(content, status_code=status, headers={**(headers or {}), **HEADERS.get(status, {})})


def refusal_of(error: XhashError | Refused) -> Response:
    """What the caller can mend, what another writer did, what time will mend, and what is ours."""
    if isinstance(error, Refused):
        return refusal(error.error, error.status)
    return refusal(error, next((status for kind, status in STATUSES if isinstance(error, kind)), 500))


def say_errors(app: FastAPI) -> None:
    """Has an application answer all errors so, the framework's among them."""

    async def ours(request: Request, error: Exception) -> Response:
        assert isinstance(error, (XhashError, Refused))
        return refusal_of(error)

    async def of_fields(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        return refusal_of(invalid(error.errors()))

    async def of_paths(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        found = XhashError(f"{request.method} {request.url.path[:200]}", str(error.detail)[:200], "See /docs")
        return refusal(found, error.status_code, error.headers)

    for kind in (XhashError, Refused):
        app.add_exception_handler(kind, ours)
    app.add_exception_handler(RequestValidationError, of_fields)
    app.add_exception_handler(HTTPException, of_paths)
