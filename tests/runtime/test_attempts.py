"""Units that kill their process: smaller batches where memory was short, an end with a name where nothing helps."""

from __future__ import annotations

import functools
import os
import signal
import sys
import threading

import pytest
import ray

from xhash_ray.errors import XhashError
from xhash_ray.runtime import attempts
from xhash_ray.runtime.attempts import MOST, PATIENT, Attempts
from xhash_ray.runtime.units import Step, flow


def test_memory_that_ran_short_before_a_death_halves_the_batch():
    tries = Attempts()
    assert tries.begin(7) == (1, 0)
    tries.press(7)
    assert tries.begin(7) == (2, 1)
    assert tries.begin(7) == (3, 1), "this time it died of something else"
    assert tries.begin(8) == (1, 0)


def test_memory_that_ran_short_and_sufficed_after_all_halves_nothing():
    tries = Attempts()
    tries.begin(7)
    tries.press(7)
    tries.end(7)
    assert tries.begin(7) == (2, 0)


def test_deaths_without_a_reason_halve_it_after_some_patience():
    tries = Attempts()
    assert [tries.begin(1)[1] for _ in range(PATIENT + 2)] == [0] * PATIENT + [1, 2]


def test_memory_in_use_is_a_share():
    assert 0.0 < attempts.memory_used() < 1.0


def test_the_watch_says_once_that_memory_is_short(monkeypatch):
    said, heard = [], threading.Event()
    monkeypatch.setattr(attempts, "memory_used", lambda: 0.95)
    with attempts.watched(lambda: said.append(1) or heard.set()):
        assert heard.wait(120)
        threading.Event().wait(3 * attempts.POLL_S)
    assert said == [1]


def greedy(tries):
    """Makes a step that dies of batches above 16, as one does that the kernel kills for memory."""

    def do(unit: int) -> list[tuple[int, int]]:
        with attempts.attempt(tries, unit) as halvings:
            batch = 64 >> halvings
            if unit % 2 and batch > 16:
                ray.get(tries.press.remote(unit))
                os.kill(os.getpid(), signal.SIGKILL)
            return [(unit, batch)]

    return do


def deadly(tries):
    """Makes a step that dies of unit 1, whatever is done."""

    def do(unit: int) -> list[int]:
        with attempts.attempt(tries, unit):
            if unit == 1:
                os.kill(os.getpid(), signal.SIGKILL)
            return [unit]

    return do


@pytest.fixture
def by_value():
    """Workers cannot import this file."""
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    yield
    ray.cloudpickle.unregister_pickle_by_value(sys.modules[__name__])


@pytest.mark.faults
def test_killed_workers_go_on_with_smaller_batches_and_lose_nobody(ray_cluster, by_value):
    step = Step(functools.partial(greedy, attempts.counter()), 2, 0.5, held=True)
    assert sorted(flow(range(4), [step])) == [(0, 64), (1, 16), (2, 64), (3, 16)]


@pytest.mark.faults
def test_a_unit_that_always_kills_is_named_in_the_end(ray_cluster, by_value, monkeypatch):
    step = Step(functools.partial(deadly, attempts.counter()), 1, 0.5, held=True)
    with pytest.raises(XhashError, match=f"computing unit 1: it was begun {MOST} times"):
        list(flow(range(2), [step]))
