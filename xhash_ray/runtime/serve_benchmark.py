"""`xhash bench serve`: our endpoint and a plain FastAPI and faiss server, in turn on the same codes and loads."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import torch

from xhash_ray import methods
from xhash_ray.benchmarks.code_sets import code_set
from xhash_ray.benchmarks.latency_plot import draw_latencies, histogram
from xhash_ray.benchmarks.load import Load, closed_loop, open_loop
from xhash_ray.core.hamming import search
from xhash_ray.errors import BadInput, BadOption, XhashError
from xhash_ray.index import generations
from xhash_ray.index.build import assemble, partition
from xhash_ray.index.segments import segment_name, write_segment
from xhash_ray.methods.artefacts import facts_of, weights_of
from xhash_ray.methods.base import Shape
from xhash_ray.options.bench import BenchServe
from xhash_ray.progress import Progress
from xhash_ray.runtime import cluster
from xhash_ray.runtime.endpoint import unused_port
from xhash_ray.storage import uri as places
from xhash_ray.storage.artefact import write_artefact
from xhash_ray.storage.codes import from_array

READY_S = 180.0
FAST = ("RAY_SERVE_THROUGHPUT_OPTIMIZED", "RAY_SERVE_ENABLE_HA_PROXY")


def bench_serve(options: BenchServe) -> dict[str, Any]:
    """Loads both servers.

    Returns:
        `codes`, `bits`, `k`, `shards`, `kernel_queries_per_s` (of the same batches, in this process); `rows`: per
        server `ready_s`; p50, p99 and answers/s of one caller, of many, and of an open loop where a rate was asked
        for; queries/s of batches.

    Raises:
        BadOption: when faiss is wanted and not installed.
        XhashError: when a server does not come up, or answers with errors.
    """
    if options.against == "faiss" and importlib.util.find_spec("faiss") is None:
        raise BadOption("--against faiss", "faiss is not installed", "pip install 'xhash-ray[bench]'")
    if min(options.codes, options.requests, options.callers, options.batch) < 1:
        raise BadInput("bench serve", "less than one code, request, caller or query", "Give at least one of each")
    progress, folder = Progress("bench serve"), Path(options.out).absolute()
    codes, queries = code_set("clustered", options.codes, 1024, options.bits, options.seed)
    served_index(folder, codes, options.shards)
    progress.say(f"{options.codes:,} codes in {folder}")
    singles = [json.dumps({"code": q.tobytes().hex(), "k": options.k, "metadata": False}).encode() for q in queries]
    batches = [
        json.dumps({"queries": [json.loads(each) for each in singles[start : start + options.batch]]}).encode()
        for start in range(0, max(1, len(singles) - options.batch + 1), options.batch)
    ]
    kernel = kernel_rate(codes, queries[: options.batch], options)
    servers = {"xhash": our_server(folder)}
    if options.against == "faiss":
        servers["FastAPI + faiss"] = plain_server(folder)
    loads = {name: measured(name, server, singles, batches, options, progress) for name, server in servers.items()}
    if options.plot:
        shown = {server: without_batches(mine.loads) for server, mine in loads.items()}
        places.write_bytes(places.normalise(options.plot), draw_latencies(shown))
        progress.say(f"plot at {options.plot}")
    rows = [each.row(options.batch) for each in loads.values()]
    fast = {name: os.environ.get(name, "") for name in FAST}
    sizes = {"codes": options.codes, "bits": options.bits, "k": options.k, "shards": options.shards}
    return {
        **sizes,
        "threads": cluster.physical_cores(),
        "environment": fast,
        "kernel_queries_per_s": kernel,
        "rows": rows,
        "histograms_ms": {
            each.server: {name: histogram(load) for name, load in each.loads.items()} for each in loads.values()
        },
    }


def served_index(folder: Path, codes: np.ndarray, shards: int) -> None:
    """Codes as an index, and as a file for the other server; what is there is used again."""
    if generations.numbers(str(folder)):
        return
    ids = pa.array([f"pair-{number:09d}" for number in range(len(codes))])
    table = pa.table({"id": ids, "image_code": from_array(codes), "text_code": from_array(codes)})
    segments = [
        write_segment(str(folder), segment_name("be5e44e0", number, shards), number, 1, assemble([part]))
        for number, part in enumerate(partition(table, shards))
    ]
    torch.manual_seed(1)
    bits = codes.shape[1] * 8
    method = methods.create("jdsh", Shape(bits, 8, 8), {"hidden": 8})
    facts = {**facts_of("jdsh", method), "encoder": None}
    made = write_artefact(f"{folder}/models/untrained", facts, weights_of(method), "")
    np.save(folder / "codes.npy", codes)
    kept = {"bits": bits, "method": "jdsh", "model_fingerprint": made.fingerprint, "model": "models/untrained"}
    generations.commit(
        str(folder), None, "build", segments, [], len(codes), {**kept, "encoder": None, "shards": shards}
    )


def kernel_rate(codes: np.ndarray, queries: np.ndarray, options: BenchServe) -> float:
    """Queries/s of the kernel alone, in batches of the same size."""
    seconds = []
    for _ in range(5):
        started_s = time.perf_counter()
        search(codes, queries, options.k)
        seconds.append(time.perf_counter() - started_s)
    return round(len(queries) / float(np.median(seconds[1:])), 1)


@contextmanager
def our_server(folder: Path) -> Iterator[str]:
    """`xhash serve` in a process of its own."""
    port = unused_port()
    with process([sys.executable, "-m", "xhash_ray.cli", "serve", "--index", str(folder), "--port", str(port)]):
        yield f"http://127.0.0.1:{port}"


@contextmanager
def plain_server(folder: Path) -> Iterator[str]:
    """The server to be beaten, likewise."""
    port, threads = unused_port(), str(cluster.physical_cores())
    command = [sys.executable, "-m", "xhash_ray.benchmarks.plain_server", str(folder / "codes.npy"), str(port), threads]
    with process(command):
        yield f"http://127.0.0.1:{port}"


@contextmanager
def process(command: Sequence[str]) -> Iterator[None]:
    """A process that ends with the block, its children with it."""
    started = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    try:
        yield
    finally:
        started.send_signal(signal.SIGINT)
        try:
            started.wait(30)
        except subprocess.TimeoutExpired:
            os.killpg(started.pid, signal.SIGKILL)
            started.wait(10)


def ready(url: str) -> float:
    """Seconds until it answers."""
    started_s = time.monotonic()
    while time.monotonic() - started_s < READY_S:
        try:
            urllib.request.urlopen(f"{url}/healthz", timeout=5).close()
            return time.monotonic() - started_s
        except (urllib.error.URLError, OSError):
            time.sleep(0.1)
    raise XhashError(f"server at {url}", f"no answer in {READY_S:.0f} s", "Start it by hand to see why")


def without_batches(loads: Mapping[str, Load]) -> dict[str, Load]:
    """Loads of single queries."""
    return {name: load for name, load in loads.items() if name != "batch"}


class Measured(NamedTuple):
    """One server under all loads.

    Attributes:
        server: Its name.
        ready_s: Until it answered.
        loads: By name: one caller, many, in batches, at a rate.
    """

    server: str
    ready_s: float
    loads: dict[str, Load]

    def row(self, batch: int) -> dict[str, Any]:
        """Its figures."""
        row: dict[str, Any] = {"server": self.server, "ready_s": round(self.ready_s, 1)}
        for name, load in without_batches(self.loads).items():
            row |= told(name, load)
        row["batch_queries_per_s"] = round(self.loads["batch"].per_s * batch, 1)
        return row


def measured(
    name: str, server: Any, singles: list[bytes], batches: list[bytes], options: BenchServe, progress: Progress
) -> Measured:
    """One server under all loads.

    Raises:
        XhashError: when it answers with errors.
    """
    with server as url:
        seconds = ready(url)
        single, batch = f"{url}/v1/search", f"{url}/v1/search/batch"
        asyncio.run(closed_loop(single, singles, 4, 100))  # warms up
        loads = {
            "one": asyncio.run(closed_loop(single, singles, 1, options.requests)),
            "many": asyncio.run(closed_loop(single, singles, options.callers, options.requests * 4)),
            "batch": asyncio.run(closed_loop(batch, batches, 2, options.batches)),
        }
        if options.rate:
            loads["open"] = asyncio.run(open_loop(single, singles, options.rate, options.requests * 4))
    failed = sum(load.failed for load in loads.values())
    if failed:
        raise XhashError(f"{name} under load", f"{failed} requests failed", "See the server's logs")
    progress.say(f"{name}: done")
    return Measured(name, seconds, loads)


def told(name: str, load: Load) -> dict[str, float]:
    """A load's figures."""
    return {
        f"{name}_p50_ms": round(load.quantile_ms(0.5), 2),
        f"{name}_p99_ms": round(load.quantile_ms(0.99), 2),
        f"{name}_per_s": round(load.per_s, 1),
    }
