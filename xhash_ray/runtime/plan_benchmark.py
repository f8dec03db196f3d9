"""`xhash bench plan`: the plan's figures for this machine beside an endpoint's that runs on it."""

from __future__ import annotations

import asyncio
import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import orjson

from xhash_ray.bench_options import BenchBillion, BenchMachine, BenchPlan
from xhash_ray.benchmarks.billion import asked_codes, written
from xhash_ray.benchmarks.load import closed_loop
from xhash_ray.benchmarks.processes import resident_bytes
from xhash_ray.core.bits import check_bits
from xhash_ray.core.scanning import check_threads
from xhash_ray.errors import BadInput
from xhash_ray.progress import Progress
from xhash_ray.runtime.machine_benchmark import Endpoint, answer_to, answered, bodies, endpoint, measured, serving
from xhash_ray.sizing.checking import compared, predictions
from xhash_ray.sizing.machine import Machine, read_machine

SCANS = 31  # answers whose own account of their scan is read
DISTINCT = 1024  # queries that are asked in turn


def bench_plan(options: BenchPlan) -> dict[str, Any]:
    """Measures the machine, unless a file says what it is; then an endpoint on it.

    Returns:
        `pairs`, `bits`, `k`; `rows`, see `sizing.checking.Row`; `within`: whether all predictions are within a
        quarter; `machine`, the facts that they came from.

    Raises:
        BadInput: for less than one pair, caller or request, or an index of other codes in that folder.
        XhashError: when the endpoint answers with errors.
    """
    levels = sorted({int(count) for count in options.callers})
    if min(options.pairs, options.requests, *levels) < 1:
        raise BadInput("bench plan", "less than one pair, caller or request", "Give at least one of each")
    progress = Progress("bench plan")
    check_bits(options.bits)
    machine = machine_for(options, progress)
    wanted = BenchBillion(codes=options.pairs, bits=options.bits, out=options.out, seed=options.seed, batch=DISTINCT)
    written(wanted, check_threads(None), Progress("bench plan", options.pairs))
    asked = bodies(asked_codes(wanted, DISTINCT), machine.k)
    with serving(), endpoint(Path(options.out).absolute(), 0) as target:
        found = figures(target, asked, levels, options, progress)
    rows = compared(predictions(machine, options.pairs, options.bits, levels), found)
    return {
        "pairs": options.pairs,
        "bits": options.bits,
        "k": machine.k,
        "rows": [row._asdict() for row in rows],
        "within": all(row.within for row in rows),
        "machine": {**vars(machine), "scans": [scan._asdict() for scan in machine.scans]},
    }


def machine_for(options: BenchPlan, progress: Progress) -> Machine:
    """The machine that the file describes, or this one, measured."""
    if options.machine is not None:
        return read_machine(options.machine)
    with tempfile.TemporaryDirectory() as folder:
        return measured(BenchMachine(out=folder, bits=(str(options.bits),), seed=options.seed), progress)


def figures(
    target: Endpoint, asked: Sequence[bytes], levels: Sequence[int], options: BenchPlan, progress: Progress
) -> dict[str, float]:
    """What the endpoint does, under the names of the predictions."""
    answered(asyncio.run(closed_loop(target.url, asked, 4, 40)))  # warms up
    scans = [orjson.loads(answer_to(target, body))["timings_ms"]["scan"] for body in asked[:SCANS]]
    found, rates = {"scan_ms": statistics.median(scans)}, list[float]()
    for count in levels:
        total = options.requests if count > 1 else options.requests // 5 + 1
        load = answered(asyncio.run(closed_loop(target.url, asked, count, total)))
        name = f"{count}_callers" if count > 1 else "one_caller"
        found |= {f"{name}_p50_ms": load.quantile_ms(0.5), f"{name}_per_s": load.per_s}
        rates.append(load.per_s)
        progress.say(f"{count} callers: {load.per_s:.1f} queries/s, p50 {load.quantile_ms(0.5):.1f} ms")
    found["highest_per_s"] = max(rates)
    found["memory_gb"] = resident_bytes(target.pids("GatewayDeployment")[0]) / 1e9
    return found
