"""An S3 server and a proxy before it that does to requests what tests ask for."""

from __future__ import annotations

import subprocess
import sys
import urllib.request
from collections.abc import Iterator

import pytest

from tests.faulty_store import FaultyStore
from tests.ports import free_port
from tests.runtime.conftest import end, wait_for

CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "test",
    "AWS_DEFAULT_REGION": "us-east-1",
}


@pytest.fixture(scope="session")
def moto_url() -> Iterator[str]:
    """An S3 server on loopback with one bucket, `xhash`."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    quiet = subprocess.DEVNULL
    process = subprocess.Popen(command, stdout=quiet, stderr=quiet, start_new_session=True)
    try:
        wait_for(url, lambda: process.poll() is None)
        urllib.request.urlopen(urllib.request.Request(f"{url}/xhash", method="PUT"), timeout=120).close()
        yield url
    finally:
        end(process)


@pytest.fixture(scope="session")
def proxy(moto_url: str) -> Iterator[FaultyStore]:
    """The proxy, which nothing points to."""
    with FaultyStore(moto_url, seed=1) as running:
        yield running


@pytest.fixture(scope="module")
def pointed(proxy: FaultyStore) -> Iterator[FaultyStore]:
    """The proxy, with the environment pointing to it for the tests of a module."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {**CREDENTIALS, "AWS_ENDPOINT_URL": proxy.url}.items():
            patch.setenv(name, value)
        yield proxy


@pytest.fixture
def store(pointed: FaultyStore) -> Iterator[FaultyStore]:
    """The proxy without faults, before and after a test."""
    pointed.set()
    yield pointed
    pointed.set()
