"""Endpoints that are none, stores that never answer, uploads whose answer is lost: what is said, and how soon."""

from __future__ import annotations

import asyncio
import gc
import http.server
import socket
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor

import aiohttp
import fsspec.asyn
import pytest
import s3fs

from tests.ports import free_port
from tests.storage import primitives
from tests.storage.conftest import CREDENTIALS
from tests.storage.primitives import ALL, CONTENT, WRITES
from tests.store_faults import Fault
from xhash_ray.errors import BadInput, Unreachable
from xhash_ray.storage import s3
from xhash_ray.storage import uri as places
from xhash_ray.storage.failures import UnusableStore
from xhash_ray.storage.retrying import patiently

REFUSED_S = 60.0  # measured 0.8 to 2.2 s; s3fs by itself would try for minutes
LOST_KEY = "s3://xhash/create/{}"


@pytest.fixture
def pointing(monkeypatch):
    """Points the environment to an endpoint."""
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    return lambda url: monkeypatch.setenv("AWS_ENDPOINT_URL", url)


def errors_of_all(folder: str) -> dict[str, tuple[Exception, float]]:
    """What every deed raises, and after how many seconds, side by side."""

    def work(deed: str) -> tuple[Exception, float]:
        began_s = time.monotonic()
        try:
            return AssertionError(f"{deed} gave {ALL[deed][0](folder)!r}"), 0.0
        except Exception as error:
            return error, time.monotonic() - began_s

    with ThreadPoolExecutor(len(ALL)) as threads:
        return dict(zip(ALL, threads.map(work, ALL), strict=True))


def test_where_nobody_listens_it_is_said_soon(pointing):
    pointing(f"http://127.0.0.1:{free_port()}")
    for deed, (error, spent_s) in errors_of_all("s3://xhash/f").items():
        assert isinstance(error, Unreachable), (deed, error)
        assert "Check AWS_ENDPOINT_URL and the network" in str(error)
        assert spent_s < REFUSED_S, deed


def test_a_machine_that_nobody_knows_is_bad_input(pointing, monkeypatch):
    pointing("http://no-such-host.invalid:9000")

    def nobody(*_, **__):
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", nobody)
    for deed, (error, spent_s) in errors_of_all("s3://xhash/f").items():
        if "curlCode: 28" in str(error):  # curl asks the name server itself, and none is there
            continue
        assert isinstance(error, UnusableStore), (deed, error)
        assert "no machine of that name" in str(error)
        assert spent_s < REFUSED_S, deed


@pytest.mark.parametrize(
    "url", ["localhost:9000", "http://", "htp://127.0.0.1:9", "http://127.0.0.1:99999", "http://a..b", "http://a:b"]
)
def test_what_is_no_url_is_said_before_anything_is_asked(pointing, url, monkeypatch):
    pointing(url)
    asked: list[object] = []
    monkeypatch.setattr(s3, "made_for", asked.append)
    monkeypatch.setattr(s3fs.S3FileSystem, "_call_s3", asked.append)
    for deed, (error, _) in errors_of_all("s3://xhash/f").items():
        assert isinstance(error, BadInput), (deed, error)
        assert str(error) == f"AWS_ENDPOINT_URL: '{url.rstrip('/')}', no URL of a server. Write it as http://host:port"
        assert not asked, deed


class Quiet(http.server.SimpleHTTPRequestHandler):
    """A web server that is no store."""

    def log_message(self, *_: object) -> None:
        """Says nothing."""


@pytest.fixture
def website() -> Iterator[str]:
    """An HTTP server that knows no S3: HOST:PORT."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Quiet) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_a_server_that_is_no_store_is_bad_input(pointing, website):
    pointing(f"http://{website}")
    found = errors_of_all("s3://xhash/f")
    for deed in WRITES:
        assert isinstance(found[deed][0], UnusableStore), found[deed]
        assert "what answers is no S3 store" in str(found[deed][0])
    for deed in ("read_bytes", "fetch", "read_file", "list_files"):
        assert isinstance(found[deed][0], BadInput), found[deed]
        assert "AWS_ENDPOINT_URL" in str(found[deed][0])


def test_https_where_http_is_spoken_is_bad_input(pointing, website):
    pointing(f"https://{website}")
    for deed, (error, spent_s) in errors_of_all("s3://xhash/f").items():
        assert isinstance(error, UnusableStore), (deed, error)
        assert "no TLS connection" in str(error)
        assert spent_s < REFUSED_S, deed


def test_no_deed_hangs_before_a_store_that_never_answers(store, monkeypatch):
    monkeypatch.setattr(s3, "ANSWER_S", 1)
    monkeypatch.setattr(s3, "CALL_S", 4.0)
    s3.made_for.cache_clear()
    store.set(Fault("silent"))
    for deed, (error, spent_s) in errors_of_all("s3://xhash/f").items():
        assert isinstance(error, Unreachable), (deed, error)
        assert spent_s < REFUSED_S, deed
    s3.made_for.cache_clear()


@pytest.mark.parametrize("operation", ["UploadPart", "CompleteMultipartUpload"])
def test_an_upload_that_falls_silent_is_given_up(store, monkeypatch, operation):
    store.set(Fault("silent", on=operation))
    with monkeypatch.context() as patch:
        patch.setattr(s3, "CALL_S", 1.0)
        with pytest.raises(Unreachable, match="no answer in 1 s"):
            primitives.stream("s3://xhash/silent")
    store.set()
    assert not places.exists("s3://xhash/silent/new")


def test_connections_that_end_while_a_request_is_written_print_nothing(store, caplog):
    filesystem = places.fsspec_filesystem("s3://xhash/f")

    async def breaks() -> None:
        raise aiohttp.ClientConnectionResetError("Cannot write to closing transport")

    async def left_alone(work: Callable[[], Coroutine[None, None, None]]) -> None:
        task = asyncio.ensure_future(work())
        await asyncio.sleep(0.01)
        del task
        gc.collect()

    async def mistakes() -> None:
        raise KeyError("ours")

    fsspec.asyn.sync(filesystem.loop, left_alone, breaks)
    assert "never retrieved" not in caplog.text
    fsspec.asyn.sync(filesystem.loop, left_alone, mistakes)
    assert "never retrieved" in caplog.text


def test_created_once_though_the_answer_was_lost(store):
    store.set(Fault("stored", on="PutObject", times=1))
    assert places.create_bytes(LOST_KEY.format("once"), CONTENT)
    assert store.operations() == ["PutObject", "PutObject", "HeadObject"]
    assert store.injected == {"stored": 1}
    assert not places.create_bytes(LOST_KEY.format("once"), CONTENT), "another writer, though of the same content"
    assert places.read_bytes(LOST_KEY.format("once")) == CONTENT


def test_of_many_writers_of_one_content_one_is_told_true_whatever_answers_are_lost(store):
    store.set(Fault("stored", probability=0.4, on="PutObject"), Fault("lost", probability=0.2, on="PutObject"))

    def write(number: int) -> tuple[int, bool]:
        uri = LOST_KEY.format(f"many-{number % 8}")
        return number % 8, patiently(lambda: places.create_bytes(uri, b"{}", writer=f"writer-{number}"))

    with ThreadPoolExecutor(16) as threads:
        told = list(threads.map(write, range(32)))
    assert store.injected["stored"] > 0
    for key in range(8):
        assert [won for number, won in told if number == key].count(True) == 1


def test_whoever_was_left_in_the_dark_asks_again_by_its_name(store):
    uri = LOST_KEY.format("dark")
    store.set(Fault("stored", on="PutObject"))
    with pytest.raises(Unreachable):
        places.create_bytes(uri, b"{}", writer="me")
    store.set()
    assert not places.create_bytes(uri, b"{}", writer="you")
    assert places.create_bytes(uri, b"{}", writer="me")


def test_a_key_that_is_being_taken_is_of_the_moment(store):
    store.set(Fault("conflict", on="PutObject", times=1))
    with pytest.raises(Unreachable, match="another write of it is under way"):
        places.create_bytes(LOST_KEY.format("conflict"), b"{}")
    assert places.create_bytes(LOST_KEY.format("conflict"), b"{}")


def test_an_upload_that_was_completed_unheard_is_of_the_moment(store):
    on = "CompleteMultipartUpload"
    store.set(Fault("stored", on=on, times=1), Fault("no-upload", on=on, times=1))
    with pytest.raises(Unreachable, match="specified upload does not exist"):
        primitives.stream("s3://xhash/unheard")
    patiently(lambda: primitives.stream("s3://xhash/unheard"))
    assert places.read_bytes("s3://xhash/unheard/new") == primitives.WRITTEN
