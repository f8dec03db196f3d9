"""One policy for what fails of the moment: try again, later and later, and not for ever.

Whoever runs a unit of work (a part of an extraction, a checkpoint, a commit) runs it through `patiently`. A unit must
give the same when it is run twice. Units within units would multiply their patience: one level only.
"""

from __future__ import annotations

import itertools
import random
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

from xhash_ray.errors import Unreachable
from xhash_ray.storage.failures import is_of_storage, storage_error

T = TypeVar("T")

PATIENCE_S = 300.0  # stores that restart, and credentials of machines that are renewed, are back by then
SHORTEST_WAIT_S, FIRST_WAIT_S, LONGEST_WAIT_S = 0.001, 0.2, 20.0  # a wait that moves no clock would never end


def is_transient(error: BaseException) -> bool:
    """Whether the same may succeed when it is tried again: what does not answer, answers half, or is overloaded.

    What was given wrongly (a bucket, credentials, an endpoint's name: BadInput) is not.
    """
    if isinstance(error, Unreachable):
        return True
    return isinstance(error, Exception) and is_of_storage(error) and isinstance(storage_error("", error), Unreachable)


def patiently(
    do: Callable[[], T],
    patience_s: float = PATIENCE_S,
    say: Callable[[str], None] | None = None,
    sleep: Callable[[float], object] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
    rng: random.Random | None = None,
) -> T:
    """Does something, again while it fails of the moment, and returns what it returns.

    Between tries it waits a random time up to a bound that doubles (full jitter), so that many workers do not come
    back at once. Source: aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter.

    Args:
        do: The work.
        patience_s: No try begins later than this after the first began.
        say: Told of every failure that is tried again, in a line.
        sleep: Waits so many seconds.
        clock: Seconds, ever rising.
        rng: Draws the waits.

    Raises:
        Unreachable: when patience is at an end; says how often and how long it was tried.
        Exception: whatever else `do` raises, at once.
    """
    rng, began_s, tries = rng or random.Random(), clock(), 0
    while True:
        try:
            return do()
        except Exception as error:
            tries += 1
            wait_s = wait_after(error, tries, clock() - began_s, patience_s, rng)
            if say:
                failed = as_unreachable(error)
                say(f"{failed.asked}: {failed.found}; trying again in {wait_s:.1f} s (failures so far: {tries})")
        sleep(wait_s)


def patiently_each(
    make: Callable[[], Iterator[T]],
    patience_s: float = PATIENCE_S,
    sleep: Callable[[float], object] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
    rng: random.Random | None = None,
) -> Iterator[T]:
    """What an iterator gives; where it fails of the moment, a new one goes on behind what was given.

    Every value that comes renews the patience.

    Args:
        make: Gives an iterator that gives the same every time.
        patience_s: As of `patiently`, and so are the others.

    Raises:
        Unreachable: when patience is at an end.
        Exception: whatever else the iterator raises, at once.
    """
    rng, given, began_s, tries = rng or random.Random(), 0, clock(), 0
    while True:
        try:
            for value in itertools.islice(make(), given, None):
                given, began_s, tries = given + 1, clock(), 0
                yield value
            return
        except Exception as error:
            tries += 1
            wait_s = wait_after(error, tries, clock() - began_s, patience_s, rng)
        sleep(wait_s)


def wait_after(error: Exception, tries: int, spent_s: float, patience_s: float, rng: random.Random) -> float:
    """Seconds to wait after a failure.

    Raises:
        Unreachable: when patience is at an end.
        Exception: the failure itself, where it is not of the moment.
    """
    if not is_transient(error):
        raise error
    if spent_s >= patience_s - SHORTEST_WAIT_S:
        raise given_up(error, tries, spent_s) from error
    return min(wait_of(tries, rng), patience_s - spent_s)


def wait_of(tries: int, rng: random.Random) -> float:
    """Seconds to wait after so many failures."""
    return rng.uniform(0.0, min(LONGEST_WAIT_S, FIRST_WAIT_S * 2.0 ** min(tries - 1, 30)))


def as_unreachable(error: Exception) -> Unreachable:
    """A transient error as this project's."""
    if isinstance(error, Unreachable):
        return error
    told = storage_error("the object store", error, "asking")
    return Unreachable(told.asked, told.found, told.do)


def given_up(error: Exception, tries: int, spent_s: float) -> Unreachable:
    """The last error, and how often and how long it was tried."""
    last = as_unreachable(error)
    times = "once" if tries == 1 else f"{tries} times in {spent_s:.0f} s"
    return Unreachable(last.asked, f"{last.found} (tried {times})", last.do)
