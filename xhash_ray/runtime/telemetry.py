"""The table of metrics, reported to Ray, whose nodes Prometheus scrapes (as `ray_NAME`; see deploy/METRICS.md).

A process sends what it has to its node every ten seconds, and what is left when it ends. Counters of processes that
have ended stay with the node. A gauge is sent once each time it is set, and forgotten by the node twenty seconds later.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Mapping

from ray.util.metrics import Counter, Gauge, Histogram

from xhash_ray import telemetry
from xhash_ray.telemetry import METRICS, Metric

REPEAT_S = 5.0


class RayMetrics:
    """Ray's counters, gauges and histograms, made when first reported; a `telemetry.Backend`."""

    shared = True

    def __init__(self) -> None:
        self.made: dict[str, Counter | Gauge | Histogram] = {}
        self.making, self.setting = threading.Lock(), threading.Lock()
        self.kept: dict[tuple[str, frozenset[tuple[str, str]]], float] | None = None

    def add(self, name: str, value: float, labels: Mapping[str, str]) -> None:
        """See `Backend`."""
        if value > 0:  # Ray refuses to add nothing
            self.metric(name).inc(value, dict(labels))

    def set(self, name: str, value: float, labels: Mapping[str, str]) -> None:
        """See `Backend`."""
        with self.setting:
            if self.kept is not None:
                self.kept[name, frozenset(labels.items())] = value
            self.metric(name).set(value, dict(labels))

    def observe(self, name: str, value: float, labels: Mapping[str, str]) -> None:
        """See `Backend`."""
        self.metric(name).observe(value, dict(labels))

    def metric(self, name: str) -> Counter | Gauge | Histogram:
        """Ray's metric of a declaration."""
        found = self.made.get(name)
        if found is None:
            with self.making:
                found = self.made.setdefault(name, as_rays(METRICS[name]))
        return found

    @contextlib.contextmanager
    def kept_up(self, every_s: float = REPEAT_S) -> Iterator[None]:
        """Says every gauge that is set in this block again and again, until its end."""
        if self.kept is not None:  # an outer block does
            yield
            return
        self.kept, over = {}, threading.Event()
        thread = threading.Thread(target=self.repeat, args=(over, every_s), name="metrics to Ray", daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()
            self.kept = None

    def repeat(self, over: threading.Event, every_s: float) -> None:
        """Says all gauges again until it is over."""
        while not over.wait(every_s):
            with self.setting:
                for (name, labels), value in (self.kept or {}).items():
                    self.metric(name).set(value, dict(labels))


def as_rays(metric: Metric) -> Counter | Gauge | Histogram:
    """A declaration as Ray's metric."""
    if metric.kind == "histogram":
        return Histogram(metric.name, metric.meaning, list(metric.buckets), metric.labels)
    return (Counter if metric.kind == "counter" else Gauge)(metric.name, metric.meaning, metric.labels)


REPORTED = RayMetrics()


def report_to_ray() -> None:
    """Has this process report to Ray from now on: in every process that reports, as often as is convenient.

    What was attached in the process that sent the work does not come along.
    """
    telemetry.attach(REPORTED)


@contextlib.contextmanager
def reported_to_ray() -> Iterator[None]:
    """Has a driver report to Ray while a block runs, and keeps its gauges up: it may outlive its connection."""
    with telemetry.attached(REPORTED), REPORTED.kept_up():
        yield
