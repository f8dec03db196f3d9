"""What a verb over units says in the end."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from xhash_ray.features.facts import DIGEST_KEY
from xhash_ray.pipeline.watching import Snapshot
from xhash_ray.storage import tables
from xhash_ray.storage import uri as places
from xhash_ray.storage.unit_log import UnitFacts, UnitLog
from xhash_ray.storage.writing import REJECTS


def summary(
    log: UnitLog,
    done: Mapping[int, UnitFacts],
    seconds: float,
    last: Snapshot | None = None,
    report: str | None = None,
) -> dict[str, Any]:
    """Counts of a published result.

    Args:
        log: Of the run.
        done: All its units.
        seconds: Of this start.
        last: The run at its end, None where nothing was left to do.
        report: URI of the closing report.

    Returns:
        `out`, `pairs` (rows written), `rejected`, `rejected_by`, `rejects` (where they are), `input_pairs`,
        `done_before` (pairs of earlier starts), `files`, `size_bytes`, `seconds`, `pairs_per_s` (of this start),
        `bottleneck`, `report`, and `encoder`, `bits`, `method`, `model_fingerprint` where the result has them.
    """
    facts = tables.read_manifest(log.uri) or {}
    rejected: dict[str, int] = {}
    for unit in done.values():
        for kind, count in unit.rejected.items():
            rejected[kind] = rejected.get(kind, 0) + count
    pairs = sum(unit.rows for unit in done.values())
    result: dict[str, Any] = {
        "out": log.uri,
        "pairs": pairs,
        "rejected": sum(rejected.values()),
        "rejected_by": dict(sorted(rejected.items())),
        "rejects": places.join(log.uri, REJECTS) if rejected else None,
        "input_pairs": sum(unit.pairs for unit in done.values()),
        "done_before": last.before if last else pairs,
        "files": sum(1 for unit in done.values() if unit.part),
        "size_bytes": sum(unit.part.size_bytes for unit in done.values() if unit.part),
        "seconds": round(seconds, 2),
        "pairs_per_s": round(last.pairs_per_s_overall, 1) if last else 0.0,
        "bottleneck": busiest(last),
        "report": report,
    }
    encoder = facts.get("encoder") or {}
    if facts.get("kind") == "features" and encoder:
        result["encoder"] = {"model": encoder["model"], DIGEST_KEY: encoder[DIGEST_KEY]}
    return result | {name: facts[name] for name in ("bits", "method", "model_fingerprint") if name in facts}


def busiest(last: Snapshot | None) -> str | None:
    """The stage that was busiest over the whole run, with the share of its time."""
    if not last or not last.utilisation_overall:
        return None
    name, share = max(last.utilisation_overall.items(), key=lambda item: item[1])
    return f"{name} ({share:.0%} busy)"
