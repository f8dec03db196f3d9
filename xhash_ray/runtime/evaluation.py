"""Evaluation on Ray: the queries are cut into parts, each part's sums are added up."""

from __future__ import annotations

from typing import Any

import ray

from xhash_ray.core.shards import even_split
from xhash_ray.errors import BadInput
from xhash_ray.evaluation.retrieval import DIRECTIONS, Retrievables, check_comparable, evaluate_rows
from xhash_ray.options import Evaluate
from xhash_ray.progress import Progress
from xhash_ray.runtime import cluster
from xhash_ray.storage import tables
from xhash_ray.storage import uri as places
from xhash_ray.storage.codes import CODE_COLUMNS, open_codes, to_array
from xhash_ray.storage.features import label_lists, open_features, to_features
from xhash_ray.storage.where import filter_rows, parse_where

QUERIES_PER_TASK = 256


def evaluate(options: Evaluate) -> dict[str, Any]:
    """Mean average precision over all database items, in both directions, expected over ties.

    Returns:
        `kind` ("codes" or "features"), `queries`, `database`, `map` by direction, `chance` (the mean share of
        relevant items), `without_relevant` (queries that count as 0).

    Raises:
        BadInput: when labels are missing, or the two sides cannot be compared.
    """
    queries = load_side(options.queries, options.queries_where)
    database = load_side(options.database, options.database_where)
    check_comparable(queries, database)
    classes = 1 + max((number for side in (queries, database) for row in side.labels for number in row), default=0)
    parts = even_split(len(queries.labels), max(1, -(-len(queries.labels) // QUERIES_PER_TASK)))
    progress = Progress("evaluate", len(queries.labels), "queries")
    with cluster.connected():
        shared = ray.put(database)
        waiting = [evaluate_part.remote(queries.rows(*part), shared, classes) for part in parts]
        sums: dict[str, float] = {}
        for reference in waiting:
            for name, value in ray.get(reference).items():
                sums[name] = sums.get(name, 0) + value
            progress.add(int(sums["queries"]) - progress.done)
    return {
        "kind": queries.kind,
        "queries": int(sums["queries"]),
        "database": len(database.labels),
        "map": {name: round(sums[name] / sums["queries"], 5) for name, _, _ in DIRECTIONS},
        "chance": round(sums["chance"] / sums["queries"], 5),
        "without_relevant": int(sums["without_relevant"]),
        "seconds": round(progress.seconds, 2),
    }


@ray.remote(num_cpus=1)
def evaluate_part(queries: Retrievables, database: Retrievables, classes: int) -> dict[str, Any]:
    """One part of the queries."""
    return evaluate_rows(queries, database, classes)


def load_side(uri: str, condition: str | None) -> Retrievables:
    """Codes or features with labels, whichever the place holds.

    Raises:
        BadInput: when there are no labels, or no rows are left.
    """
    place, where = places.normalise(uri), parse_where(condition)
    found = tables.open_tables(place, "codes or features")
    tables.require_columns(found, ["labels"], "labelled codes or features")
    if "image_code" in found.schema.names:
        table = filter_rows(tables.read_table(open_codes(place).tables), where)
        arrays = {name.removesuffix("_code"): to_array(table[name]) for name in CODE_COLUMNS}
        side = Retrievables("codes", arrays, label_lists(table["labels"]))
    else:
        features = to_features(filter_rows(tables.read_table(open_features(place).tables), where), place)
        side = Retrievables("features", {"image": features.image, "text": features.text}, features.labels or [])
    if not side.labels:
        raise BadInput(f"evaluating {uri}", "no rows", f"Check the folder and the condition '{condition}'")
    return side
