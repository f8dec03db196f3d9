"""Accounts of runs whose speed and workload are known, by a clock that only the test moves."""

import itertools
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xhash_ray.pipeline.watching import LEAST_UNITS, WINDOW_S, Bottleneck, Stage, UnitDone, Watch, busiest

READ_WRITE = (Stage("read", 2), Stage("write"))


class Clock:
    """Seconds that pass when told to."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


def run(watch: Watch, clock: Clock, units: int, every_s: float, pairs: int = 10, **seconds: float) -> None:
    """Finishes units at a steady pace."""
    for _ in range(units):
        clock.now_s += every_s
        watch.add(UnitDone(watch.units, pairs, pairs, bytes_read=100 * pairs, bytes_written=pairs, seconds=seconds))


def test_nothing_is_known_before_the_first_unit(clock):
    watch = Watch("extract", 500, READ_WRITE, clock=clock)
    clock.now_s += 7
    known = watch.snapshot()
    assert (known.done, known.units, known.elapsed_s, known.pairs_per_s, known.pairs_per_s_overall) == (0, 0, 7, 0, 0)
    assert known.left_s is None
    assert known.bottleneck is None
    assert known.utilisation == {"read": 0, "write": 0}


def test_counts_are_summed_and_rejects_are_ranked(clock):
    watch = Watch("extract", 500, READ_WRITE, clock=clock)
    watch.add(UnitDone(0, 97, 100, {"read: missing text": 1, "prepare: truncated": 2}, 1000, 50))
    watch.add(UnitDone(1, 198, 100, {"prepare: truncated": 1}, 500, 70))  # two captions of a pair give two rows
    known = watch.snapshot()
    assert (known.done, known.pairs, known.rows, known.units) == (200, 200, 295, 2)
    assert (known.bytes_read, known.bytes_written) == (1500, 120)
    assert known.rejected == 4
    assert list(known.rejected_by.items()) == [("prepare: truncated", 3), ("read: missing text", 1)]


def test_a_unit_in_no_time_is_no_division_by_zero(clock):
    watch = Watch("extract", 500, READ_WRITE, clock=clock)
    run(watch, clock, 1, every_s=0, read=1.0)
    known = watch.snapshot()
    assert (known.pairs_per_s, known.pairs_per_s_overall, known.bytes_read_per_s, known.left_s) == (0, 0, 0, None)


def test_now_is_the_last_seconds_and_overall_is_all(clock):
    watch = Watch("extract", 0, READ_WRITE, clock=clock)
    run(watch, clock, 100, every_s=1, pairs=10)
    assert watch.snapshot().pairs_per_s == pytest.approx(10)
    run(watch, clock, 30, every_s=1, pairs=100)
    known = watch.snapshot()
    assert known.pairs_per_s == pytest.approx(100)
    assert known.bytes_read_per_s == pytest.approx(10_000)
    assert known.pairs_per_s_overall == pytest.approx((1000 + 3000) / 130)


def test_rare_units_are_a_steady_speed_between_them_too(clock):
    watch = Watch("extract", 0, READ_WRITE, clock=clock)
    run(watch, clock, 6, every_s=60, pairs=600)
    for _ in range(5):
        clock.now_s += 11.9
        assert watch.snapshot().pairs_per_s == pytest.approx(10)


def test_silence_longer_than_any_before_is_slowness(clock):
    watch = Watch("extract", 0, READ_WRITE, clock=clock)
    run(watch, clock, 6, every_s=60, pairs=600)
    clock.now_s += 120
    assert watch.snapshot().pairs_per_s == pytest.approx(4 * 600 / (4 * 60 + 60))
    clock.now_s += 36_000
    assert watch.snapshot().pairs_per_s < 0.1


def test_workers_that_finish_all_at_once_do_not_look_fast(clock):
    watch = Watch("extract", 0, [Stage("read"), Stage("embed", 16)], clock=clock)
    for _ in range(5):
        clock.now_s += 60
        for _ in range(16):
            run(watch, clock, 1, every_s=0, pairs=15, read=0.1, embed=59)
    assert watch.snapshot().pairs_per_s == pytest.approx(16 * 15 / 60)
    clock.now_s += 59
    assert watch.snapshot().pairs_per_s == pytest.approx(16 * 15 / 60)


def test_a_slow_start_leaves_now_but_not_overall(clock):
    watch = Watch("extract", 0, READ_WRITE, clock=clock)
    clock.now_s += 90  # the model is loaded
    run(watch, clock, 30, every_s=1, pairs=10, read=2.0)
    known = watch.snapshot()
    assert known.pairs_per_s == pytest.approx(10)
    assert known.utilisation["read"] == pytest.approx(1)
    assert known.pairs_per_s_overall == pytest.approx(300 / 120)
    assert known.utilisation_overall["read"] == pytest.approx(60 / (120 * 2))


def test_utilisation_of_a_known_workload(clock):
    watch = Watch("extract", 0, [Stage("read", 2), Stage("prepare", 4), Stage("write")], clock=clock)
    run(watch, clock, 50, every_s=2, read=0.4, prepare=7.6, write=0.5)
    expected = {"read": 0.4 / (2 * 2), "prepare": 7.6 / (2 * 4), "write": 0.5 / 2}
    known = watch.snapshot()
    assert known.utilisation == pytest.approx(expected)
    assert known.utilisation_overall == pytest.approx(expected)
    assert known.bottleneck == Bottleneck("prepare", pytest.approx(0.95))


def test_utilisation_is_a_share_whatever_the_units_say(clock):
    """Work on a unit may have begun long before the window that it is finished in."""
    watch = Watch("extract", 0, READ_WRITE, clock=clock)
    run(watch, clock, 1, every_s=1, read=500.0, unheard_of=3.0)
    assert watch.snapshot().utilisation == {"read": 1.0, "write": 0.0}


def test_the_bottleneck_is_the_busiest_now(clock):
    watch = Watch("extract", 0, READ_WRITE, clock=clock)
    run(watch, clock, 100, every_s=1, read=1.8, write=0.1)
    assert watch.snapshot().bottleneck.stage == "read"
    run(watch, clock, 20, every_s=1, read=0.2, write=0.9)
    known = watch.snapshot()
    assert known.bottleneck == Bottleneck("write", pytest.approx(0.9))
    assert busiest(known.utilisation_overall).stage == "read"


def test_of_equals_the_first_is_the_bottleneck():
    assert busiest({"read": 0.1, "prepare": 1.0, "embed": 1.0}) == Bottleneck("prepare", 1.0)
    assert busiest({"read": 0.0}) is None
    assert busiest({}) is None


def test_earlier_starts_count_as_done_and_not_as_speed(clock):
    fresh, resumed = (Watch("extract", 10_000, READ_WRITE, before, clock) for before in (0, 5000))
    for _ in range(20):
        clock.now_s += 1
        for watch in (fresh, resumed):
            watch.add(UnitDone(0, 50, 50))
    first, second = fresh.snapshot(), resumed.snapshot()
    assert (first.done, second.done) == (1000, 6000)
    assert second.pairs == 1000
    assert second.pairs_per_s == first.pairs_per_s == pytest.approx(50)
    assert second.pairs_per_s_overall == first.pairs_per_s_overall == pytest.approx(50)
    assert first.left_s == pytest.approx(9000 / 50)
    assert second.left_s == pytest.approx(4000 / 50)


def test_time_left_is_at_a_speed_between_now_and_overall(clock):
    watch = Watch("extract", 10_000, READ_WRITE, clock=clock)
    run(watch, clock, 50, every_s=1, pairs=20)
    run(watch, clock, 50, every_s=1, pairs=60)
    assert watch.snapshot().left_s == pytest.approx((10_000 - 4000) / ((60 + 40) / 2))


def test_nothing_is_left_at_the_end_and_an_unknown_end_is_not_guessed(clock):
    done, more, endless = (Watch("encode", total, READ_WRITE, clock=clock) for total in (30, 20, 0))
    clock.now_s += 1
    for watch in (done, more, endless):
        watch.add(UnitDone(0, 30, 30))
    assert done.snapshot().left_s == 0
    assert more.snapshot().left_s == 0  # the corpus held more than was planned
    assert endless.snapshot().left_s is None


def test_what_is_remembered_does_not_grow(clock):
    watch = Watch("extract", 0, READ_WRITE, clock=clock)
    run(watch, clock, 20_000, every_s=0.05)
    assert len(watch.recent.units) <= WINDOW_S / 0.05 + LEAST_UNITS + 2
    assert watch.snapshot().pairs_per_s == pytest.approx(200)


def slow_speed_now(times_s: list[float], now_s: float) -> float:
    """Pairs per second now, from all moments since the start at which a unit of one pair was finished: the oracle."""
    silence_s = max((b - a for a, b in itertools.pairwise(times_s) if b in times_s[-LEAST_UNITS:]), default=0)
    end_s = max(times_s[-1], now_s - silence_s)
    for first in reversed(range(len(times_s))):
        if end_s - times_s[first] >= WINDOW_S and len(times_s) - 1 - first >= LEAST_UNITS:
            break
    span_s = end_s - times_s[first]
    return (len(times_s) - 1 - first) / span_s if span_s > 0 else 0.0


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(1, 4000), max_size=60), st.integers(0, 100_000))
def test_speed_now_is_what_the_whole_history_says(gaps, silence):
    """In 64ths of seconds, which floats add without rounding: forgetting old units must not show."""
    clock = Clock()
    watch = Watch("extract", 0, [Stage("read")], clock=clock)
    times_s = [clock.now_s]
    for gap in gaps:
        clock.now_s += gap / 64
        times_s.append(clock.now_s)
        watch.add(UnitDone(0, 1, 1, seconds={"read": gap / 64}))
    clock.now_s += silence / 64
    known = watch.snapshot()
    assert known.pairs_per_s == pytest.approx(slow_speed_now(times_s, clock.now_s))
    assert all(0 <= share <= 1 and math.isfinite(share) for share in known.utilisation.values())
