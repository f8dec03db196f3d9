"""S3 through its two clients, pyarrow's and s3fs', told alike where the store is and how long to wait for it.

A store that accepts and never answers is given up after a minute by pyarrow and after CALL_S by s3fs, a refused
connection after seconds. What each client tries again by itself bridges moments; patience over minutes is
`retrying.patiently`'s.
"""

from __future__ import annotations

import asyncio
import functools
import os
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import pyarrow.fs
import s3fs
from fsspec.asyn import sync_wrapper

from xhash_ray.errors import BadInput, Unreachable

CONNECT_S, ANSWER_S = 5, 20
CONNECTIONS = 32  # of a process, whose threads share one client
CALL_S = 100.0  # for one call with all its tries, beside the time that its body takes
SLOWEST_WRITE = 2**20  # bytes per second
WRITER = "xhash-writer"  # an object's metadata: who created it


def endpoint() -> str | None:
    """The URL of an S3-compatible server, None for Amazon's own.

    Raises:
        BadInput: when AWS_ENDPOINT_URL is no URL of a server.
    """
    url = os.environ.get("AWS_ENDPOINT_URL", "").rstrip("/")
    if not url:
        return None
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname or "", parts.port
        good = parts.scheme in {"http", "https"} and bool(host) and ".." not in host
    except ValueError:
        good = False
    if not good:
        raise BadInput("AWS_ENDPOINT_URL", f"'{url}', no URL of a server", "Write it as http://host:port")
    return url


def arrow_filesystem() -> pyarrow.fs.S3FileSystem:
    """pyarrow's S3 with the endpoint and region of the environment, one for all threads of a process.

    Making one waits until every call of every other is answered (Arrow keeps a lock for its end): before a slow store,
    100 look-ups by 48 threads took 16 s with one each and 1.5 s with one for all.
    """
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    return made_for(endpoint(), region, os.getpid())


@functools.lru_cache(maxsize=8)
def made_for(url: str | None, region: str | None, _process: int) -> pyarrow.fs.S3FileSystem:
    """pyarrow's S3 of an endpoint and a region.

    It tries three times (AwsStandardS3RetryStrategy's default; another one would be lost when the filesystem is sent
    to another process). Region and endpoint are passed explicitly because looking them up from instance metadata
    costs seconds where there is none. Source: pyarrow.fs.S3FileSystem.
    """
    options: dict[str, Any] = {"region": region, "connect_timeout": CONNECT_S, "request_timeout": ANSWER_S}
    if url:
        scheme, _, host = url.partition("://")
        options |= {"endpoint_override": host, "scheme": scheme, "region": region or "us-east-1"}
    return pyarrow.fs.S3FileSystem(**{name: value for name, value in options.items() if value})


def client_options() -> dict[str, Any]:
    """What s3fs is told.

    No listing cache: pyarrow writes behind its back. No concurrent reads of one object: pieces fetched side by side may
    be of two versions, and cost one request more to begin with.
    """
    config = {
        "connect_timeout": CONNECT_S,
        "read_timeout": ANSWER_S,
        "retries": {"total_max_attempts": 3},
        "max_pool_connections": CONNECTIONS,
    }
    options = {"use_listings_cache": False, "max_concurrency": 1, "config_kwargs": config}
    return options | ({"endpoint_url": endpoint()} if endpoint() else {})


def unretrieved(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Passes over what aiohttp's writing task met when a connection ended: the request that it wrote for says so.

    asyncio would print "Task exception was never retrieved" and a traceback, into people's progress lines.
    """
    if not isinstance(context.get("exception"), aiohttp.ClientConnectionError):
        loop.default_exception_handler(context)


class PatientS3(s3fs.S3FileSystem):
    """s3fs, but no call lasts for ever: an upload waits for leave to send ("100 Continue") without any timeout."""

    retries = 2  # each of them botocore's three; s3fs has five, which makes a silent store last five minutes

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.loop.set_exception_handler(unretrieved)

    async def _call_s3(self, method: str, *given: Any, **named: Any) -> Any:
        """One call of the S3 API.

        Raises:
            Unreachable: when it takes too long.
        """
        patience_s = CALL_S + len(named.get("Body") or b"") / SLOWEST_WRITE
        try:
            async with asyncio.timeout(patience_s) as limit:
                return await super()._call_s3(method, *given, **named)
        except TimeoutError:
            if not limit.expired():
                raise
        place = "/".join(str(named[name]) for name in ("Bucket", "Key") if name in named)
        found = f"no answer in {patience_s:.0f} s"
        raise Unreachable(f"{method} of s3://{place}", found, "Check AWS_ENDPOINT_URL and the network")

    call_s3 = sync_wrapper(_call_s3)
