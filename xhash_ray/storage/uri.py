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
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import fsspec
import fsspec.asyn
import fsspec.exceptions
import pyarrow.fs

from xhash_ray.errors import BadInput, Unreachable, XhashError

# A server that accepts and never answers is given up after five minutes; s3fs tries each five times as often. By
# default that takes 25.
S3_PATIENCE = {"connect_timeout": 10, "read_timeout": 20, "retries": {"total_max_attempts": 3}}
WRITE_PATIENCE_S = 300.0
SLOWEST_WRITE = 2**20  # bytes per second


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
    """pyarrow's filesystem for a URI, and the path within it.

    Source: pyarrow.fs.S3FileSystem; region and endpoint are passed explicitly because looking them up from
    instance metadata costs seconds where there is none.
    """
    scheme = scheme_of(uri)
    if scheme == "file":
        return pyarrow.fs.LocalFileSystem(), normalise(uri)
    if scheme == "s3":
        return s3_arrow_filesystem(), uri.removeprefix("s3://").rstrip("/")
    handler = pyarrow.fs.FSSpecHandler(fsspec_filesystem(uri))
    return pyarrow.fs.PyFileSystem(handler), uri.split("://", 1)[1].rstrip("/")


def s3_arrow_filesystem() -> pyarrow.fs.S3FileSystem:
    """pyarrow's S3 with the endpoint and region of the environment."""
    options: dict[str, Any] = {"region": os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")}
    endpoint = os.environ.get("AWS_ENDPOINT_URL")
    if endpoint:
        scheme, _, host = endpoint.partition("://")
        options |= {"endpoint_override": host.rstrip("/"), "scheme": scheme}
        options["region"] = options["region"] or "us-east-1"
    return pyarrow.fs.S3FileSystem(**{name: value for name, value in options.items() if value})


def fsspec_filesystem(uri: str) -> fsspec.AbstractFileSystem:
    """fsspec's filesystem for a URI, without a listing cache: pyarrow writes behind its back."""
    scheme = scheme_of(uri)
    try:
        if scheme == "s3":
            return fsspec.filesystem("s3", use_listings_cache=False, config_kwargs=S3_PATIENCE)
        return fsspec.filesystem(scheme)
    except (ValueError, ImportError) as error:
        raise BadInput(f"reading {uri}", str(error), "Use a path, s3://, or install that fsspec scheme") from None


@contextlib.contextmanager
def said_clearly(uri: str) -> Iterator[None]:
    """Turns what file systems raise about a place into one line that names it."""
    try:
        yield
    except XhashError:
        raise
    except (FileNotFoundError, NotADirectoryError):
        raise BadInput(f"reading {uri}", "no such file, folder or bucket", "Check the name") from None
    except PermissionError:
        raise BadInput(f"opening {uri}", "permission denied", "Check credentials and bucket policy") from None
    except Exception as error:
        if not isinstance(error, OSError) and not is_from_client(error):
            raise
        raise storage_error(uri, error) from None


def is_from_client(error: Exception) -> bool:
    """Whether an object store's client library raised it (they do not derive from OSError)."""
    return type(error).__module__.split(".")[0] in {"botocore", "aiobotocore", "aiohttp"}


def storage_error(uri: str, error: Exception) -> XhashError:
    """An OSError of a file system as the error of this project that fits it."""
    text = " ".join(str(error).split())[:300]
    if any(word in text for word in ("ACCESS_DENIED", "InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken")):
        return BadInput(f"opening {uri}", text, "Check credentials and bucket policy")
    if any(word in text for word in ("NETWORK_CONNECTION", "Could not connect", "timed out", "resolve host")):
        return Unreachable(f"opening {uri}", text, "Check AWS_ENDPOINT_URL and the network")
    return XhashError(f"opening {uri}", text, "Check the name, the endpoint and free space")


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


def delete(folder: str, names: Sequence[str]) -> None:
    """Deletes files and folders below a folder, the first name first; names that are not there are passed over."""
    filesystem, path = arrow_filesystem(folder)
    with said_clearly(folder):
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
            raise BadInput(f"reading {uri}", "no such file, folder or bucket", "Check the name")
        if info.type == pyarrow.fs.FileType.File:
            return [uri]
        found = filesystem.get_file_info(pyarrow.fs.FileSelector(path, recursive=True))
    prefix = "" if is_local(uri) else f"{scheme_of(uri)}://"
    kept = [entry.path for entry in found if entry.is_file and is_data(entry.path[len(path) :], suffixes)]
    return [prefix + name for name in sorted(kept)]


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
    with said_clearly(uri):
        return bytes(fsspec_filesystem(uri).cat_file(uri))


def write_bytes(uri: str, content: bytes) -> None:
    """Writes a file or object in one step: a reader sees the old one or the new one, never half."""
    with said_clearly(uri):
        if is_local(uri):
            write_local(Path(normalise(uri)), content)
        else:
            write_remote(uri, content)


def create_bytes(uri: str, content: bytes) -> bool:
    """Writes a file or object in one step, but only where there is none: of several writers, one is told True.

    Local: a hard link to a finished file. S3: a PUT on the condition that the key is new (If-None-Match).
    """
    with said_clearly(uri):
        if is_local(uri):
            return create_local(Path(normalise(uri)), content)
        try:
            write_remote(uri, content, mode="create")
        except FileExistsError:
            return False
        except Exception as error:
            if refused_as_taken(error):
                return False
            raise
        return True


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


def write_remote(uri: str, content: bytes, mode: str = "overwrite") -> None:
    """Writes an object, or gives up: the S3 client waits for leave to send ("100 Continue") without any timeout."""
    filesystem = fsspec_filesystem(uri)
    if not filesystem.async_impl:
        filesystem.pipe_file(uri, content, mode=mode)
        return
    patience_s = WRITE_PATIENCE_S + len(content) / SLOWEST_WRITE
    try:
        fsspec.asyn.sync(filesystem.loop, filesystem._pipe_file, uri, content, mode=mode, timeout=patience_s)
    except fsspec.exceptions.FSTimeoutError:
        found = f"no answer in {patience_s:.0f} s"
        raise Unreachable(f"writing {uri}", found, "Check AWS_ENDPOINT_URL and the network") from None


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
