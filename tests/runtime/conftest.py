"""A real Ray head and a real S3 server for the tests of this room, each a process of its own, ended by pid.

The head runs with RAY_AUTH_MODE=disabled because a token file of the person who runs the tests must not decide
what is tested.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.ports import free_port

RAY_BIN = Path(sys.executable).parent / "ray"
LOGICAL_CPUS = 12  # more than there are: actors and reads share two cores
START_TIMEOUT_S = 300


class Head(NamedTuple):
    """Addresses of the running head."""

    address: str
    dashboard: str


def wait_for(url: str, alive: Callable[[], bool]) -> None:
    """Waits until a URL answers anything."""
    deadline_s = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline_s and alive():
        try:
            urllib.request.urlopen(url, timeout=2).close()
            return
        except urllib.error.HTTPError:
            return
        except OSError:
            time.sleep(0.3)
    raise RuntimeError(f"{url} did not answer")


def end(process: subprocess.Popen[bytes]) -> None:
    """Ends a process group started here."""
    os.killpg(process.pid, signal.SIGTERM)
    try:
        process.wait(5)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(120)


@pytest.fixture(scope="session")
def s3_endpoint() -> Iterator[str]:
    """An S3 server on loopback with one bucket, `xhash`; the environment points to it."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    quiet = subprocess.DEVNULL
    process = subprocess.Popen(command, stdout=quiet, stderr=quiet, start_new_session=True)
    variables = {
        "AWS_ENDPOINT_URL": url,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        wait_for(url, lambda: process.poll() is None)
        urllib.request.urlopen(urllib.request.Request(f"{url}/xhash", method="PUT"), timeout=120).close()
        yield url
    finally:
        end(process)
        for name, value in before.items():
            os.environ.pop(name, None) if value is None else os.environ.__setitem__(name, value)


@pytest.fixture(scope="session")
def demo_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where jobs/recipes/demo.toml looks for its data (XHASH_DEMO)."""
    return tmp_path_factory.mktemp("demo")


@pytest.fixture(scope="session")
def head(s3_endpoint: str, demo_root: Path) -> Iterator[Head]:
    """A Ray head with a dashboard; RAY_ADDRESS names it while the session lasts."""
    port, dashboard = free_port(), free_port()
    command = [
        str(RAY_BIN), "start", "--head", "--block", f"--port={port}", f"--num-cpus={LOGICAL_CPUS}",
        "--include-dashboard=true", f"--dashboard-port={dashboard}", "--dashboard-host=127.0.0.1",
        f"--dashboard-agent-listen-port={free_port()}", "--min-worker-port=0", "--max-worker-port=0",
        f"--ray-client-server-port={free_port()}", "--node-ip-address=127.0.0.1", "--disable-usage-stats",
    ]  # fmt: skip
    path = f"{RAY_BIN.parent}:{os.environ['PATH']}"  # jobs run `python`, which must be this environment's
    environment = {**os.environ, "PATH": path, "RAY_AUTH_MODE": "disabled", "XHASH_DEMO": str(demo_root)}
    quiet = subprocess.DEVNULL
    process = subprocess.Popen(command, env=environment, stdout=quiet, stderr=quiet, start_new_session=True)
    set_before = {name: os.environ.get(name) for name in ("RAY_ADDRESS", "RAY_AUTH_MODE")}
    os.environ.update({"RAY_ADDRESS": f"127.0.0.1:{port}", "RAY_AUTH_MODE": "disabled"})
    try:
        wait_for(f"http://127.0.0.1:{dashboard}/api/version", lambda: process.poll() is None)
        yield Head(f"127.0.0.1:{port}", f"http://127.0.0.1:{dashboard}")
    finally:
        end(process)
        for name, value in set_before.items():
            os.environ.pop(name, None) if value is None else os.environ.__setitem__(name, value)


@pytest.fixture(scope="session")
def ray_cluster(head: Head) -> Iterator[None]:
    """A connection to the head that lasts as long as the session: workers stay warm between tests."""
    import ray

    from xhash_ray.runtime.cluster import connect

    connect()
    yield
    ray.shutdown()


@pytest.fixture
def own_serve(ray_cluster: None) -> Iterator[int]:
    """Serve on a port that nobody else wants."""
    from ray import serve

    port = free_port()
    serve.shutdown()
    serve.start(http_options={"port": port})
    yield port
    serve.shutdown()


class Artefacts(NamedTuple):
    """A small run of every stage, for tests to look at."""

    root: Path
    corpus: str
    weights: str
    features: str
    model: str
    codes: str
    index: str


PAIRS = 260


@pytest.fixture(scope="session")
def run(ray_cluster: None, demo_root: Path) -> Artefacts:
    """Corpus, CLIP weights, features (two actors), model (two workers), codes and an index of four shards."""
    from xhash_ray import options
    from xhash_ray.runtime.corpus import make_demo_corpus
    from xhash_ray.runtime.encoding import encode
    from xhash_ray.runtime.extraction import extract
    from xhash_ray.runtime.indexing import build_index
    from xhash_ray.runtime.pretraining import pretrain_clip
    from xhash_ray.runtime.training import train

    r = demo_root
    made = Artefacts(
        r, *(str(r / name) for name in ("corpus", "clip.safetensors", "features", "model", "codes", "index"))
    )
    make_demo_corpus(options.CorpusDemo(out=made.corpus, pairs=PAIRS, seed=7))
    pretrain_clip(options.Pretrain(corpus=made.corpus, out=made.weights, settings={"epochs": 4, "batch_size": 64}))
    extract(
        options.Extract(
            corpus=made.corpus,
            out=made.features,
            model="xhash-tiny",
            pretrained=made.weights,
            actors=2,
            rows_per_unit=100,
            dtype="float32",
        )
    )
    train(
        options.Train(
            features=made.features,
            out=made.model,
            method="jdsh",
            bits=32,
            workers=2,
            settings={"epochs": 3, "hidden": 64},
        )
    )
    encode(options.Encode(features=made.features, model=made.model, out=made.codes, rows_per_unit=90))
    build_index(options.IndexBuild(codes=made.codes, model=made.model, out=made.index, shards=4))
    return made
