"""When service is whole again: arithmetic on the books, no clock of its own."""

from __future__ import annotations

from collections.abc import Sequence

from xhash_ray.drilling.ledger import Event

STEADY_S = 3.0


def recovered_after_s(
    events: Sequence[Event], injected_s: float, now_s: float, wanted: int | None = None, steady_s: float = STEADY_S
) -> float | None:
    """Seconds from an injection to the first moment after which all answers are complete and right for a while.

    Args:
        events: In the order in which they ended, from the injection on.
        injected_s: When it was, on their clock.
        now_s: Until when they were written down.
        wanted: The generation that all answers of the last steady_s must name; None for any.
        steady_s: How long that must last.

    Returns:
        0 where no answer ever was anything else; None while that moment cannot be told, which is also so when nobody
        was answered for the last steady_s.
    """
    last_bad = max((place for place, event in enumerate(events) if not event.good), default=-1)
    after = events[last_bad + 1 :]
    if not after:
        return None
    began_s = after[0].ended_s if last_bad >= 0 else injected_s
    lately = [event for event in after if event.ended_s > now_s - steady_s]
    if now_s - began_s < steady_s or not lately:
        return None
    if wanted is not None and any(event.generation != wanted for event in lately):
        return None
    return began_s - injected_s
