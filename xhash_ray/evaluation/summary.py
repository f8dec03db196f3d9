"""Sums of measures, added up and told as means."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from xhash_ray.evaluation.measures import RADIUS, RECALL_LEVELS
from xhash_ray.evaluation.protocol import Protocol, curve_places

Sums = dict[str, dict[str, Any]]  # by direction, by measure
DIGITS = 5


def add(parts: Iterable[Sums]) -> Sums:
    """Sums over disjoint parts of the queries, as sums over all of them."""
    total: Sums = {}
    for part in parts:
        for direction, values in part.items():
            into = total.setdefault(direction, {})
            for name, value in values.items():
                into[name] = into[name] + value if name in into else value
    return total


def of_direction(sums: Mapping[str, Any], protocol: Protocol, items: int) -> dict[str, Any]:
    """Means of one direction.

    Returns:
        `map`, `lowest`, `highest`, `chance`; `queries`, `without_relevant`; `precision_at`, `recall_at`, `ndcg_at` by
        cut-off; of codes `precision_within_radius_2` and `empty_within_radius_2` (the share of queries with nothing
        there, which count as 0); `definitions` by name; `curves`: `recall` and `precision`, `places` and
        `precision_at_places`, of codes also `radius_precision` and `radius_recall`, one value per radius from 0.
    """
    queries = max(1.0, float(sums["queries"]))
    means = {name: np.asarray(value / queries) for name, value in sums.items()}
    cut = len(protocol.cutoffs)
    result: dict[str, Any] = {name: rounded(means[name]) for name in ("map", "lowest", "highest", "chance")}
    result |= {"queries": int(sums["queries"]), "without_relevant": int(sums["without_relevant"])}
    for name in ("precision_at", "recall_at", "ndcg_at"):
        result[name] = dict(zip(map(str, protocol.cutoffs), rounded(means[name][:cut]), strict=True))
    curves = {"recall": rounded(RECALL_LEVELS), "precision": rounded(means["curve"])}
    curves |= {"places": curve_places(items), "precision_at_places": rounded(means["precision_at"][cut:])}
    if "radius_precision" in means:
        result[f"precision_within_radius_{RADIUS}"] = rounded(means["radius_precision"][RADIUS])
        result[f"empty_within_radius_{RADIUS}"] = rounded(means["radius_empty"])
        curves |= {name: rounded(means[name]) for name in ("radius_precision", "radius_recall")}
    definitions = {name: rounded(sums[name] / max(1.0, sums[f"{name}/counted"])) for name in protocol.definitions}
    return {**result, "definitions": definitions, "curves": curves}


def of_run(sums: Sums, protocol: Protocol, kind: str, items: int) -> dict[str, Any]:
    """Means of all directions.

    Returns:
        `kind`, `queries`, `database`; `map`, `lowest`, `highest` by direction; `chance` and `without_relevant` of the
        first direction (queries that are dropped from the database within a modality change them a little);
        `definitions` by name and direction, `k` their cut-off; `measures` by direction, as `of_direction` says.
    """
    measures = {name: of_direction(values, protocol, items) for name, values in sums.items()}
    first = next(iter(measures.values()))
    main = {key: {name: each.pop(key) for name, each in measures.items()} for key in ("map", "lowest", "highest")}
    found = {name: each.pop("definitions") for name, each in measures.items()}
    return {
        "kind": kind,
        "queries": first["queries"],
        "database": items,
        **main,
        "chance": first["chance"],
        "without_relevant": first["without_relevant"],
        "definitions": {d: {name: each[d] for name, each in found.items()} for d in protocol.definitions},
        "k": protocol.k,
        "measures": measures,
    }


def rounded(value: Any) -> Any:
    """A number, or a list of numbers, to five digits."""
    return np.round(np.asarray(value, dtype=np.float64), DIGITS).tolist()
