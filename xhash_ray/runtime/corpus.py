"""Corpora on the cluster: drawing the demonstration corpus, and surveying any corpus before it is read."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import ray

from xhash_ray.core.shards import id_hash
from xhash_ray.corpus.scenes import scene_pair
from xhash_ray.corpus.sources import Source, unify
from xhash_ray.corpus.units import Unit
from xhash_ray.errors import BadInput
from xhash_ray.options import CorpusDemo
from xhash_ray.progress import Progress
from xhash_ray.runtime.cluster import connected
from xhash_ray.storage import tables, writing

DEMO_PART_PAIRS = 500


@dataclass(frozen=True)
class CorpusFacts:
    """What a survey of all units found.

    Attributes:
        pairs: Rows that have an id.
        classes: All label names, sorted.
        metadata: Columns that travel along.
    """

    pairs: int
    classes: tuple[str, ...]
    metadata: pa.Schema


def make_demo_corpus(options: CorpusDemo) -> dict[str, Any]:
    """Draws the demonstration corpus as Parquet, one task per part file.

    Returns:
        `pairs`, `files`, `size_bytes` and `out`.

    Raises:
        BadInput: for fewer than one pair, or a folder that is taken.
    """
    if options.pairs < 1:
        raise BadInput("xhash corpus demo", f"--pairs {options.pairs}", "Ask for at least one")
    claimed = writing.claim(options.out, "a corpus", options.overwrite)
    starts = range(0, options.pairs, DEMO_PART_PAIRS)
    progress = Progress("corpus demo", options.pairs)
    with connected():
        writing.begin(claimed)
        waiting = [
            draw_part.remote(claimed.part(part), options.seed, start, min(start + DEMO_PART_PAIRS, options.pairs))
            for part, start in enumerate(starts)
        ]
        files = []
        for reference in waiting:
            files.append(ray.get(reference))
            progress.add(files[-1].rows)
    writing.commit(claimed.uri, files, {"kind": "corpus", "seed": options.seed})
    progress.finish(options.pairs, claimed.uri)
    return {
        "pairs": sum(entry.rows for entry in files),
        "files": len(files),
        "size_bytes": sum(entry.size_bytes for entry in files),
        "out": claimed.uri,
        "seconds": round(progress.seconds, 2),
    }


@ray.remote(num_cpus=1)
def draw_part(uri: str, seed: int, start: int, stop: int) -> tables.FileFacts:
    """Draws scenes start .. stop - 1 into one part file."""
    scenes = [scene_pair(seed, index) for index in range(start, stop)]
    rows = [{**vars(scene), "labels": list(scene.labels)} for scene in scenes]
    return tables.write_table(uri, pa.Table.from_pylist(rows))


def survey(source: Source, units: Sequence[Unit]) -> CorpusFacts:
    """Reads ids, labels and metadata columns of all units, in parallel.

    Raises:
        BadInput: when the corpus is empty, or an id occurs twice (naming it).
    """
    waiting = [survey_unit.remote(source, unit) for unit in units]
    hashes, labels, metadata = [], set[str](), pa.schema([])
    for reference in waiting:
        unit_hashes, unit_labels, unit_metadata = ray.get(reference)
        hashes.append(unit_hashes)
        labels |= unit_labels
        metadata = unify(metadata, pickle.loads(unit_metadata))
    everything = np.concatenate(hashes) if hashes else np.empty(0, np.uint64)
    if len(everything) == 0:
        raise BadInput(f"corpus at {source.uri}", "no pairs", "Check the name and the id column")
    check_unique(source, units, hashes, everything)
    return CorpusFacts(len(everything), tuple(sorted(labels)), metadata)


@ray.remote(num_cpus=1)
def survey_unit(source: Source, unit: Unit) -> tuple[np.ndarray, set[str], bytes]:
    """One unit's survey: ids as 64-bit hashes, label names, pickled Arrow schema (which crosses processes only)."""
    found = source.survey(unit)
    return id_hash(found.ids), found.labels, pickle.dumps(found.metadata)


def check_unique(source: Source, units: Sequence[Unit], hashes: list[np.ndarray], everything: np.ndarray) -> None:
    """Raises BadInput naming an id that two rows share."""
    values, counts = np.unique(everything, return_counts=True)
    twice = values[counts > 1]
    if len(twice) == 0:
        return
    holders = [unit for unit, found in zip(units, hashes, strict=True) if twice[0] in found]
    ids = [(name, unit) for unit in holders for name in source.survey(unit).ids]
    names = [name for name, _ in ids if id_hash([name])[0] == twice[0]]
    files = sorted({unit.source for unit in holders})
    found = (
        f"id '{names[0]}' occurs {len(names)} times (in {', '.join(files[:2])}); {len(twice)} ids occur more than once"
    )
    raise BadInput(f"corpus at {source.uri}", found, "Make ids unique, or map another column with --columns id=...")
