"""Evaluation: the queries are cut into parts whose sums are added up, in this process or, where it pays, on Ray."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import pyarrow.compute as pc
import ray

from xhash_ray.core.scanning import check_threads
from xhash_ray.core.shards import even_split
from xhash_ray.errors import BadInput, BadOption
from xhash_ray.evaluation import plots, summary
from xhash_ray.evaluation.protocol import Protocol
from xhash_ray.evaluation.published import chosen
from xhash_ray.evaluation.relevance import pack_label_numbers
from xhash_ray.evaluation.retrieval import (
    Retrievables,
    check_comparable,
    chosen_directions,
    evaluate_rows,
    own_rows,
)
from xhash_ray.options import Evaluate
from xhash_ray.progress import Progress
from xhash_ray.runtime import cluster
from xhash_ray.storage import tables
from xhash_ray.storage import uri as places
from xhash_ray.storage.codes import CODE_COLUMNS, open_codes, to_array
from xhash_ray.storage.features import open_features, to_features
from xhash_ray.storage.where import filter_rows, parse_where

QUERIES_PER_PART = 256
WORTH_A_CLUSTER_S = 30.0  # starting Ray costs some 5 s, and each worker 2
# Measured on one core: one word of a code, one item ranked for a published definition, one cosine grouped.
WORD_NS, RANKED_NS, COSINE_NS = 0.6, 25.0, 150.0


def evaluate(options: Evaluate) -> dict[str, Any]:
    """Retrieval measures of one run, or of several side by side, expected over ties.

    Returns:
        Of one run what `summary.of_run` says (`kind`, `queries`, `database`, `map` by direction, `lowest`, `highest`,
        `chance`, `without_relevant`, `definitions`, `measures`), and `seconds`. Of several `runs`, these by name, and
        `seconds`. With --out and --plots also `out` and `plots`, what was written.

    Raises:
        BadOption: for unknown directions or definitions, or neither or both of --runs and --queries with --database.
        BadInput: when labels are missing, or the two sides cannot be compared.
    """
    protocol = protocol_of(options)
    runs = runs_of(options)
    results = {name: evaluate_run(*uris, options, protocol) for name, uris in runs.items()}
    outcome = results[""] if "" in results else side_by_side(results)
    if options.plots:
        outcome["plots"] = write_plots(results, options.plots)
    if options.out:
        outcome["out"] = places.normalise(options.out)
        places.write_json(outcome["out"], outcome)
    return outcome


def side_by_side(results: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Several runs as one result."""
    return {"runs": results, "seconds": round(sum(run["seconds"] for run in results.values()), 2)}


def protocol_of(options: Evaluate) -> Protocol:
    """What the options ask to be measured, checked."""
    try:
        cutoffs = sorted({int(place) for place in options.at})
    except ValueError:
        raise BadOption("--at", ",".join(map(str, options.at)), "Give places from 1 on, such as 1,10,100") from None
    return Protocol(chosen_directions(options.directions), chosen(options.definitions), options.k, cutoffs)


def runs_of(options: Evaluate) -> dict[str, tuple[str, str]]:
    """Queries and database by name of the run; the name of a single one is empty."""
    if options.runs and not (options.queries or options.database):
        return {name: (str(uri), str(uri)) for name, uri in options.runs.items()}
    if options.queries and options.database and not options.runs:
        return {"": (options.queries, options.database)}
    given = [name for name in ("queries", "database", "runs") if getattr(options, name)]
    found = " and ".join(f"--{name}" for name in given) or "nothing to evaluate"
    raise BadOption("xhash evaluate", found, "Give --queries and --database, or --runs name=URI,...")


def evaluate_run(queries_uri: str, database_uri: str, options: Evaluate, protocol: Protocol) -> dict[str, Any]:
    """One run: loads both sides, spreads the work if it is large, tells the means."""
    queries = load_side(queries_uri, options.queries_where)
    database = load_side(database_uri, options.database_where)
    check_comparable(queries, database, protocol.directions)
    own = own_rows(queries, database, protocol.directions)
    progress = Progress("evaluate", len(queries.labels), "queries")
    threads = check_threads(options.threads)
    spread = expected_seconds(queries, database, protocol, threads) > WORTH_A_CLUSTER_S
    parts = (
        spread_parts(queries, database, protocol, own)
        if spread
        else parts_here(queries, database, protocol, own, threads)
    )
    sums = summary.add(counted(parts, progress))
    result = summary.of_run(sums, protocol, queries.kind, len(database.labels))
    return {**result, "seconds": round(progress.seconds, 2)}


def expected_seconds(queries: Retrievables, database: Retrievables, protocol: Protocol, threads: int) -> float:
    """How long this process would take, roughly."""
    pairs = len(queries.labels) * len(database.labels) * len(protocol.directions)
    words = -(-queries.arrays["image"].shape[1] // 8)
    each_ns = WORD_NS * words / threads if queries.kind == "codes" else COSINE_NS
    return pairs * (each_ns + RANKED_NS * bool(protocol.definitions)) * 1e-9


def cuts(queries: Retrievables, own: np.ndarray | None) -> Iterator[tuple[Retrievables, np.ndarray | None]]:
    """Parts of the queries, the same ones wherever they are evaluated, so that sums round alike."""
    for start, stop in even_split(len(queries.labels), -(-len(queries.labels) // QUERIES_PER_PART)):
        yield queries.rows(start, stop), None if own is None else own[start:stop]


def parts_here(
    queries: Retrievables, database: Retrievables, protocol: Protocol, own: np.ndarray | None, threads: int
) -> Iterator[summary.Sums]:
    """The sums of each part, in this process."""
    for part, rows in cuts(queries, own):
        yield evaluate_rows(part, database, protocol, rows, threads)


def spread_parts(
    queries: Retrievables, database: Retrievables, protocol: Protocol, own: np.ndarray | None
) -> Iterator[summary.Sums]:
    """The sums of each part, in order, from one task per part."""
    with cluster.connected():
        shared = ray.put(database)
        waiting = [evaluate_part.remote(part, shared, protocol, rows) for part, rows in cuts(queries, own)]
        for reference in waiting:
            yield ray.get(reference)


@ray.remote(num_cpus=1)
def evaluate_part(
    queries: Retrievables, database: Retrievables, protocol: Protocol, own: np.ndarray | None
) -> summary.Sums:
    """One part of the queries, on one core."""
    return evaluate_rows(queries, database, protocol, own, threads=1)


def counted(parts: Iterable[summary.Sums], progress: Progress) -> Iterator[summary.Sums]:
    """Passes parts on and says how far it is."""
    for part in parts:
        progress.add(int(next(iter(part.values()))["queries"]))
        yield part


def write_plots(results: dict[str, dict[str, Any]], folder: str) -> list[str]:
    """Draws the curves of all runs together and returns where the pictures are."""
    written = []
    for name, content in plots.draw_curves(results).items():
        place = places.join(places.normalise(folder), name)
        places.write_bytes(place, content)
        written.append(place)
    return written


def load_side(uri: str, condition: str | None) -> Retrievables:
    """Codes or features with labels, whichever the place holds.

    Raises:
        BadInput: when there are no labels, or no rows are left.
    """
    place, where = places.normalise(uri), parse_where(condition)
    found = tables.open_tables(place, "codes or features")
    tables.require_columns(found, ["labels"], "labelled codes or features")
    codes = "image_code" in found.schema.names
    opened = (open_codes(place) if codes else open_features(place)).tables
    table = filter_rows(tables.read_table(opened), where)
    if table.num_rows == 0:
        raise BadInput(f"evaluating {uri}", "no rows", f"Check the folder and the condition '{condition}'")
    if codes:
        arrays = {name.removesuffix("_code"): to_array(table[name]) for name in CODE_COLUMNS}
    else:
        features = to_features(table.drop_columns(["labels"]), place)
        arrays = {"image": features.image, "text": features.text}
    column = table["labels"].combine_chunks()
    rows = pc.list_parent_indices(column).to_numpy(zero_copy_only=False)
    numbers = pc.list_flatten(column).to_numpy(zero_copy_only=False)
    labels = pack_label_numbers(rows.astype(np.int64), numbers.astype(np.int64), table.num_rows)
    return Retrievables("codes" if codes else "features", arrays, labels, table["id"].to_pylist())
