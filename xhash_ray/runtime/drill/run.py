"""`xhash drill`: a cluster whose failures are rehearsed; every answer during them is judged by an oracle."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from xhash_ray import reports
from xhash_ray.drilling import table
from xhash_ray.drilling.ledger import summarise
from xhash_ray.drilling.recovery import STEADY_S, recovered_after_s
from xhash_ray.drilling.scenarios import Scenario, chosen, hindrance
from xhash_ray.errors import BadInput, XhashError
from xhash_ray.options import Drill
from xhash_ray.progress import Progress
from xhash_ray.runtime.drill.fault import Fault
from xhash_ray.runtime.drill.faults import FAULTS
from xhash_ray.runtime.drill.load import Load
from xhash_ray.runtime.drill.site import Site, local_site, wait
from xhash_ray.storage import uri as places

WARMING_S, RECOVERY_S, WHOLE_S = 60.0, 150.0, 180.0
LOOK_S = 0.25


def drill(options: Drill) -> dict[str, Any]:
    """Rehearses failures.

    Returns:
        `rows`, one per scenario (drilling/table.py), and `setting`, what they were run on.

    Raises:
        BadInput: for an unknown scenario, or a site that cannot be had.
        XhashError: when an answer was wrong or a scenario did not recover; the table has been printed and written.
    """
    scenarios = chosen(options.scenario)
    check(options)
    progress = Progress("drill")
    result: dict[str, Any] = {"setting": {}, "rows": [], "failures": []}
    with (
        ended_like_ctrl_c(),
        tempfile.TemporaryDirectory(prefix="xhash-drill-") as folder,
        site_of(options, Path(folder), progress) as site,
    ):
        load = Load(site.urls, site.key, site.questions, site.oracle, site.ledger, options.callers, options.pause_s)
        result["setting"] = {**site.setting, "load": f"{options.callers} callers, every answer judged"}
        with load:
            warm_up(site, load)
            for scenario in scenarios:
                result["rows"].append(rehearsed(site, load, scenario, options, progress))
                result["failures"] = table.failures(result["rows"])
                write(options.out, result)  # a drill that is broken off leaves what it has seen
    if result["failures"]:
        print(reports.render("drill", result), flush=True)
        raise XhashError("fault drill", "; ".join(result["failures"]), "See the table")
    return result


@contextlib.contextmanager
def ended_like_ctrl_c() -> Iterator[None]:
    """SIGTERM unwinds the block as Ctrl-C does: a cluster that was started for it must not outlive it."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def check(options: Drill) -> None:
    """Raises BadInput for numbers that make no drill."""
    if options.workers < 3:
        raise BadInput(
            "xhash drill", f"{options.workers} workers", "Ask for 3 or more: two copies, and a node to spare"
        )
    if min(options.pairs, options.callers, options.shards) < 1 or options.pairs < 2000:
        found = f"{options.pairs} pairs, {options.callers} callers, {options.shards} shards"
        raise BadInput("xhash drill", found, "Ask for 2,000 pairs and a caller and a shard, or more")


@contextlib.contextmanager
def site_of(options: Drill, folder: Path, progress: Progress) -> Iterator[Site]:
    """A cluster of the drill's own, or the one that is named."""
    address = options.address or os.environ.get("RAY_ADDRESS")
    if not address:
        with local_site(options, folder, progress) as site:
            yield site
        return
    from xhash_ray.runtime.drill.joined import joined_site  # a driver of that cluster

    with joined_site(options, address, folder, progress) as site:
        yield site


def warm_up(site: Site, load: Load) -> None:
    """Waits until all is well before anything is broken.

    Raises:
        XhashError: when it never is.
    """
    started_s = time.monotonic()
    if not wait(lambda: steady(site, load, started_s) is not None, WARMING_S, LOOK_S):
        seen = summarise(site.ledger.since(started_s))
        found = f"{seen.requests} requests, errors {seen.errors}, wrong {seen.reasons}, {seen.said}"
        raise XhashError("the drilled endpoint before any fault", found, "See Serve's logs")


def steady(site: Site, load: Load, since_s: float, wanted: int | None = None) -> float | None:
    """When service was whole again after a moment; None when it is not yet."""
    load.check()
    return recovered_after_s(site.ledger.since(since_s), since_s, time.monotonic(), wanted)


def rehearsed(site: Site, load: Load, scenario: Scenario, options: Drill, progress: Progress) -> dict[str, Any]:
    """One scenario from beginning to end, or why it could not be run."""
    why = hindrance(scenario, site.lacking, site.cluster is None, options.destructive)
    if why:
        progress.say(f"{scenario.title}: not available: {why}")
        return table.unavailable(scenario, why)
    progress.say(f"{scenario.title}: {scenario.does}")
    fault = FAULTS[scenario.name](site)
    try:
        fault.prepare()
    except XhashError as error:
        progress.say(f"{scenario.title}: not available: {error}")
        return table.unavailable(scenario, f"cannot be simulated here: {error}")
    row = run(site, load, scenario, fault, options.seconds)
    progress.say(": ".join([row["title"], ", ".join(table.cells(row)[1:])]))
    return row


def run(site: Site, load: Load, scenario: Scenario, fault: Fault, seconds: float) -> dict[str, Any]:
    """Injects, keeps the load on, mends, and waits until service and all copies are back."""
    injected_s = time.monotonic()
    failed, recovered_s, whole_s = "", None, None
    try:
        fault.inject()
        time.sleep(max(0.0, injected_s + seconds - time.monotonic()))
        held_s = time.monotonic() - injected_s
        fault.heal()
        wait(lambda: steady(site, load, injected_s, fault.wanted) is not None, RECOVERY_S, LOOK_S)
        recovered_s = steady(site, load, injected_s, fault.wanted)
        if wait(site.serve.is_whole, WHOLE_S):
            whole_s = time.monotonic() - injected_s
        if recovered_s is not None:
            fault.check()
    except XhashError as error:
        failed, recovered_s, held_s = str(error), None, time.monotonic() - injected_s
    try:
        fault.undo()
    except XhashError as error:
        failed, recovered_s = "; ".join(filter(None, [failed, str(error)])), None
    time.sleep(STEADY_S)
    seen = summarise(site.ledger.since(injected_s))
    note = "; ".join(dict.fromkeys([*fault.notes, *filter(None, [failed])]))
    return table.row(scenario, seen, recovered_s, whole_s, held_s, note)


def write(out: str | None, result: dict[str, Any]) -> None:
    """Markdown, and JSON beside it."""
    if out is None:
        return
    place = places.normalise(out)
    places.write_bytes(place, table.markdown(result).encode())
    places.write_bytes(f"{place.removesuffix('.md')}.json", json.dumps(result, indent=1).encode())
