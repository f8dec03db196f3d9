"""Parts that are killed or cut off, and how they are mended; and all faults by their scenario's name."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from xhash_ray.runtime.drill.fault import Fault
from xhash_ray.runtime.drill.generations import ClockSkew, CorruptFile, StoreGone, Swaps
from xhash_ray.runtime.drill.serve import ENCODER, REPLICAS
from xhash_ray.runtime.drill.site import Site
from xhash_ray.runtime.local.plan import HEAD

VICTIM = "worker-2"
LATE_MS, LOST_PERCENT = 100.0, 1.0


class ReplicaKilled(Fault):
    """One copy of the first group."""

    def inject(self) -> None:
        self.site.serve.kill("shards-0", 1)


class ShardGone(Fault):
    """All copies of the second group."""

    def inject(self) -> None:
        killed = self.site.serve.kill("shards-1", REPLICAS)
        self.notes.append(f"{killed} copies killed")


class EncoderGone(Fault):
    """All copies of the encoder, which also remember what is served."""

    def inject(self) -> None:
        killed = self.site.serve.kill(ENCODER, REPLICAS)
        self.notes.append(f"{killed} copies killed")


class NodeKilled(Fault):
    """A worker."""

    def inject(self) -> None:
        self.site.local.kill(VICTIM)

    def heal(self) -> None:
        self.site.local.restart(VICTIM)


class HeadRestarted(Fault):
    """The head. Afterwards a new generation must still be activated."""

    def inject(self) -> None:
        self.site.local.kill(HEAD)

    def heal(self) -> None:
        self.site.local.restart(HEAD)

    def check(self) -> None:
        spent_s = self.activate_at_last(self.site.index.put(self.new_pairs()))
        self.notes.append(f"a new generation was activated afterwards, in {spent_s:.1f} s")


class SlowNetwork(Fault):
    """A worker's wire."""

    def inject(self) -> None:
        self.site.local.delay(VICTIM, LATE_MS, LOST_PERCENT)
        self.notes.append(f"{LATE_MS:g} ms each way and {LOST_PERCENT:g}% lost")

    def heal(self) -> None:
        self.site.local.heal(VICTIM)

    def undo(self) -> None:
        self.heal()


class NodeCutOff(Fault):
    """A worker that lives and that nobody reaches; believed dead, it has to be started anew."""

    def inject(self) -> None:
        self.site.local.partition(VICTIM)

    def heal(self) -> None:
        cluster = self.site.local
        believed_dead = VICTIM not in cluster.alive()
        cluster.heal(VICTIM)
        if believed_dead:
            cluster.kill(VICTIM)
            cluster.restart(VICTIM)
        self.notes.append("believed dead and started anew" if believed_dead else "back before it was missed")

    def undo(self) -> None:
        self.site.local.heal(VICTIM)


FAULTS: Mapping[str, Callable[[Site], Fault]] = {
    "replica-killed": ReplicaKilled,
    "shard-gone": ShardGone,
    "node-killed": NodeKilled,
    "head-restarted": HeadRestarted,
    "encoder-gone": EncoderGone,
    "store-gone-in-swap": StoreGone,
    "corrupt-file": CorruptFile,
    "swaps": Swaps,
    "slow-network": SlowNetwork,
    "node-cut-off": NodeCutOff,
    "clock-skew": ClockSkew,
}
