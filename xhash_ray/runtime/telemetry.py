"""The table of metrics, reported to Ray, whose nodes Prometheus scrapes."""

from __future__ import annotations

from collections.abc import Mapping

from ray.util.metrics import Counter, Histogram

from xhash_ray.telemetry import METRICS


class RayMetrics:
    """Ray's counters and histograms for the metrics of the endpoint."""

    def __init__(self) -> None:
        latency, searches = METRICS["xhash_search_seconds"], METRICS["xhash_searches"]
        self.latency = Histogram(latency.name, latency.meaning, list(latency.buckets), latency.labels)
        self.searches = Counter(searches.name, searches.meaning, searches.labels)

    def refused(self) -> None:
        """Counts a search that could not be answered as it was asked."""
        self.searches.inc(1.0, {"kind": "unusable", "outcome": "refused"})

    def searched(self, kind: str, seconds: Mapping[str, float]) -> None:
        """Counts an answered search and the time of its parts."""
        self.searches.inc(1.0, {"kind": kind, "outcome": "ok"})
        for part, value in seconds.items():
            self.latency.observe(value, {"part": part})
