"""What a fault is: something that is done to a site, mended, and looked at afterwards."""

from __future__ import annotations

import time

from xhash_ray.drilling.pairs import Pairs, draw
from xhash_ray.errors import XhashError
from xhash_ray.runtime.drill.site import Site

AGAIN_S, ASKING_S = 0.5, 90.0  # between two tries of an activation, and for all of them
CHANGED = 300  # pairs of a change


class Fault:
    """A fault. The base of all: nothing happens, and nothing has to be mended.

    Attributes:
        wanted: Generation that must be served in the end; None for whichever.
        notes: What the report says of it.
    """

    def __init__(self, site: Site) -> None:
        self.site = site
        self.wanted: int | None = None
        self.notes: list[str] = []

    def prepare(self) -> None:
        """What happens before the clock starts.

        Raises:
            XhashError: when it cannot be had on this machine; everything is then as it was.
        """

    def inject(self) -> None:
        """Does it."""

    def heal(self) -> None:
        """Mends what does not mend itself."""

    def check(self) -> None:
        """What else must be possible afterwards.

        Raises:
            XhashError: when it is not.
        """

    def undo(self) -> None:
        """Takes back what must not outlast the scenario, whatever became of it; again where it is mended already.

        Raises:
            XhashError: when that cannot be.
        """

    def new_pairs(self) -> Pairs:
        """Pairs that were never there."""
        number = self.site.index.number
        return draw(CHANGED, self.site.index.bits, 1000 + number, f"new-{number:03d}")

    def activate_at_last(self, number: int, url: str | None = None) -> float:
        """Has a generation served, asked again until it is; seconds it took.

        Raises:
            XhashError: as the last try did, when time is over.
        """
        started_s = time.monotonic()
        while True:
            try:
                self.site.activate(number, url)
                return time.monotonic() - started_s
            except XhashError as error:
                if time.monotonic() - started_s > ASKING_S:
                    raise
                self.notes.append(f"activation of {number} refused: {error}"[:250])
                time.sleep(AGAIN_S)
