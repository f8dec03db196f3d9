"""Every alert is made to fire by the fault that it names, in a real Prometheus, and to resolve after the remedy.

The rules are ours with shorter times (prometheus_site.faster_rules). Their own times are tested by promtool, in
tests/dashboards. Faults are real: replicas are killed again and again, processes stopped, folders taken away, disks
filled. What is arranged rather than broken: two gateways of different generations are those of two applications of one
index, and a full disk is a small one.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import ray
from ray import serve
from ray.util.state import list_actors

from tests.ports import free_port
from tests.runtime.prometheus_site import EXPORTER, Site, exporter, faster_rules, running, site
from xhash_ray import cli, options
from xhash_ray.client import AsyncClient, Client, Retry
from xhash_ray.errors import XhashError
from xhash_ray.storage import tables

pytestmark = pytest.mark.faults
ADMIN = "admin-key-of-tests"
FIRES_S, RESOLVES_S = 120, 180
ONCE = Retry(attempts=1)


@pytest.fixture(scope="module")
def alarmed(run, tmp_path_factory) -> Iterator[Site]:
    """Prometheus with rules that do not wait for minutes."""

    def found(name: str) -> str:
        return shutil.which(name) or pytest.skip(f"missing program: {name}")

    with site(tmp_path_factory.mktemp("alarmed"), found, faster_rules) as made:
        yield made


def fires(alarmed: Site, alert: str, **labels: str) -> None:
    """Waits until an alert fires."""
    matchers = "".join(f', {name}="{value}"' for name, value in labels.items())
    query = f'ALERTS{{alertname="{alert}", alertstate="firing"{matchers}}}'
    assert alarmed.until(query, bool, FIRES_S), f"{alert} did not fire"


def resolves(alarmed: Site, alert: str, **labels: str) -> None:
    """Waits until it does not."""
    matchers = "".join(f', {name}="{value}"' for name, value in labels.items())
    query = f'ALERTS{{alertname="{alert}"{matchers}}}'
    assert alarmed.until(query, lambda found: not found, RESOLVES_S) == [], f"{alert} did not resolve"


@contextlib.contextmanager
def again_and_again(act: Callable[[], object], pause_s: float = 0.2) -> Iterator[None]:
    """Does something in a thread until the block ends; what it cannot do is tried again."""
    over = threading.Event()

    def work() -> None:
        while not over.wait(pause_s):
            with contextlib.suppress(XhashError, ValueError, ProcessLookupError):
                act()

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(60)


@pytest.fixture(scope="module")
def index(run, tmp_path_factory) -> str:
    """A copy of the index, to change."""
    return shutil.copytree(run.index, tmp_path_factory.mktemp("changed") / "index").as_posix()


@pytest.fixture(scope="module")
def captions(run) -> list[str]:
    """Texts of the corpus."""
    return [row["text"] for row in tables.read_table(tables.open_tables(run.corpus, "corpus")).to_pylist()]


@pytest.fixture(scope="module")
def serving(alarmed, index, tmp_path_factory) -> Iterator[options.Serve]:
    """An endpoint with two groups of shards, and its options to start it again."""
    from xhash_ray.runtime.endpoint import start

    keys = tmp_path_factory.mktemp("keys") / "keys"
    keys.write_text(f"admin {ADMIN}\n")
    asked = options.Serve(index=index, port=free_port(), processes=2, keys=str(keys))
    serve.shutdown()  # one that runs would keep its ports
    start(asked)
    yield asked
    serve.shutdown()


@pytest.fixture
def client(serving) -> Iterator[Client]:
    """Of the endpoint; it never asks twice."""
    with Client(f"http://127.0.0.1:{serving.port}", key=ADMIN, retry=ONCE) as made:
        yield made


def test_an_exporter_that_is_gone(alarmed, index):
    with exporter(alarmed.ports[EXPORTER], index):
        resolves(alarmed, "XhashTargetDown", job="xhash-exporter")
    fires(alarmed, "XhashTargetDown", job="xhash-exporter")
    with exporter(alarmed.ports[EXPORTER], index):
        resolves(alarmed, "XhashTargetDown", job="xhash-exporter")


def test_an_index_that_is_gone_and_one_that_nobody_changes(alarmed, run, tmp_path):
    index = str(shutil.copytree(run.index, tmp_path / "index"))
    with exporter(alarmed.ports[EXPORTER], index):
        fires(alarmed, "XhashIndexStale", index=index)
        Path(index).rename(tmp_path / "elsewhere")
        fires(alarmed, "XhashIndexUnreachable", index=index)
        (tmp_path / "elsewhere").rename(index)
        resolves(alarmed, "XhashIndexUnreachable", index=index)
        assert cli.main(["index", "delete", "--index", index, "--ids", "nobody", "--ignore-missing"]) == 0
        first = tables.read_table(tables.open_tables(run.corpus, "corpus"))["id"][0].as_py()
        assert cli.main(["index", "delete", "--index", index, "--ids", first]) == 0
        resolves(alarmed, "XhashIndexStale", index=index)


def kill_group() -> None:
    """Kills the replicas of a group, as crashes do."""
    for each in ray.util.list_named_actors(all_namespaces=True):
        if "SERVE_REPLICA" in each["name"] and "xhash#shards-1" in each["name"]:
            ray.kill(ray.get_actor(each["name"], namespace=each["namespace"]), no_restart=True)


def test_a_shard_without_replica_and_answers_without_it(alarmed, client):
    code = "00" * 4
    with again_and_again(lambda: client.search(code=code, target="image", k=3, timeout_s=0.5)):
        assert alarmed.until("xhash:searches_incomplete:ratio5m == 0", bool, FIRES_S), "all is well at first"
        with again_and_again(kill_group):
            fires(alarmed, "XhashShardWithoutReplica", shard="2")
            fires(alarmed, "XhashAnswersIncomplete")
        resolves(alarmed, "XhashShardWithoutReplica")
        resolves(alarmed, "XhashAnswersIncomplete")
    assert client.search(code=code, target="image", k=3).complete


def test_an_endpoint_that_is_overloaded(alarmed, serving, client):
    async def flood() -> None:
        async with AsyncClient(f"http://127.0.0.1:{serving.port}", key=ADMIN, retry=ONCE) as many:
            asked = (many.search(text=f"a star {number}", k=50, timeout_s=0.05) for number in range(400))
            await asyncio.gather(*asked, return_exceptions=True)

    with again_and_again(lambda: asyncio.run(flood()), 0.01):
        fires(alarmed, "XhashSearchesFailing")
    with again_and_again(lambda: client.search(text="a red star", k=3)):
        resolves(alarmed, "XhashSearchesFailing")


def pids_of(deployment: str) -> list[int]:
    """Processes of a deployment's replicas."""
    found = list_actors(
        filters=[("state", "=", "ALIVE"), ("class_name", "=", f"ServeReplica:xhash:{deployment}")], detail=True
    )
    return [actor.pid for actor in found]


def test_an_encoder_that_stands_still_now_and_then(alarmed, client):
    (pid,) = pids_of("EncoderDeployment")

    def stall() -> None:
        os.kill(pid, signal.SIGSTOP)
        time.sleep(1.0)
        os.kill(pid, signal.SIGCONT)

    texts = iter(f"a red star {number}" for number in range(1_000_000))
    with again_and_again(lambda: client.search(text=next(texts), k=3), 0.05):
        with again_and_again(stall):
            fires(alarmed, "XhashSearchesSlow")
        resolves(alarmed, "XhashSearchesSlow")


def test_queries_that_look_like_nothing_in_the_index(alarmed, client, captions):
    for _ in range(300):
        client.search(text="qqq", k=1)
    wanted = {"modality": "text"}
    fires(alarmed, "XhashQueryDrift", **wanted)
    fires(alarmed, "XhashCodesUnhealthy", source="queries", **wanted)
    for _ in range(20):
        client.search_batch([{"text": text, "k": 1} for text in captions])
    resolves(alarmed, "XhashQueryDrift", **wanted)
    resolves(alarmed, "XhashCodesUnhealthy", source="queries", **wanted)


def test_a_gateway_that_is_behind(alarmed, serving, client, captions, run):
    from xhash_ray.runtime.serving import ServeArgs, build_app

    serve.run(build_app(ServeArgs(index=serving.index, keys=serving.keys)), name="behind", route_prefix="/behind")
    try:
        with Client(f"http://127.0.0.1:{serving.port}/behind", key=ADMIN, retry=ONCE) as behind:
            client.delete([tables.read_table(tables.open_tables(run.corpus, "corpus"))["id"][7].as_py()])
            fires(alarmed, "XhashGenerationSkew")
            behind.activate()
            resolves(alarmed, "XhashGenerationSkew")
    finally:
        serve.delete("behind")


def test_an_endpoint_that_is_gone(alarmed, serving):
    from xhash_ray.runtime.endpoint import start

    assert alarmed.until("count(xhash_activated_generation)", bool, FIRES_S), "it is there at first"
    serve.delete("xhash")
    fires(alarmed, "XhashEndpointDown")
    serve.shutdown()
    start(serving)
    resolves(alarmed, "XhashEndpointDown")


@pytest.fixture(scope="module")
def large_corpus(run, tmp_path_factory) -> str:
    """The corpus twenty times over; every tenth image is none."""
    rows = tables.read_table(tables.open_tables(run.corpus, "corpus")).to_pylist()
    made = [
        {"id": f"p{number}-{row['id']}", "text": row["text"], "image": b"<html>" if place % 10 == 0 else row["image"]}
        for number in range(20)
        for place, row in enumerate(rows)
    ]
    path = tmp_path_factory.mktemp("large") / "pairs.parquet"
    pq.write_table(pa.Table.from_pylist(made), path)
    return str(path)


@contextlib.contextmanager
def command(*words: str) -> Iterator[subprocess.Popen[bytes]]:
    """One of our commands in a process of its own, which reports every second."""
    with running(sys.executable, "-m", "xhash_ray.cli", *words, RAY_metrics_report_interval_ms="1000") as process:
        yield process


def test_an_extraction_that_is_killed_and_what_it_rejected(alarmed, run, large_corpus, tmp_path):
    words = ["extract", "--corpus", large_corpus, "--out", str(tmp_path / "features"), "--model", "xhash-tiny",
             "--pretrained", run.weights, "--rows-per-unit", "40", "--max-rejects", "0.5"]  # fmt: skip
    under_way = 'xhash_run_done_pairs{verb="extract"} > 0 and xhash_run_active{verb="extract"} == 1'
    with command(*words) as process:
        assert alarmed.until(under_way, bool, FIRES_S)
        assert process.poll() is None, "it ended before it could be killed"
        os.killpg(process.pid, signal.SIGKILL)
    fires(alarmed, "XhashRejectRateHigh", verb="extract")
    fires(alarmed, "XhashRunStalled", verb="extract")
    with command(*words) as process:
        resolves(alarmed, "XhashRunStalled", verb="extract")
        assert process.wait(300) == 0
    resolves(alarmed, "XhashRejectRateHigh", verb="extract")
    resolves(alarmed, "XhashRunStalled", verb="extract")


def test_a_training_that_is_killed(alarmed, run, tmp_path):
    words = ["train", "--features", run.features, "--out", str(tmp_path / "model"), "--method", "jdsh", "--bits", "32",
             "--workers", "1", "--checkpoint-s", "2", "--set", "settings.epochs=400"]  # fmt: skip
    under_way = 'xhash_training_epochs{method="jdsh"} > 0 and xhash_training_active{method="jdsh"} == 1'
    with command(*words) as process:
        assert alarmed.until(under_way, bool, FIRES_S)
        assert process.poll() is None, "it ended before it could be killed"
        os.killpg(process.pid, signal.SIGKILL)
    fires(alarmed, "XhashTrainingStalled", method="jdsh")
    with command(*words):
        resolves(alarmed, "XhashTrainingStalled", method="jdsh")


@pytest.fixture
def small_disk(tmp_path) -> Iterator[Path]:
    """A disk of 8 MB."""
    if os.geteuid() != 0:
        pytest.skip("needs root, to mount a small disk")
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", folder], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"needs to mount a small disk: {mounted.stderr.decode().strip()}")
    yield folder
    subprocess.run(["umount", folder], check=True)


def test_a_disk_of_fetched_segments_that_fills(alarmed, small_disk):
    @ray.remote(num_cpus=0, runtime_env={"env_vars": {"XHASH_CACHE": str(small_disk)}})
    class Process:
        """Reports as the processes of an endpoint do."""

        def __init__(self) -> None:
            from xhash_ray.runtime.telemetry import report_to_ray
            from xhash_ray.serving import reporting

            report_to_ray()
            reporting.keep_saying_aside(lambda: reporting.report_process("shards", "small"), 1.0)

        def ready(self) -> bool:
            return True

    process = Process.remote()
    assert ray.get(process.ready.remote())
    (small_disk / "segment").write_bytes(bytes(7_900_000))
    fires(alarmed, "XhashDiskNearlyFull", disk="cache")
    (small_disk / "segment").unlink()
    resolves(alarmed, "XhashDiskNearlyFull", disk="cache")
    ray.kill(process)
