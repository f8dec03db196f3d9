"""Images stored beside a table: names to places, places to bytes."""

from __future__ import annotations

from xhash_ray.errors import XhashError
from xhash_ray.storage import uri as places


def resolve(table_uri: str, path: str) -> str:
    """The place of an image: as it stands when absolute or a URI, else beside the table that names it."""
    if "://" in path or path.startswith("/"):
        return path
    return places.join(table_uri.rsplit("/", 1)[0], path)


def fetch(uri: str) -> bytes | str:
    """The bytes of an image, or the reason (a string) why there are none."""
    try:
        return places.read_bytes(uri)
    except XhashError as error:
        return f"image {uri}: {error.found}"
