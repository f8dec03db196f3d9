"""`xhash bench plan`: the plan's figures for this machine beside an endpoint's that runs on it.

A machine that is shared with others scans at a speed that moves by half within a minute. Scans are therefore measured
anew before and after everything that the endpoint does, and its figures are held against the plan for that speed.
"""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import statistics
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import orjson

from xhash_ray.benchmarks.billion import asked_codes, written
from xhash_ray.benchmarks.load import Load, closed_loop
from xhash_ray.benchmarks.machine import scans_of
from xhash_ray.benchmarks.processes import resident_bytes
from xhash_ray.core.bits import check_bits
from xhash_ray.core.scanning import check_threads
from xhash_ray.errors import BadInput
from xhash_ray.options.bench import BenchBillion, BenchMachine, BenchPlan
from xhash_ray.progress import Progress
from xhash_ray.runtime.machine_benchmark import Endpoint, answer_to, answered, bodies, endpoint, measured, serving
from xhash_ray.sizing.checking import compared, level_name, predictions, scan_speed
from xhash_ray.sizing.machine import Machine, read_machine

SCANS = 31  # answers whose own account of their scan is read
ROUNDS = 3  # of scans before and after
DISTINCT = 1024  # queries that are asked in turn

T = TypeVar("T")


def bench_plan(options: BenchPlan) -> dict[str, Any]:
    """Measures the machine, unless a file says what it is; then an endpoint on it.

    Returns:
        `pairs`, `bits`, `k`; `rows`, see `sizing.checking.Row`; `scan_speeds`: of a query alone, beside each of the
        endpoint's measurements, in units of the machine's file; `within`: whether all predictions are within a quarter;
        `machine`, the facts that they came from.

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
        predicted, found, speeds = figures(machine, target, asked, levels, options, progress)
    rows = compared(predicted, found)
    return {
        "pairs": options.pairs,
        "bits": options.bits,
        "k": machine.k,
        "rows": [row._asdict() for row in rows],
        "scan_speeds": speeds,
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
    machine: Machine,
    target: Endpoint,
    asked: Sequence[bytes],
    levels: Sequence[int],
    options: BenchPlan,
    progress: Progress,
) -> tuple[dict[str, float], dict[str, float], list[float]]:
    """What is expected of the endpoint, what it does under the same names, and the speeds of scans meanwhile."""
    answered(asyncio.run(closed_loop(target.url, asked, 4, 40)))  # warms up
    scan_ms, meanwhile = beside(machine, options, lambda: median_scan_ms(target, asked))
    predicted = predictions(meanwhile, options.pairs, options.bits, ())
    found, speeds = {"scan_ms": scan_ms}, [scan_speed(meanwhile, machine, options.bits)]
    highest_per_s = 0.0
    for count in levels:
        total = options.requests if count > 1 else options.requests // 5 + 1
        load, meanwhile = beside(machine, options, functools.partial(loaded, target, asked, count, total))
        name, expected = level_name(count), predictions(meanwhile, options.pairs, options.bits, (count,))
        found |= {f"{name}_p50_ms": load.quantile_ms(0.5), f"{name}_per_s": load.per_s}
        predicted |= {key: value for key, value in expected.items() if key.startswith(name)}
        if load.per_s > highest_per_s:
            highest_per_s, predicted["highest_per_s"] = load.per_s, expected["highest_per_s"]
        speeds.append(scan_speed(meanwhile, machine, options.bits))
        progress.say(
            f"{count} callers: {load.per_s:.1f} queries/s, p50 {load.quantile_ms(0.5):.1f} ms;"
            f" scans at {speeds[-1]:.2f} of the file's speed"
        )
    found["highest_per_s"] = highest_per_s
    found["memory_gb"] = resident_bytes(target.pids("GatewayDeployment")[0]) / 1e9
    return predicted, found, speeds


def loaded(target: Endpoint, asked: Sequence[bytes], count: int, total: int) -> Load:
    """So many callers at once, until all is answered."""
    return answered(asyncio.run(closed_loop(target.url, asked, count, total)))


def median_scan_ms(target: Endpoint, asked: Sequence[bytes]) -> float:
    """What single answers say of their scans."""
    return statistics.median(orjson.loads(answer_to(target, body))["timings_ms"]["scan"] for body in asked[:SCANS])


def beside(machine: Machine, options: BenchPlan, do: Callable[[], T]) -> tuple[T, Machine]:
    """What something gives, and the machine with the speed of scans just before and after it."""
    size_bytes = options.pairs * options.bits // 8
    scanning = BenchMachine(out="", rounds=ROUNDS, scan_bytes=size_bytes, k=machine.k, seed=options.seed)
    before = scans_of(options.bits, scanning)
    result = do()
    pairs = zip(before, scans_of(options.bits, scanning), strict=True)
    scans = [one._replace(codes_per_s=(one.codes_per_s + other.codes_per_s) / 2) for one, other in pairs]
    return result, dataclasses.replace(machine, scans=tuple(scans))
