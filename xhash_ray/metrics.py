"""`xhash metrics`: what is reported. A file of its own: it must not wait for torch."""

from __future__ import annotations

import dataclasses
from typing import Any

from xhash_ray.options import Metrics
from xhash_ray.reports.metrics import page
from xhash_ray.telemetry import METRICS


def list_metrics(options: Metrics) -> dict[str, Any]:
    """Every metric that is declared.

    Returns:
        `metrics`: name, kind, unit, meaning, labels, buckets, group of each; `page`, where it was asked for.
    """
    found = [dataclasses.asdict(metric) for metric in METRICS.values()]
    return {"metrics": found, "page": page(found)} if options.markdown else {"metrics": found}
