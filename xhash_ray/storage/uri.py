"""One way to name a place, local or remote, and to read and write it.

Tables go through pyarrow's own filesystems (fast column reads, its own retries). Everything else, such as
JSON manifests, images by key, tars, goes through fsspec: s3fs for s3://, any other fsspec scheme likewise.
Credentials come from the usual AWS variables; AWS_ENDPOINT_URL names an S3-compatible server.
"""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
import time
import uuid
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import fsspec
import fsspec.core
import pyarrow.fs

from xhash_ray.errors import BadInput, Unreachable, XhashError
from xhash_ray.storage.failures import is_of_storage, nothing_at, storage_error


def scheme_of(uri: str) -> str:
    """The part before ://, or "file" for a plain path."""
    return uri.split("://", 1)[0].lower() if "://" in uri else "file"


def is_local(uri: str) -> bool:
    """Whether the place is on this machine's file system."""
    return scheme_of(uri) == "file"


def normalise(uri: str) -> str:
    """An absolute path for local places (jobs change directory), the URI without a trailing / otherwise.

    Raises:
        BadInput: for an empty name.
    """
    if not uri.strip():
        raise BadInput("a path or URI", "an empty name", "Name a folder, a file or s3://bucket/prefix")
    if is_local(uri):
        return str(Path(uri.removeprefix("file://")).expanduser().absolute())
    return uri.rstrip("/")


def join(uri: str, *parts: str) -> str:
    """Appends path components with /."""
    return "/".join([uri.rstrip("/"), *parts])


def name_of(uri: str) -> str:
    """The last path component."""
    return uri.rstrip("/").rsplit("/", 1)[-1]


def arrow_filesystem(uri: str) -> tuple[pyarrow.fs.FileSystem, str]:
    """pyarrow's filesystem for a URI, and the path within it."""
    scheme = scheme_of(uri)
    if scheme == "file":
        return pyarrow.fs.LocalFileSystem(), normalise(uri)
    if scheme == "s3":
        from xhash_ray.storage import s3  # half a second, for those alone who use it

        return s3.arrow_filesystem(), uri.removeprefix("s3://").rstrip("/")
    filesystem, path = fsspec_place(uri)
    return pyarrow.fs.PyFileSystem(pyarrow.fs.FSSpecHandler(filesystem)), path


def fsspec_filesystem(uri: str) -> fsspec.AbstractFileSystem:
    """fsspec's filesystem for a URI."""
    scheme = scheme_of(uri)
    if scheme == "s3":
        from xhash_ray.storage import s3

        return s3.PatientS3(**s3.client_options())
    try:
        return fsspec.filesystem(scheme)
    except (ValueError, ImportError) as error:
        raise BadInput(f"reading {uri}", str(error), "Use a path, s3://, or install that fsspec scheme") from None


@contextlib.contextmanager
def said_clearly(uri: str, doing: str = "opening") -> Iterator[None]:
    """Turns what file systems raise about a place into one line that names it (storage/failures.py)."""
    try:
        yield
    except XhashError:
        raise
    except Exception as error:
        if not is_of_storage(error):
            raise
        raise storage_error(uri, error, doing) from None


def exists(uri: str) -> bool:
    """Whether a file or a non-empty folder is there."""
    filesystem, path = arrow_filesystem(uri)
    with said_clearly(uri):
        kind = filesystem.get_file_info(path).type
    return bool(kind != pyarrow.fs.FileType.NotFound)


def is_file(uri: str) -> bool:
    """Whether the place is a file or object."""
    filesystem, path = arrow_filesystem(uri)
    with said_clearly(uri):
        return bool(filesystem.get_file_info(path).type == pyarrow.fs.FileType.File)


def size_of(uri: str) -> int | None:
    """Bytes of a file or object, None where there is none."""
    filesystem, path = arrow_filesystem(uri)
    with said_clearly(uri):
        found = filesystem.get_file_info(path)
    return int(found.size) if found.type == pyarrow.fs.FileType.File else None


def delete(folder: str, names: Sequence[str]) -> None:
    """Deletes files and folders below a folder, the first name first; names that are not there are passed over."""
    filesystem, path = arrow_filesystem(folder)
    with said_clearly(folder, "deleting in"):
        for entry in filesystem.get_file_info([f"{path}/{name}" for name in names]):
            if entry.type == pyarrow.fs.FileType.Directory:
                filesystem.delete_dir(entry.path)
            elif entry.type == pyarrow.fs.FileType.File:
                filesystem.delete_file(entry.path)


def list_files(uri: str, suffixes: tuple[str, ...]) -> list[str]:
    """The files under a place with one of the suffixes, sorted by name; a file stands for itself.

    Names that start with '_' or '.' are bookkeeping and are left out.

    Raises:
        BadInput: when the place does not exist.
    """
    filesystem, path = arrow_filesystem(uri)
    with said_clearly(uri):
        info = filesystem.get_file_info(path)
        if info.type == pyarrow.fs.FileType.NotFound:
            raise nothing_at(uri)
        if info.type == pyarrow.fs.FileType.File:
            return [uri]
        found = filesystem.get_file_info(pyarrow.fs.FileSelector(path, recursive=True))
    kept = [entry.path for entry in found if entry.is_file and is_data(entry.path[len(path) :], suffixes)]
    return [spelled(name, uri, path) for name in sorted(kept)]


def files_older_than(folder: str, age_s: float) -> list[str]:
    """Names below a folder, of whatever files were last changed so long ago."""
    filesystem, path = arrow_filesystem(folder)
    with said_clearly(folder):
        found = filesystem.get_file_info(pyarrow.fs.FileSelector(path, recursive=True, allow_not_found=True))
    old = [entry for entry in found if entry.is_file and entry.mtime_ns / 1e9 < time.time() - age_s]
    return sorted(entry.path[len(path) :].strip("/") for entry in old)


def is_data(relative_path: str, suffixes: tuple[str, ...]) -> bool:
    """Whether a path below a data folder is data rather than bookkeeping."""
    parts = relative_path.strip("/").split("/")
    return relative_path.lower().endswith(suffixes) and not any(part.startswith(("_", ".")) for part in parts)


def read_bytes(uri: str) -> bytes:
    """A whole file or object."""
    with said_clearly(uri, "reading"):
        filesystem, path = fsspec_place(uri)
        return bytes(filesystem.cat_file(path))


def write_bytes(uri: str, content: bytes) -> None:
    """Writes a file or object in one step: a reader sees the old one or the new one, never half."""
    with said_clearly(uri, "writing"):
        if is_local(uri):
            write_local(Path(normalise(uri)), content)
        else:
            fsspec_filesystem(uri).pipe_file(uri, content)


def create_bytes(uri: str, content: bytes, writer: str | None = None) -> bool:
    """Writes a file or object in one step, but only where there is none: of several writers, one is told True.

    Local: a hard link to a finished file. S3: a PUT on the condition that the key is new (If-None-Match). Where a
    connection ends before the answer comes, the client tries again and is refused by what it wrote itself; so S3
    objects carry their writer's name, which is looked up then. Contents would not do: two writers may write the same
    (two roll-backs of an index in one second), and still only one of them may be told True.

    Args:
        uri: The place.
        content: All of it.
        writer: A name that no other writer has. Whoever tries again after Unreachable gives the same, and so learns
            whether the first try was stored after all. By default every call has a name of its own.

    Raises:
        Unreachable: when it is open whether it was written.
    """
    with said_clearly(uri, "writing"):
        if is_local(uri):
            return create_local(Path(normalise(uri)), content)
        if scheme_of(uri) == "s3":
            return create_on_s3(uri, content, writer or uuid.uuid4().hex)
        try:
            fsspec_filesystem(uri).pipe_file(uri, content, mode="create")
        except FileExistsError:
            return False
        return True


def create_on_s3(uri: str, content: bytes, writer: str) -> bool:
    """Creates an object that carries its writer's name; refused, it looks whose is there."""
    from xhash_ray.storage import s3

    filesystem = fsspec_filesystem(uri)
    try:
        filesystem.pipe_file(uri, content, mode="create", Metadata={s3.WRITER: writer})
        return True
    except Exception as error:
        if not isinstance(error, FileExistsError) and not refused_as_taken(error):
            raise
    try:
        return bool(filesystem.metadata(uri).get(s3.WRITER) == writer)
    except FileNotFoundError:
        raise Unreachable(f"writing {uri}", "another write of it is under way", "Run it again") from None


def refused_as_taken(error: Exception) -> bool:
    """Whether an S3 store says that a key which was to be new is taken, or is being taken this moment."""
    answer = getattr(error.__cause__ or error, "response", None) or {}
    return answer.get("Error", {}).get("Code") in {"PreconditionFailed", "ConditionalRequestConflict", "412"}


def create_local(path: Path, content: bytes) -> bool:
    """Writes beside the target, then links it to the target's name, which fails where that is taken."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".writing-") as temporary:
        temporary.write(content)
        temporary.flush()
        os.fsync(temporary.fileno())
        os.chmod(temporary.name, 0o644)
        try:
            os.link(temporary.name, path)
        except FileExistsError:
            return False
    return True


def write_local(path: Path, content: bytes) -> None:
    """Writes beside the target, then renames over it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".writing-", delete=False) as temporary:
        try:
            temporary.write(content)
            temporary.flush()
            os.chmod(temporary.name, 0o644)
            os.replace(temporary.name, path)
        except OSError:
            os.unlink(temporary.name)
            raise


def read_json(uri: str) -> dict[str, Any]:
    """A JSON object.

    Raises:
        BadInput: when it is not there, or is not a JSON object.
    """
    try:
        value = json.loads(read_bytes(uri))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise BadInput(f"reading {uri}", f"not JSON: {error}", "Restore the file or write it anew") from None
    if not isinstance(value, dict):
        raise BadInput(f"reading {uri}", "JSON, but no object", "Restore the file or write it anew")
    return value


def json_bytes(value: dict[str, Any]) -> bytes:
    """A JSON object, readable, keys in the order given."""
    return (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode()


def write_json(uri: str, value: dict[str, Any]) -> None:
    """Writes a JSON object in one step."""
    write_bytes(uri, json_bytes(value))


def fsspec_place(uri: str) -> tuple[fsspec.AbstractFileSystem, str]:
    """fsspec's filesystem for a URI and the path within it; chains such as zip://a.csv::s3://bucket/x.zip as well.

    Raises:
        BadInput: for a scheme that is not installed, or an archive that is none or not there.
    """
    if "::" not in uri and scheme_of(uri) in {"s3", "file"}:
        filesystem = fsspec_filesystem(uri)
        return filesystem, str(filesystem._strip_protocol(uri))
    within = {}
    if "::s3://" in uri:
        from xhash_ray.storage import s3

        within = {"s3": s3.client_options()}
    try:
        with said_clearly(uri):
            filesystem, path = fsspec.core.url_to_fs(uri, **within)
    except (ValueError, ImportError, zipfile.BadZipFile) as error:
        raise BadInput(f"reading {uri}", str(error), "Use a path, s3://, or install that fsspec scheme") from None
    return filesystem, str(path)


def spelled(path: str, uri: str, uri_path: str) -> str:
    """The URI of a path in the filesystem of another URI, whose own path is known: s3://, hosts and chains stay."""
    if is_local(uri):
        return path
    head, chained, archive = uri.partition("::")
    if "://" not in head:  # a cache before the place itself, such as simplecache::s3://bucket
        head, chained, archive = uri, "", ""
    start = head[: len(head) - len(uri_path)] if head.endswith(uri_path) else f"{scheme_of(uri)}://"
    return f"{start}{path}{chained}{archive}"
