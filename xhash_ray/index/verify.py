"""Is an index what its generation says? Checksums, counts, code statistics, and that stored pairs find themselves."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from xhash_ray.core.hamming import search_tied, to_words
from xhash_ray.core.shards import shard_of
from xhash_ray.errors import BadInput, XhashError
from xhash_ray.index import generations
from xhash_ray.index.generations import Generation
from xhash_ray.index.segments import MODALITIES, Segment, checked_file, count_ones, open_segment
from xhash_ray.index.shard import deleted_in
from xhash_ray.options import IndexVerify
from xhash_ray.progress import Progress
from xhash_ray.storage import uri as places
from xhash_ray.storage.artefact import read_artefact

SAMPLE = 100  # stored pairs of each segment that are asked for themselves


def verify(options: IndexVerify) -> dict[str, Any]:
    """Checks an index; says all that is wrong, not only the first.

    Returns:
        `index`, `generation`, `files`, `rows`, `problems` (none).

    Raises:
        XhashError: when something is wrong; the error lists it.
        BadInput: when there is no index.
        Mismatch: when its format is newer.
    """
    uri = places.normalise(options.index)
    chosen = generations.current(uri) if options.generation is None else generations.read(uri, options.generation)
    progress = Progress("index verify", sum(facts.rows for facts in chosen.segments))
    problems = [*wrong_model(chosen), *wrong_tombstones(chosen)]
    live = 0
    for facts in chosen.segments:
        try:
            checked_file(chosen.uri, facts)
            segment = open_segment(chosen.uri, facts, deleted_in(chosen, facts.since), whole=True)
        except BadInput as error:
            problems.append(error.found)
            continue
        problems += [f"{facts.name}: {found}" for found in wrong_with(segment, chosen)]
        live += facts.rows if segment.live is None else int(segment.live.sum())
        progress.add(facts.rows)
    if not problems and live != chosen.rows:
        problems.append(f"{live:,} live rows in the segments, {chosen.rows:,} in the generation")
    if problems:
        raise XhashError(f"verifying the index at {options.index}", "; ".join(problems), "Restore files or roll back")
    files = len(chosen.segments) + len(chosen.tombstones)
    return {"index": uri, "generation": chosen.number, "files": files, "rows": live, "problems": []}


def wrong_model(chosen: Generation) -> list[str]:
    """What is wrong with the copy of the model."""
    try:
        found = read_artefact(chosen.model_uri).fingerprint
    except BadInput as error:
        return [f"{chosen.facts['model']}: {error.found}"]
    if found == chosen.facts["model_fingerprint"]:
        return []
    return [f"{chosen.facts['model']} is model {found[:12]} instead of {chosen.facts['model_fingerprint'][:12]}"]


def wrong_tombstones(chosen: Generation) -> list[str]:
    """What is wrong with the files of deleted ids."""
    problems = []
    for facts in chosen.tombstones:
        try:
            checked_file(chosen.uri, facts)
        except BadInput as error:
            problems.append(error.found)
    return problems


def wrong_with(segment: Segment, chosen: Generation) -> Iterator[str]:
    """What is wrong with the content of a segment."""
    facts, ids = segment.facts, segment.table["id"]
    if len(ids) != facts.rows:
        yield f"{len(ids):,} rows instead of {facts.rows:,}"
        return
    yield from wrong_ids(ids, facts.shard, chosen.shards)
    for modality in MODALITIES:
        codes = segment.codes[modality]
        if codes.shape[1] * 8 != chosen.bits:
            yield f"{modality} codes of {codes.shape[1] * 8} bits instead of {chosen.bits}"
        elif count_ones(codes) != list(facts.ones[modality]):
            yield f"the {modality} codes' bits are not distributed as written down"
        else:
            yield from lost_pairs(segment, modality)


def wrong_ids(ids: pa.ChunkedArray, shard: int, shards: int) -> Iterator[str]:
    """Ids out of order, twice, or of another shard."""
    ordered = pc.less(ids.slice(0, max(0, len(ids) - 1)), ids.slice(1))  # strings compare as UTF-8 bytes
    row = pc.index(ordered, False).as_py() + 1
    if row:
        yield f"id '{ids[row]}' in row {row} is out of order or occurs twice"
        return
    names = ids.to_pylist()
    owners = shard_of(names, shards)
    if (owners != shard).any():
        row = int(np.flatnonzero(owners != shard)[0])
        yield f"id '{names[row]}' belongs to shard {owners[row]}"


def lost_pairs(segment: Segment, modality: str) -> Iterator[str]:
    """Stored pairs that a search for their own code does not find."""
    codes, live = segment.codes[modality], segment.live
    there = np.arange(len(codes)) if live is None else np.flatnonzero(live)
    if not len(there):
        return
    words = to_words(codes if live is None else codes[there])
    asked = np.linspace(0, len(there) - 1, min(SAMPLE, len(there))).astype(np.int64)
    found = search_tied(codes, codes[there[asked]], 1, mask=live)
    for place, distance, at_kth in zip(asked, found.kth, found.at_kth, strict=True):
        if distance != 0 or at_kth != (words == words[place]).all(axis=1).sum():
            yield f"the pair in row {there[place]} does not find its own {modality} code"
            return
