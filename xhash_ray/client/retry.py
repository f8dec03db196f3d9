"""When to ask again: arithmetic on counts and seconds, no clock and no dice of its own."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from xhash_ray.errors import BadInput

MOST_DOUBLINGS = 60  # beyond it every pause is the longest, and 2.0 ** attempts would overflow some day


@dataclass(frozen=True)
class Retry:
    """How often and how soon a call is tried again.

    The n-th pause is first_pause_s * 2 ** (n - 1), at most longest_pause_s, and a random part of it is left out, so
    that clients that failed together do not come back together. What the endpoint asks for (Retry-After) comes on top.

    Attributes:
        attempts: In all; 1 never asks again.
        first_pause_s: After the first failure.
        longest_pause_s: Bound on what doubling makes of it.
        jitter: The largest part of a pause that may be left out, 0 to 1.

    Raises:
        BadInput: for a policy that cannot be followed.
    """

    attempts: int = 3
    first_pause_s: float = 0.1
    longest_pause_s: float = 5.0
    jitter: float = 0.5

    def __post_init__(self) -> None:
        pauses = (self.first_pause_s, self.longest_pause_s)
        if self.attempts < 1 or not all(pause >= 0 for pause in pauses) or not 0 <= self.jitter <= 1:
            raise BadInput("a retry policy", str(self), "Give attempts >= 1, pauses >= 0 and a jitter from 0 to 1")

    def pause_s(self, failed: int, asked_s: float, left_s: float, chance: float) -> float | None:
        """Seconds to wait before the next attempt, None when there is to be none.

        Args:
            failed: Attempts so far, all failed.
            asked_s: What the endpoint asks to wait; 0 where it asks nothing.
            left_s: Until the call must have ended; a pause that takes all of it is useless.
            chance: Drawn uniformly from 0 to 1.
        """
        if failed >= self.attempts:
            return None
        doubled_s = self.first_pause_s * 2.0 ** min(failed - 1, MOST_DOUBLINGS)
        pause_s = asked_s + min(doubled_s, self.longest_pause_s) * (1 - self.jitter * chance)
        return pause_s if pause_s < left_s else None


DEFAULT = Retry()


def retry_after_s(text: str | None, now: datetime) -> float:
    """The seconds that a Retry-After header asks for: a number or a date; 0 without one, or for what is neither.

    Args:
        text: The header.
        now: With its time zone.

    >>> retry_after_s("2", datetime.now(UTC))
    2.0
    """
    if text is None:
        return 0.0
    if text.isascii() and text.isdecimal():
        return float(text)
    try:
        date = parsedate_to_datetime(text)
        return max(0.0, (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp() - now.timestamp())
    except (ValueError, TypeError, IndexError, OverflowError):
        return 0.0
