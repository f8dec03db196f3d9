"""Faults that befall a new generation on its way into service."""

from __future__ import annotations

import threading
import time

from xhash_ray.drilling.pairs import renamed
from xhash_ray.errors import XhashError
from xhash_ray.runtime.drill import clock as drill_clock
from xhash_ray.runtime.drill.fault import CHANGED, Fault
from xhash_ray.runtime.drill.serve import ENCODER, GATEWAY
from xhash_ray.runtime.drill.site import KEPT, READY_S, wait
from xhash_ray.storage import uri as places

SKEWED, SKEW_S, MAKES_WAY = "worker-3", 300.0, "worker-2"
ACTIVATIONS = 6


class StoreGone(Fault):
    """The store is silent while a generation is activated."""

    def inject(self) -> None:
        assert self.site.gate is not None
        self.number = self.site.index.put(self.new_pairs())
        self.site.gate.shut()
        self.said = ""
        self.asking = threading.Thread(target=self.ask)
        self.asking.start()

    def ask(self) -> None:
        """The activation that meets the fault."""
        try:
            self.site.activate(self.number)
        except XhashError as error:
            self.said = str(error)[:250]

    def heal(self) -> None:
        assert self.site.gate is not None
        self.notes.append("the activation waited meanwhile" if self.asking.is_alive() else f"refused: {self.said}")
        self.site.gate.open()
        opened_s = time.monotonic()
        self.asking.join()
        self.activate_at_last(self.number)
        self.wanted = self.number
        self.notes.append(f"activated {time.monotonic() - opened_s:.1f} s after the store was back")

    def undo(self) -> None:
        assert self.site.gate is not None
        self.site.gate.open()


class CorruptFile(Fault):
    """A bit of the codes, then one of the ids: both generations must be refused.

    Files on a local disk are served where they lie: only `xhash index verify` looks at ids and metadata there.
    """

    def inject(self) -> None:
        self.good = self.site.index.number
        for column in ("text_code",) if places.is_local(self.site.index.uri) else ("text_code", "id"):
            number = self.site.index.put(self.new_pairs(), right=False)
            self.site.index.corrupt(number, column)
            self.must_be_refused(number, column)
            self.site.index.roll_back(self.good)

    def must_be_refused(self, number: int, column: str) -> None:
        """Asks for it. Whoever serves it is found out by the oracle, which does not know this generation."""
        try:
            self.site.activate(number)
        except XhashError as error:
            self.notes.append(f"bit of {column} flipped: refused ({error.found[:150]})")
        else:
            self.notes.append(f"bit of {column} flipped: ACCEPTED")

    def heal(self) -> None:
        self.wanted = self.site.index.number
        self.activate_at_last(self.wanted)


class Swaps(Fault):
    """Every kind of change, one after the other."""

    def inject(self) -> None:
        index, spent_s = self.site.index, list[float]()
        before = index.number
        changes = (self.replace, self.delete, index.change_model, self.replace, lambda: index.roll_back(before + 2))
        for change in changes:
            self.wanted = change()
            spent_s.append(self.activate_at_last(self.wanted))
        self.notes.append(f"{len(spent_s)} swaps, {min(spent_s):.2f} to {max(spent_s):.2f} s each until acknowledged")

    def replace(self) -> int:
        """Codes of pairs that are there become others, some of them asked for by id; and new pairs come."""
        asked = sorted({question.id for question in self.site.questions if question.id})[: KEPT // 2]
        fresh = self.new_pairs()
        return self.site.index.put(renamed(fresh, [*asked, *fresh.ids[len(asked) :]]))

    def delete(self) -> int:
        """Pairs go that nobody asks for by id."""
        pairs = self.site.index.pairs
        return self.site.index.delete(pairs.ids[-CHANGED:])


class ClockSkew(Fault):
    """A worker five minutes ahead; generations are activated through every entrance in turn."""

    def prepare(self) -> None:
        try:
            drill_clock.restart_with(self.site.local, SKEWED, drill_clock.skewed(SKEW_S))
            self.fill()
        except XhashError:
            drill_clock.restart_with(self.site.local, SKEWED, {})
            raise

    def fill(self) -> None:
        """Copies of everything onto the node: one that comes back has none, and Serve opens no entrance there.

        Another worker goes until they have moved.
        """
        local, serve = self.site.local, self.site.local_serve
        local.kill(MAKES_WAY)
        local.wait_dead(MAKES_WAY)
        moved = wait(lambda: SKEWED in serve.entrances() and SKEWED in serve.nodes_of(GATEWAY), READY_S)
        local.restart(MAKES_WAY)
        if not moved or not wait(serve.is_whole, READY_S):
            raise XhashError("a node with a wrong clock", f"not whole in time: {serve.said()}", "See Serve's logs")

    def inject(self) -> None:
        serve = self.site.local_serve
        open_now = serve.entrances()
        urls = [url for name, url in self.site.urls_of_workers().items() if name in open_now] or self.site.urls
        for turn in range(ACTIVATIONS):
            self.wanted = self.site.index.put(self.new_pairs())
            self.activate_at_last(self.wanted, urls[-(turn % len(urls)) - 1])
        carried = ", ".join(name for name in (ENCODER, GATEWAY) if SKEWED in serve.nodes_of(name))
        self.notes.append(
            f"{SKEWED}, with {carried}, is {SKEW_S:.0f} s ahead; {ACTIVATIONS} activations, {len(urls)} entrances"
        )

    def undo(self) -> None:
        """The node with the right clock again."""
        drill_clock.restart_with(self.site.local, SKEWED, {})
