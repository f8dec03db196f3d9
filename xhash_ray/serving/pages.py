"""The page for people, and the pictures it shows.

Its files lie in page/ and come from here alone: the policy that is sent along forbids the browser to run, style or ask
anything else. Only pictures may come from elsewhere, where an index's metadata names them.
"""

from __future__ import annotations

import functools
import time
from importlib import resources

from fastapi import APIRouter, Request, Response

from xhash_ray.errors import BadInput
from xhash_ray.serving.described import render
from xhash_ray.serving.door import READING, door
from xhash_ray.serving.refusing import NOT_FOUND, refusal, refusals
from xhash_ray.serving.router import ITEM_TIMEOUT_S

KINDS = {".html": "text/html", ".css": "text/css", ".js": "text/javascript"}
POLICY = {
    "default-src": "'none'",
    "script-src": "'self'",
    "style-src": "'self'",
    "img-src": "'self' blob: data: https: http:",
    "connect-src": "'self'",
    "base-uri": "'none'",
    "form-action": "'none'",
    "frame-ancestors": "'none'",
}
SAFE = {
    "Content-Security-Policy": "; ".join(f"{what} {whence}" for what, whence in POLICY.items()),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}
KEPT_BY_BROWSERS = {"Cache-Control": "private, max-age=3600", "X-Content-Type-Options": "nosniff"}

pages = APIRouter()


@functools.cache
def files() -> dict[str, bytes]:
    """The page's files by name."""
    folder = resources.files("xhash_ray.serving") / "page"
    return {entry.name: entry.read_bytes() for entry in folder.iterdir() if entry.name.endswith(tuple(KINDS))}


def file(name: str) -> Response:
    """One of the page's files; 404 for any other name."""
    if name not in files():
        return refusal(BadInput(f"the page's file '{name[:200]}'", "there is none", "Load the page again"), NOT_FOUND)
    kind = KINDS[name[name.rindex(".") :]]
    return Response(files()[name], media_type=kind, headers={**SAFE, "Cache-Control": "no-cache"})


@pages.get("/", include_in_schema=False)
async def page() -> Response:
    """The page."""
    return file("index.html")


@pages.get("/page/{name}", include_in_schema=False)
async def part_of_page(name: str) -> Response:
    """A script or style of the page."""
    return file(name)


@pages.get("/docs", include_in_schema=False)
async def docs(request: Request) -> Response:
    """The API's description."""
    return Response(render(request.app.openapi()), media_type="text/html", headers=SAFE)


@pages.get(
    "/v1/thumbnails/{identity:path}",
    dependencies=READING,
    response_class=Response,
    responses={200: {"content": {"image/jpeg": {}}}, **refusals(NOT_FOUND)},
)
async def thumbnail(identity: str) -> Response:
    """A small JPEG of a pair's image."""
    thumbnails, asked = door.gateway.thumbnails, f"a thumbnail of '{identity[:200]}'"
    if thumbnails is None:
        return refusal(BadInput(asked, "this endpoint has none", "Serve with the corpus of its pairs"), NOT_FOUND)
    try:
        router = door.gateway.router
        await router.item(router.ready(), identity, time.monotonic() + ITEM_TIMEOUT_S)
    except BadInput as error:  # deleted pairs are seen no more
        return refusal(error, NOT_FOUND)
    picture = await thumbnails.jpeg(identity)
    if picture is None:
        return refusal(BadInput(asked, "it has none that can be shown", "Check the id"), NOT_FOUND)
    return Response(picture, media_type="image/jpeg", headers=KEPT_BY_BROWSERS)
