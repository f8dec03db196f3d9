"""Runs over units as metrics: live, by step and kind, counted once per backend, and over when they are over."""

from __future__ import annotations

import time
from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from tests.pipeline.sources import pair
from tests.waiting import wait_until
from xhash_ray import telemetry
from xhash_ray.errors import BadInput
from xhash_ray.exposition import Registry
from xhash_ray.pipeline import observing
from xhash_ray.pipeline.loading import Loaded
from xhash_ray.pipeline.observing import Observer
from xhash_ray.pipeline.plan import Unit
from xhash_ray.pipeline.reporting import RunMetrics, report_steps
from xhash_ray.pipeline.watching import Stage, UnitDone
from xhash_ray.storage.unit_log import UnitFacts

SECONDS = {"read": 0.25, "embed": 2.0}


class Reported(Registry):
    """What was reported, by name and labels."""

    def __call__(self, name: str, **labels: str) -> float | None:
        return self.registry.get_sample_value(name, {"verb": "extract", **labels})


class SharedReported(Reported):
    """The same for many processes."""

    shared = True


@pytest.fixture
def reported() -> Iterator[Reported]:
    with telemetry.attached(Reported()) as backend:
        yield backend


@pytest.fixture
def lively(monkeypatch) -> None:
    """Moments are said as fast as they come."""
    monkeypatch.setattr(observing, "BEAT_S", 0.01)


def answer(number: int, pairs: int = 10, **rejected: int) -> tuple[UnitFacts, UnitDone]:
    """A finished unit."""
    kinds = {name.replace("_", ": "): count for name, count in rejected.items()}
    done = UnitDone(number, pairs - sum(kinds.values()), pairs, kinds, 1000, 200, SECONDS)
    return UnitFacts(number, pairs, None, rejected=kinds), done


def observer(folder, total: int = 40, done: int = 0, most: float = 1.0) -> Observer:
    """A run, of which `done` units are finished."""
    log = SimpleNamespace(uri=str(folder), run="run")
    before = {number: answer(number)[0] for number in range(done)}
    seen = Observer("extract", log, [Stage("read", 2), Stage("embed")], total, before, most, {})
    seen.progress.interval_s = 0.0
    return seen


def test_a_run_is_told_from_its_start_to_its_end(reported, tmp_path):
    began_s = time.time()
    with observer(tmp_path, done=1) as seen:
        assert reported("xhash_run_active") == 1
        assert (reported("xhash_run_pairs"), reported("xhash_run_done_pairs")) == (
            40,
            10,
        )
        seen.follow([answer(1, read_empty=1), answer(2, prepare_truncated=2, read_empty=1), answer(3)])
        seen.finish()
    assert reported("xhash_run_active") == 0
    assert reported("xhash_run_units_total") == 3
    assert reported("xhash_run_done_pairs") == 40
    assert reported("xhash_run_left_seconds") == 0
    assert reported("xhash_run_pairs_per_second") > 0
    assert (
        reported("xhash_read_bytes_total"),
        reported("xhash_written_bytes_total"),
    ) == (
        3000,
        600,
    )
    kinds = {("read", "empty"): 2, ("prepare", "truncated"): 2}
    for (step, kind), count in kinds.items():
        assert reported("xhash_rejected_pairs_total", step=step, kind=kind) == count
    for step, seconds in SECONDS.items():
        assert reported("xhash_step_pairs_total", step=step) == 30
        assert reported("xhash_step_busy_seconds_total", step=step) == pytest.approx(3 * seconds)
        assert 0 < reported("xhash_step_utilisation_ratio", step=step) <= 1
    assert began_s <= reported("xhash_run_progress_timestamp_seconds") <= time.time()


def test_a_run_is_told_while_it_is_under_way(reported, tmp_path, lively):
    seen_done, seen_speed = [], []

    def answers():
        for number in range(4):
            yield answer(number)
            wait_until(lambda n=number: reported("xhash_run_done_pairs") == 10 * (n + 1))
            seen_done.append(reported("xhash_run_units_total"))
            seen_speed.append(reported("xhash_run_pairs_per_second"))
            assert reported("xhash_run_active") == 1

    with observer(tmp_path) as seen:
        seen.follow(answers())
    assert seen_done == [1, 2, 3, 4]
    assert all(speed > 0 for speed in seen_speed)


@pytest.mark.parametrize("error", [RuntimeError("oops"), BadInput("a", "b", "c"), KeyboardInterrupt()])
def test_a_run_that_fails_is_over_too(error, reported, tmp_path, lively):
    def answers():
        yield answer(0)
        raise error

    def fail() -> None:
        with observer(tmp_path) as seen:
            seen.follow(answers())

    with pytest.raises(type(error)):
        fail()
    assert reported("xhash_run_active") == 0
    assert reported("xhash_run_units_total") == 1
    time.sleep(0.05)
    assert reported("xhash_run_active") == 0  # nothing beats on


def test_too_many_rejects_are_counted_before_they_end_the_run(reported, tmp_path):
    with pytest.raises(BadInput, match="unusable"), observer(tmp_path, most=0.1) as seen:
        seen.follow([answer(0, read_empty=5)])
    assert reported("xhash_rejected_pairs_total", step="read", kind="empty") == 5
    assert reported("xhash_run_active") == 0


def test_what_steps_report_themselves_is_counted_once_per_backend(reported):
    """A driver and a worker, here in one process: Ray hears the worker, the driver's file hears the driver."""
    unit = answer(0)
    with telemetry.attached(SharedReported()) as cluster:
        telemetry.detach(reported)
        report_steps(unit, "extract", ("read", "embed"))
        telemetry.attach(reported)
        RunMetrics("extract").unit(unit[1])
    for backend in (reported, cluster):
        for step, seconds in SECONDS.items():
            assert backend("xhash_step_pairs_total", step=step) == 10
            assert backend("xhash_step_busy_seconds_total", step=step) == seconds
        assert backend("xhash_run_units_total") == 1


def test_a_process_reports_the_steps_it_did_of_any_form_of_a_unit(reported):
    loaded = Loaded(Unit(3, 0, 5, 12), "file-0", [pair("a")], [], 100, {"read": 0.5, "prepare": 1.5})
    report_steps(loaded, "encode", ("read",))
    report_steps(SimpleNamespace(loaded=loaded), "encode", ("prepare",))
    for step, seconds in loaded.seconds.items():
        assert reported("xhash_step_pairs_total", verb="encode", step=step) == 7
        assert reported("xhash_step_busy_seconds_total", verb="encode", step=step) == seconds
    assert reported("xhash_step_pairs_total", verb="encode", step="write") is None


def test_progress_is_when_a_unit_was_finished(reported):
    now_s = [1000.0]
    with RunMetrics("verify", lambda: now_s[0]) as metrics:
        for step_s in (5.0, 7.0):
            now_s[0] += step_s
            metrics.units(2)
        now_s[0] += 100.0
    assert reported("xhash_run_progress_timestamp_seconds", verb="verify") == 1012.0
    assert reported("xhash_run_units_total", verb="verify") == 4


def test_an_unknown_end_is_not_guessed(reported, tmp_path):
    with observer(tmp_path, total=0) as seen:
        seen.metrics.moment(seen.watch.snapshot())
    assert reported("xhash_run_left_seconds") is None
