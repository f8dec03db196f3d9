"""Bodies of requests: JSON, or a form with an image file; and what the API's description says of them."""

from __future__ import annotations

import base64
from typing import Any, TypeVar

from fastapi import Request
from pydantic import BaseModel, ValidationError
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException

from xhash_ray.errors import XhashError
from xhash_ray.serving.requests import SearchRequest

INVALID, UNSUPPORTED = 422, 415
MOST_FIELDS = 32
JSON, FORM = "application/json", "multipart/form-data"
Model = TypeVar("Model", bound=BaseModel)


class Refused(Exception):
    """A request that is answered with a status of its own."""

    def __init__(self, status: int, error: XhashError) -> None:
        super().__init__(str(error))
        self.status, self.error = status, error


async def search_request(request: Request) -> SearchRequest:
    """The query of a request, in JSON or a form.

    Raises:
        Refused: for a body that is no query, naming the field.
    """
    if kind_of(request) != FORM:
        return await body_of(request, SearchRequest)
    try:
        return SearchRequest.model_validate(await form_fields(request))
    except ValidationError as error:
        raise invalid(error.errors(include_url=False, include_context=False)) from None


async def body_of(request: Request, model: type[Model]) -> Model:
    """A body in JSON, read once by pydantic itself: what FastAPI does with it takes twice as long.

    Raises:
        Refused: for another kind of body, or one that does not hold what it should, naming the field.
    """
    kind = kind_of(request)
    if kind != JSON and not kind.endswith("+json"):
        found = f"content type '{kind[:100]}'" if kind else "no content type"
        raise Refused(UNSUPPORTED, XhashError("a request body", found, f"Send {JSON}, or {FORM} to search by a file"))
    try:
        return model.model_validate_json(await request.body())
    except ValidationError as error:
        raise invalid(error.errors(include_url=False, include_context=False)) from None


def kind_of(request: Request) -> str:
    """The content type, without its parameters."""
    return request.headers.get("content-type", "").split(";")[0].strip().lower()


async def form_fields(request: Request) -> dict[str, Any]:
    """The fields of a form; files come as base64, as they would in JSON.

    Raises:
        Refused: for a form that is none.
    """
    try:
        async with request.form(max_files=1, max_fields=MOST_FIELDS) as form:
            fields: dict[str, Any] = {}
            for name, value in form.multi_items():
                content = await value.read() if isinstance(value, UploadFile) else value
                fields[name] = base64.b64encode(content).decode() if isinstance(content, bytes) else content
            return fields
    except HTTPException as error:
        raise Refused(INVALID, XhashError("a form", str(error.detail)[:200], "Send an image file and fields")) from None


def invalid(errors: Any) -> Refused:
    """What pydantic found wrong first."""
    first = errors[0]
    where = ".".join(str(part) for part in first["loc"] if part != "body")[:200] or "body"
    return Refused(INVALID, XhashError(f"field {where}", str(first["msg"])[:500], "See /docs"))


def described(model: type[BaseModel]) -> dict[str, Any]:
    """What the API's description says of a body in JSON."""
    return {"requestBody": {"required": True, "content": {JSON: {"schema": model.model_json_schema()}}}}


def described_search() -> dict[str, Any]:
    """What the API's description says of a search's body, which may be a form."""
    made = described(SearchRequest)
    content = made["requestBody"]["content"]
    schema = content[JSON]["schema"]
    fields = {name: facts for name, facts in schema["properties"].items() if name not in {"image", "vector"}}
    image = {"type": "string", "format": "binary", "description": "an encoded file"}
    content[FORM] = {"schema": {**schema, "properties": {**fields, "image": image}}}
    return made
