"""Scan, tables, or a device such as a GPU? Chosen by what each would take, and said why; the answer is the same list.

A scan's time follows from sizes. That of the tables depends on how near neighbours are and how full buckets, so it is
measured on the codes at hand: a few of them are asked for their own neighbours. A device is measured with one query and
with a batch.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from jaxtyping import Bool, UInt8

from xhash_ray.core import scanning
from xhash_ray.core.hamming import check_codes, search
from xhash_ray.core.tables import Tables, answer_all, build_tables, search_tables
from xhash_ray.core.topk import Hits, check_k
from xhash_ray.errors import BadOption, nearest

if TYPE_CHECKING:
    import torch

PLANS = ("auto", "scan", "tables", "device")
# Measured on two cores of a server of 2025; ratios are what decides, and they vary less than machines do.
READ_BYTES_PER_S = 40e9  # one query is bound by memory: all threads together
WORDS_PER_S = 25e9  # a batch by arithmetic: each thread
WORK_S = 150e-9  # a probe, or a code met: a miss of all caches
SAMPLE = 16  # codes asked for their neighbours
KS = (1, 10, 100, 1000)
BATCH = 64  # queries that a device is measured with, beside one


class Plan(NamedTuple):
    """A choice.

    Attributes:
        name: "scan", "tables" or "device".
        seconds: What each possible plan would take, by name.
        why: In words.
    """

    name: str
    seconds: Mapping[str, float]
    why: str


@dataclass(frozen=True)
class Searcher:
    """Codes that can be searched in more than one way.

    Attributes:
        codes: uint8 [n, bits / 8].
        tables: Of their substrings, where those were wanted.
        work: Probes and codes that a search of the tables meets, by k; median over a few codes as queries. Infinite
            where they gave up.
        on_device: The same codes as a tensor, where that was wanted; searched by `core.tensors`.
        device_s: Seconds of one query there, and of each further one of a batch.
    """

    codes: UInt8[np.ndarray, "n bytes"]
    tables: Tables | None = None
    work: Mapping[int, float] = field(default_factory=dict)
    on_device: "torch.Tensor | None" = None
    device_s: tuple[float, float] = (np.inf, np.inf)

    def plan(self, k: int, queries: int, threads: int | None = None, masked: bool = False) -> Plan:
        """The cheapest way to answer so many queries at once."""
        used = scanning.check_threads(threads)
        seconds = {"scan": scan_seconds(self.codes.shape, queries, used)}
        if masked:
            return Plan("scan", seconds, "scan: only it knows a mask")
        if self.tables is None and self.on_device is None:
            return Plan("scan", seconds, "scan: there are no tables and no device")
        if self.tables is not None:
            seconds["tables"] = self.table_seconds(check_k(k), queries, used)
        if self.on_device is not None:
            seconds["device"] = self.device_s[0] + (queries - 1) * self.device_s[1]
        name = min(seconds, key=lambda each: seconds[each])
        skew = self.tables.skew() if self.tables is not None else None
        return Plan(name, seconds, reason(name, seconds, self.codes.shape, k, queries, skew))

    def table_seconds(self, k: int, queries: int, threads: int) -> float:
        """What the tables take, as measured for the next larger k."""
        larger = [known for known in self.work if known >= min(k, len(self.codes))]
        work = self.work[min(larger)] if larger else np.inf
        return float(work * WORK_S * queries / min(threads, queries))

    def search(
        self,
        queries: UInt8[np.ndarray, "q bytes"],
        k: int,
        *,
        plan: str = "auto",
        threads: int | None = None,
        mask: Bool[np.ndarray, " n"] | None = None,
    ) -> Hits:
        """`hamming.search` by the plan that is cheapest, or by the one named.

        Raises:
            BadOption: for an unknown plan, tables or a device where there are none, or those with a mask.
        """
        if plan not in PLANS:
            raise BadOption("search plan", f"no '{plan}'", nearest(plan, PLANS))
        if plan == "auto":
            check_codes(self.codes, queries)
            plan = self.plan(k, max(1, len(queries)), threads, masked=mask is not None).name
        if plan == "scan":
            return search(self.codes, queries, k, threads=threads, mask=mask)
        there: Any = self.tables if plan == "tables" else self.on_device
        if there is None or mask is not None:
            found = "a mask was given" if there is not None else "there is none"
            raise BadOption("search plan", f"'{plan}', but {found}", "Ask for the plan 'auto' or 'scan'")
        if plan == "device":
            return search_device(there, queries, k)
        return search_tables(there, queries, k, threads=threads)


def prepare(
    codes: UInt8[np.ndarray, "n bytes"], threads: int | None = None, tables: bool = True, device: str | None = None
) -> Searcher:
    """Builds tables and measures them, and copies the codes to a device ("cuda") and measures that.

    Errors as of `build_tables`; those of torch for a device that is not there or too small.
    """
    searcher = Searcher(codes)
    if tables:
        built = build_tables(codes, threads)
        asked = codes[np.linspace(0, len(codes) - 1, min(SAMPLE, len(codes))).astype(np.int64)]
        searcher = replace(searcher, tables=built, work={k: measured_work(built, asked, k) for k in KS})
    if device is not None:
        import torch  # only whoever has a device waits for it

        moved = torch.from_numpy(codes).to(device)
        one, batch = (device_seconds(moved, codes[:count]) for count in (1, BATCH))
        searcher = replace(searcher, on_device=moved, device_s=(one, max(0.0, batch - one) / (BATCH - 1)))
    return searcher


def search_device(codes: "torch.Tensor", queries: UInt8[np.ndarray, "q bytes"], k: int) -> Hits:
    """`tensors.search`, its answer brought back."""
    import torch

    from xhash_ray.core import tensors

    hits = tensors.search(codes, torch.from_numpy(np.ascontiguousarray(queries)).to(codes.device), k)
    return Hits(hits.distances.cpu().numpy(), hits.rows.cpu().numpy())


def device_seconds(codes: "torch.Tensor", queries: np.ndarray) -> float:
    """The faster of two searches; the first warms up."""
    seconds = []
    for _ in range(3):
        started_s = time.perf_counter()
        search_device(codes, queries, min(100, max(1, len(codes))))
        seconds.append(time.perf_counter() - started_s)
    return min(seconds[1:])


def measured_work(tables: Tables, queries: np.ndarray, k: int) -> float:
    """The median work over some codes as queries, which find themselves, too; infinite where half of them gave up."""
    answers = answer_all(tables, queries, min(k + 1, len(tables.codes)), threads=1)
    return float(np.median([np.inf if hits is None else work for hits, work in answers]))


def scan_seconds(shape: tuple[int, ...], queries: int, threads: int) -> float:
    """What a scan takes: memory read once, or words compared, whichever is more."""
    n, width = shape
    words = -(-width // scanning.WORD_BYTES)
    groups = max(1, min(threads, queries // scanning.GROUP_QUERIES))
    return max(groups * n * width / READ_BYTES_PER_S, n * words * queries / (WORDS_PER_S * threads))


def reason(
    name: str, seconds: Mapping[str, float], shape: tuple[int, ...], k: int, queries: int, skew: float | None
) -> str:
    """The choice in a sentence."""
    told = {
        each: "would meet too many codes" if np.isinf(value) else f"{value * 1000:.2f} ms"
        for each, value in seconds.items()
    }
    asked = f"{queries} queries for {k} of {shape[0]:,} codes of {shape[1] * 8} bits"
    if skew is not None:
        told["tables"] += f" (buckets {skew:.1f} times as full as even ones)"
    return f"{name}: {asked}; " + ", ".join(f"{each} {value}" for each, value in told.items())
