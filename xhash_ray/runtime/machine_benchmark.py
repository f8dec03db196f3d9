"""`xhash bench machine`: the constants of `xhash plan`, measured here and written down."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from ray import serve

from xhash_ray.benchmarks import machine as bench
from xhash_ray.benchmarks.code_sets import code_set
from xhash_ray.benchmarks.load import Load, closed_loop
from xhash_ray.benchmarks.processes import cpu_s, pids_of, resident_bytes
from xhash_ray.core.bandwidth import BENCHMARK_BYTES, read_bandwidth
from xhash_ray.core.bits import check_bits
from xhash_ray.core.scanning import check_threads
from xhash_ray.errors import BadInput, XhashError
from xhash_ray.index import generations
from xhash_ray.options.bench import BenchMachine
from xhash_ray.progress import Progress
from xhash_ray.runtime import cluster
from xhash_ray.runtime.endpoint import unused_port
from xhash_ray.runtime.serve_benchmark import served_index
from xhash_ray.serving.groups import Group
from xhash_ray.serving.listening import Ports
from xhash_ray.sizing.machine import Machine, write_machine
from xhash_ray.sizing.memory import code_bytes
from xhash_ray.sizing.serving import SHARED

GROUPS = 2
LEAST_S = 1e-5  # differences of measurements: nothing takes no time
VECTOR = 8  # numbers of a feature, as served_index has its model take them


class Endpoint(NamedTuple):
    """A running one.

    Attributes:
        name: Of its application, in the titles of its processes.
        url: Of single searches.
    """

    name: str
    url: str

    def pids(self, deployment: str) -> list[int]:
        """Processes of a deployment whose name begins so."""
        return pids_of(f"ServeReplica:{self.name}:{deployment}")


class Costs(NamedTuple):
    """A load on an endpoint.

    Attributes:
        p50_s: Of one caller.
        cpu_s: Of many callers, by deployment: CPU seconds per request of all its processes.
        caller_cpu_s: In this process.
    """

    p50_s: float
    cpu_s: dict[str, float]
    caller_cpu_s: float


def bench_machine(options: BenchMachine) -> dict[str, Any]:
    """Measures the machine.

    Returns:
        `out` and the facts that stand there, see `sizing.machine.Machine`; `seconds`.

    Raises:
        BadInput: for a code length that no code has, or nothing to measure with.
        XhashError: when the endpoint answers with errors.
    """
    progress = Progress("bench machine")
    machine = measured(options, progress)
    write_machine(options.out, machine)
    progress.say(f"written to {options.out}")
    known = {name: value for name, value in vars(machine).items() if name != "scans"}
    scans = [scan._asdict() for scan in machine.scans]
    return {"out": options.out, **known, "scans": scans, "seconds": round(progress.seconds, 1)}


def measured(options: BenchMachine, progress: Progress) -> Machine:
    """The machine. Errors as of `bench_machine`."""
    lengths = [check_bits(int(bits)) for bits in options.bits]
    if min(options.pairs, options.requests, options.rounds, options.encoded, options.k, *lengths) < 1:
        raise BadInput("bench machine", "less than one pair, request, round or hit", "Give at least one of each")
    threads, host = check_threads(None), bench.host_facts()
    bandwidth = read_bandwidth(threads, BENCHMARK_BYTES)
    progress.say(f"memory: {bandwidth / 1e9:.1f} GB/s")
    scans = [scan for bits in lengths for scan in bench.scans_of(bits, options)]
    progress.say("scans: " + ", ".join(f"{s.queries} x {s.codes_per_s:,.0f} codes/s" for s in scans))
    with tempfile.TemporaryDirectory(prefix="xhash-machine-") as folder:
        encoders = bench.encoding(options, folder)
        progress.say(f"a text {encoders['text_s'] * 1e3:.1f} ms, an image {encoders['image_s'] * 1e3:.1f} ms")
        endpoint = endpoint_facts(options, Path(folder) / "index", progress)
    return Machine(
        cores=threads,
        memory_bytes=bench.memory_bytes(),
        read_bytes_per_s=round(bandwidth),
        k=options.k,
        scans=tuple(scan._replace(codes_per_s=round(scan.codes_per_s)) for scan in scans),
        **encoders,
        **endpoint,
        host=host,
    )


def endpoint_facts(options: BenchMachine, folder: Path, progress: Progress) -> dict[str, Any]:
    """What a small index costs to build, load and ask, its shards in the gateway's process and in others."""
    bits = int(options.bits[0])
    codes, queries = code_set("clustered", options.pairs, 1024, bits, options.seed)
    started_s = time.perf_counter()
    served_index(folder, codes, GROUPS)
    build_s = time.perf_counter() - started_s
    made = generations.current(str(folder))
    facts = bench.loaded(made)
    whole_group, half_group = Group(made, range(GROUPS)), Group(made, [0])
    answer_s = bench.answer_seconds(whole_group, queries[:SHARED], options)
    alone_s = bench.search_seconds(whole_group, queries[:1], options)
    half_s = bench.search_seconds(half_group, queries[:1], options)
    shared_s, half_shared_s = (bench.search_cpu(each, queries[:SHARED], options) for each in (whole_group, half_group))
    by_code, by_vector = bodies(queries, options.k), vectors(options)
    with serving():
        with endpoint(folder, 0) as whole:
            here = load(whole, by_code, options)
            vector = load(whole, by_vector, options)
            process = resident_bytes(whole.pids("GatewayDeployment")[0])
            sent = len(answer_to(whole, by_code[0]))
        progress.say(f"a request beside its scan: {(here.p50_s - alone_s) * 1e3:.1f} ms")
        with endpoint(folder, GROUPS) as parts:
            there = load(parts, by_code, options)
    request_cpu_s = max(LEAST_S, here.cpu_s["GatewayDeployment"] - shared_s)
    return {
        "build_pairs_per_s": round(len(codes) / build_s),
        **facts,
        "process_bytes": round(process - len(codes) * code_bytes(bits) * facts["resident_per_code_byte"]),
        "answer_s": answer_s,
        "request_s": max(LEAST_S, here.p50_s - alone_s),
        "request_cpu_s": request_cpu_s,
        "caller_cpu_s": here.caller_cpu_s,
        "answer_bytes": sent,
        "group_s": max(0.0, there.p50_s - half_s - here.p50_s + alone_s),
        "group_cpu_s": max(0.0, there.cpu_s["GatewayDeployment"] - request_cpu_s) / GROUPS,
        "group_own_cpu_s": max(0.0, there.cpu_s["shards-"] - GROUPS * half_shared_s) / GROUPS,
        "encoder_s": max(0.0, vector.p50_s - here.p50_s),
        "encoder_gateway_cpu_s": max(0.0, vector.cpu_s["GatewayDeployment"] - here.cpu_s["GatewayDeployment"]),
        "encoder_own_cpu_s": vector.cpu_s["EncoderDeployment"],
    }


@contextmanager
def serving() -> Iterator[None]:
    """Ray and Serve for the length of a block; on a cluster that was joined they stay."""
    logging.getLogger("ray.serve").setLevel(logging.ERROR)
    with cluster.connected():
        if not cluster.is_joined():
            serve.start(http_options={"host": "127.0.0.1", "port": unused_port()})
        yield


@contextmanager
def endpoint(folder: Path, processes: int) -> Iterator[Endpoint]:
    """An endpoint on a port of its own, its shards in so many processes; 0: in the gateway's."""
    from xhash_ray.runtime.serving import ServeArgs, build_app

    port, name = unused_port(), f"xhash-sizing-{os.getpid()}-{processes}"
    asked = {"index": str(folder), "processes": processes, "encoder_threads": cluster.physical_cores()}
    args = ServeArgs.model_validate({**asked, "ports": Ports("127.0.0.1", port)})
    serve.run(build_app(args), name=name, route_prefix=f"/{name}")
    try:
        yield Endpoint(name, f"http://127.0.0.1:{port}/v1/search")
    finally:
        serve.delete(name)


def load(target: Endpoint, asked: Sequence[bytes], options: BenchMachine) -> Costs:
    """One caller, then many.

    Raises:
        XhashError: when requests fail.
    """
    answered(asyncio.run(closed_loop(target.url, asked, 4, options.requests // 4 + 1)))  # warms up
    one = answered(asyncio.run(closed_loop(target.url, asked, 1, options.requests)))
    pids = {name: target.pids(name) for name in ("GatewayDeployment", "EncoderDeployment", "shards-")}
    before, mine_s = {name: sum(map(cpu_s, each)) for name, each in pids.items()}, time.process_time()
    many = answered(asyncio.run(closed_loop(target.url, asked, 2 * SHARED, 5 * options.requests)))
    mine_s, count = time.process_time() - mine_s, len(many.seconds)
    used = {name: (sum(map(cpu_s, each)) - before[name]) / count for name, each in pids.items()}
    return Costs(one.quantile_ms(0.5) / 1e3, used, mine_s / count)


def answered(found: Load) -> Load:
    """A load whose requests were all answered. Raises XhashError otherwise."""
    if found.failed:
        raise XhashError("an endpoint under load", f"{found.failed} requests failed", "See the logs of Ray Serve")
    return found


def bodies(queries: np.ndarray, k: int) -> list[bytes]:
    """Requests by code, for k hits without metadata."""
    return [json.dumps({"code": query.tobytes().hex(), "k": k, "metadata": False}).encode() for query in queries]


def vectors(options: BenchMachine) -> list[bytes]:
    """Requests that take the way through the encoder, but need no CLIP there."""
    drawn = np.random.default_rng(options.seed).normal(size=(256, VECTOR)).round(4).tolist()
    return [json.dumps({"vector": each, "k": options.k, "metadata": False}).encode() for each in drawn]


def answer_to(target: Endpoint, body: bytes) -> bytes:
    """One answer, as it is sent."""
    asked = urllib.request.Request(target.url, body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(asked, timeout=30) as answer:
        content: bytes = answer.read()
    return content
