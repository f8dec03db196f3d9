"""Hedging: a slow replica is overtaken, an error is one when nobody else is asked, and nobody asks without need."""

import asyncio

import pytest

from tests import simulated_time
from xhash_ray.serving.backends import REMEMBERED, Hedging


class Replicas:
    """Each call is the next one's: how long it takes, and what it answers."""

    def __init__(self, *calls) -> None:
        self.calls, self.asked, self.cancelled = list(calls), 0, 0

    async def __call__(self):
        seconds, answer = self.calls[self.asked]
        self.asked += 1
        try:
            await asyncio.sleep(seconds)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if isinstance(answer, Exception):
            raise answer
        return answer


def hedging(usual_s: float = 0.001) -> Hedging:
    """One that has seen many answers."""
    made = Hedging(least_s=0.01)
    made.lately.extend([usual_s] * REMEMBERED)
    return made


def asked(made: Hedging, replicas: Replicas):
    """One question, and what became of the one who lost."""

    async def scene():
        answer = await made.first(replicas)
        await asyncio.sleep(0)
        return answer

    return simulated_time.run(scene())


def test_a_slow_replica_is_overtaken_and_let_go():
    replicas = Replicas((5, "slow"), (0.01, "quick"))
    made = hedging()
    assert asked(made, replicas) == "quick"
    assert made.lately[-1] == pytest.approx(0.02), "the patience with the first, and what the second took"
    assert (replicas.asked, replicas.cancelled) == (2, 1)


def test_a_quick_one_is_asked_alone():
    replicas = Replicas((0.001, "quick"), (0, "never asked"))
    assert asked(hedging(), replicas) == "quick"
    assert replicas.asked == 1


def test_patience_follows_what_was_seen():
    assert Hedging().patience_s() == 1.0, "nothing is known yet"
    assert hedging(0.2).patience_s() == 0.2
    assert hedging(0.001).patience_s() == 0.01


def test_the_second_may_answer_after_the_first_failed():
    assert asked(hedging(), Replicas((0.03, OSError("dead")), (0.06, "alive"))) == "alive"


@pytest.mark.parametrize("second", [(0.001, OSError("both")), (0.05, OSError("both"))])
def test_an_error_is_one_when_nobody_is_left(second):
    with pytest.raises(OSError, match=r"both|dead"):
        asked(hedging(), Replicas((0.03, OSError("dead")), second))


def test_an_error_at_once_is_not_waited_with():
    replicas = Replicas((0.0, OSError("dead")), (0, "the next try is the caller's"))
    with pytest.raises(OSError, match="dead"):
        asked(hedging(), replicas)
    assert replicas.asked == 1
