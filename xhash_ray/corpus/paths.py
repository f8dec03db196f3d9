"""Images stored as files of their own: names to places, places to bytes, several of them on their way at once."""

from __future__ import annotations

import errno
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from xhash_ray.errors import BadInput, Unreachable
from xhash_ray.storage import uri as places
from xhash_ray.storage.failures import UnusableStore

Item = TypeVar("Item")
Answer = TypeVar("Answer")

FETCHERS = 16
AHEAD = 2 * FETCHERS  # images that are in memory, or on their way, before they are asked for
NO_SUCH_NAME = {errno.ENAMETOOLONG, errno.ELOOP, errno.EINVAL}
TRY_AGAIN = {408, 425, 429}  # of HTTP's 4xx: the only ones that are of the moment


def resolve(table_uri: str, path: str) -> str:
    """The place of an image: as it stands when absolute or a URI, else beside the table that names it."""
    if "://" in path or path.startswith("/"):
        return path
    head, chained, archive = table_uri.partition("::")
    return head[: head.rfind("/") + 1] + path + chained + archive


def fetch(uri: str) -> bytes | str:
    """The bytes of an image, or the reason (a string) why there are none.

    Raises:
        Unreachable: when the store does not answer, which says nothing of this image, and can be tried again.
        XhashError: when the store refuses whoever asks, such as for credentials that have expired.
    """
    try:
        with places.said_clearly(uri):
            filesystem, path = places.fsspec_place(uri)
            return read(filesystem.cat_file, path, uri) or f"image {uri}: empty file"
    except UnusableStore as error:
        if places.scheme_of(uri) in {"http", "https"} or error.found.startswith("no such bucket"):
            return f"image {uri}: {error.found}"  # one row's host or bucket, not everybody's
        raise
    except BadInput as error:
        return f"image {uri}: {error.found}"
    except NoImage as error:
        return f"image {uri}: {error}"


class NoImage(Exception):
    """A name that leads to no image, however often it is tried."""


def read(cat_file: Callable[[str], bytes], path: str, uri: str) -> bytes:
    """A file's bytes; NoImage for what is wrong with its name, whatever else goes wrong as it comes."""
    try:
        return bytes(cat_file(path))
    except Exception as error:
        status = getattr(error, "status", None)
        if isinstance(status, int) and (status >= 500 or status in TRY_AGAIN):
            remedy = "Run it again later, or with fewer workers"
            raise Unreachable(f"reading {uri}", f"the server answers {status}", remedy) from None
        if reason := hopeless(error, status):
            raise NoImage(reason) from None
        raise


def hopeless(error: Exception, status: int | None) -> str:
    """Why a name can lead to no image, "" where that cannot be told from the error."""
    if isinstance(status, int) and status >= 400:
        return f"the server answers {status}"
    if isinstance(error, ValueError) or "Parameter validation failed" in str(error):  # a null byte, no key at all
        return " ".join(str(error).split())[:200] or "no name of a file"
    if isinstance(error, OSError) and error.errno in NO_SUCH_NAME:
        return error.strerror or "no name of a file"
    return ""


def ahead(do: Callable[[Item], Answer], items: Iterable[Item]) -> Iterator[tuple[Item, Answer]]:
    """Each item with its answer, in order; a few answers are worked out, by threads, before they are asked for."""
    waiting: deque[tuple[Item, Future[Answer]]] = deque()
    threads = ThreadPoolExecutor(FETCHERS, "fetch")
    try:
        for item in items:
            waiting.append((item, threads.submit(do, item)))
            if len(waiting) == AHEAD:
                first, answer = waiting.popleft()
                yield first, answer.result()
        while waiting:
            first, answer = waiting.popleft()
            yield first, answer.result()
    finally:
        threads.shutdown(cancel_futures=True)
