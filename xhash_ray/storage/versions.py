"""What tells one content of a file from another without reading it: for a plan that must not outlive its files."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Any

from xhash_ray.errors import BadInput
from xhash_ray.storage import uri as places

READERS = 16
ONE_BY_ONE = 8  # so many files of a folder are asked for singly; for more the folder is listed once
# What stores say of an object's content, the surest first (s3fs, gcsfs, adlfs, http, zip, memory, ...).
MARKS = (
    "ETag",
    "etag",
    "content_md5",
    "md5Hash",
    "Content-MD5",
    "crc32c",
    "CRC",
    "checksum",
    "generation",
    "mtime_ns",
    "mtime",
    "Last-Modified",
    "LastModified",
    "last_modified",
    "updated",
    "modified",
    "created",
)


def versions_of(uris: Sequence[str]) -> dict[str, str]:
    """Size and time of change of local files; size and ETag, checksum or time of others.

    Raises:
        BadInput: naming a file that is not there.
    """
    infos = infos_of(uris)
    for uri in uris:
        if uri not in infos:
            raise BadInput(f"reading {uri}", "no such file", "Check the name")
    return {uri: version_of(info) for uri, info in infos.items()}


def version_of(info: dict[str, Any]) -> str:
    """A file's version from what its file system says of it."""
    mark = next((info[name] for name in MARKS if info.get(name)), "")
    if isinstance(mark, datetime):  # some stores give a time here and a number there
        mark = mark.timestamp()
    text = str(mark).strip('"')
    return f"{info.get('size')}-{text}"


def infos_of(uris: Sequence[str]) -> dict[str, dict[str, Any]]:
    """What file systems say of files and folders; one that is not there is left out. A folder is listed once.

    Raises:
        XhashError: when a store does not answer, or refuses.
    """
    groups: dict[str, list[str]] = {}
    for uri in dict.fromkeys(uris):
        groups.setdefault(uri.rpartition("/")[0] if is_listed(uri) else uri, []).append(uri)
    tasks = [group for found in groups.values() for group in split(found)]
    with ThreadPoolExecutor(READERS) as readers:
        return {uri: info for found in readers.map(infos_in, tasks) for uri, info in found.items()}


def is_listed(uri: str) -> bool:
    """Whether files of this place are found by listing their folder: not on local disks, the web, in archives."""
    return not places.is_local(uri) and places.scheme_of(uri) not in {"http", "https"} and "::" not in uri


def split(uris: list[str]) -> list[list[str]]:
    """Files of one folder: together, or each alone where they are few."""
    return [uris] if len(uris) > ONE_BY_ONE else [[uri] for uri in uris]


def infos_in(uris: list[str]) -> dict[str, dict[str, Any]]:
    """What is said of one file, or of several of one folder."""
    with places.said_clearly(uris[0]):
        if places.is_local(uris[0]):
            return {uri: info for uri in uris if (info := local_info(uri))}
        filesystem, path = places.fsspec_place(uris[0])
        try:
            if len(uris) == 1:
                return {uris[0]: filesystem.info(path)}
            folder = path.rpartition("/")[0]
            found = {filesystem._strip_protocol(info["name"]): info for info in filesystem.ls(folder, detail=True)}
        except FileNotFoundError:
            return {}
    named = {uri: places.fsspec_place(uri)[1] for uri in uris}
    return {uri: found[path] for uri, path in named.items() if path in found}


def local_info(uri: str) -> dict[str, Any] | None:
    """What the system says of a local file or folder, in fsspec's words; None where there is none."""
    try:
        found = os.stat(places.normalise(uri))
    except (FileNotFoundError, NotADirectoryError):
        return None
    kind = "directory" if stat.S_ISDIR(found.st_mode) else "file"
    return {"type": kind, "size": found.st_size, "mtime_ns": found.st_mtime_ns}
