"""What processes of an endpoint report of themselves, again and again: what they serve, hold and take.

Ray passes a gauge on once and forgets it after twenty seconds, so all of it is said every five, changed or not; what a
process that has ended said last is gone as soon.
"""

from __future__ import annotations

import asyncio
import logging
import os
import resource
import shutil
import socket
import sys
import tempfile
import threading
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from xhash_ray import telemetry
from xhash_ray.core.bandwidth import READ_BYTES, read_bandwidth
from xhash_ray.index import health
from xhash_ray.index.generations import Generation
from xhash_ray.index.health import Health
from xhash_ray.index.segments import CACHE_VARIABLE, MODALITIES
from xhash_ray.serving.backends import GroupServer
from xhash_ray.serving.gateway import Gateway
from xhash_ray.serving.groups import Group, shards_of_groups

EVERY_S = 5.0
log = logging.getLogger(__name__)


class GatewayReport:
    """What a gateway says of itself.

    Args:
        gateway: It.
        replica: Its id.
    """

    def __init__(self, gateway: Gateway, replica: str) -> None:
        self.gateway, self.replica = gateway, replica
        self.means: Mapping[str, np.ndarray] = {}
        self.generation = 0  # that they are of

    async def __call__(self) -> None:
        """Says it once."""
        router, served = self.gateway.router, self.gateway.router.served
        if served is None:
            return
        answering = await router.probe(served)
        sample = self.gateway.sample.taken(served.generation.facts["model_fingerprint"])
        waited = router.waited()
        await asyncio.to_thread(self.report, served.generation, answering, sample, waited)

    def report(
        self, generation: Generation, answering: Sequence[bool], sample: Mapping[str, np.ndarray], waited: int
    ) -> None:
        """Says what has been found."""
        telemetry.set("xhash_activated_generation", generation.number, gateway=self.replica)
        telemetry.set("xhash_waiting_searches", waited, gateway=self.replica)
        for shards, answers in zip(shards_of_groups(generation.shards, len(answering)), answering, strict=True):
            for shard in shards:
                telemetry.set("xhash_shard_answering", answers, gateway=self.replica, shard=str(shard))
        self.report_queries(generation, sample)

    def report_queries(self, generation: Generation, sample: Mapping[str, np.ndarray]) -> None:
        """The health of the queries' codes, and how far they are from the index's codes of the same modality."""
        if self.generation != generation.number:
            self.means = health.bit_means(generation)
            self.generation = generation.number
        for modality, codes in sample.items():
            found = health.health_of(codes)
            health.report(found, "queries", modality, self.replica)
            if modality in self.means:
                value = health.drift(found.means, self.means[modality])
                telemetry.set("xhash_code_drift_ratio", value, modality=modality, where=self.replica)


class GroupReport:
    """What a replica of a group of shards says of itself.

    Of the codes' health only the first group speaks: shards are dealt by hashes of ids, so its rows are a random
    sample of the index.

    Args:
        server: The group.
        replica: Its id.
        read_bytes: Memory that is read once, here, to see how fast that is.
    """

    def __init__(self, server: GroupServer, replica: str, read_bytes: int = READ_BYTES) -> None:
        self.holder, self.labels = server.holder, {"group": str(server.holder.part), "replica": replica}
        self.bandwidth = read_bandwidth(server.holder.threads, read_bytes)
        self.health: Mapping[str, Health] = {}
        self.generation = 0  # that it is of

    def __call__(self) -> None:
        """Says it once."""
        telemetry.set("xhash_memory_bandwidth_bytes_per_second", self.bandwidth, **self.labels)
        held = self.holder.groups.all()
        if not held:
            return
        newest = max(held)
        telemetry.set("xhash_loaded_generation", newest, **self.labels)
        telemetry.set("xhash_group_pairs", held[newest].pairs, **self.labels)
        telemetry.set("xhash_group_code_bytes", code_bytes([*held.values()]), **self.labels)
        if self.holder.part == 0:
            self.report_health(newest, held[newest])

    def report_health(self, generation: int, group: Group) -> None:
        """The health of the index's codes, measured once per generation."""
        if self.generation != generation:
            parts = {each: [segment.codes[each] for segment in group.shard.segments] for each in MODALITIES}
            known = {each: arrays for each, arrays in parts.items() if any(map(len, arrays))}
            self.health = {each: health.health_of(health.sample_of(arrays)) for each, arrays in known.items()}
            self.generation = generation
        for modality, found in self.health.items():
            health.report(found, "index", modality, self.labels["replica"])


def code_bytes(groups: Sequence[Group]) -> int:
    """Memory of the codes of some generations' groups; segments that they share count once."""
    segments = [segment for group in groups for segment in group.shard.segments]
    return sum({id(codes): codes.nbytes for each in segments for codes in each.codes.values()}.values())


def report_process(role: str, replica: str) -> None:
    """A process' memory, and how full the disk is to which segments are fetched.

    Args:
        role: "gateway", "shards" or "encoder".
        replica: Its id.
    """
    telemetry.set("xhash_process_resident_bytes", resident_bytes(), role=role, replica=replica)
    telemetry.set("xhash_cache_disk_free_ratio", free_ratio(), node=socket.gethostname(), replica=replica)


def resident_bytes() -> int:
    """Resident memory of this process; where the system does not tell, the most there was."""
    try:
        with open("/proc/self/statm", encoding="ascii") as file:  # proc(5): size, resident, ... in pages
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return most if sys.platform == "darwin" else most * 1024


def free_ratio() -> float:
    """Free share of the disk of the cache, which need not exist yet."""
    folder = Path(os.environ.get(CACHE_VARIABLE, os.path.join(tempfile.gettempdir(), "xhash-cache"))).absolute()
    there = next(each for each in (folder, *folder.parents) if each.exists())
    usage = shutil.disk_usage(there)
    return usage.free / usage.total


async def keep_saying(say: Callable[[], Awaitable[None]], every_s: float = EVERY_S) -> None:
    """Says it for ever; one time that fails is no reason to fall silent."""
    while True:
        try:
            await say()
        except Exception as error:
            log.warning("reporting: %r", error)
        await asyncio.sleep(every_s)


def keep_saying_aside(say: Callable[[], None], every_s: float = EVERY_S) -> threading.Event:
    """The same in a thread of its own, until the event that is returned is set."""
    ended = threading.Event()

    def work() -> None:
        while True:
            try:
                say()
            except Exception as error:
                log.warning("reporting: %r", error)
            if ended.wait(every_s):
                return

    threading.Thread(target=work, name="xhash-reporting", daemon=True).start()
    return ended
