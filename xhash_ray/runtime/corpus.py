"""Drawing the demonstration corpus on the cluster."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import ray

from xhash_ray.corpus.scenes import scene_pair
from xhash_ray.errors import BadInput
from xhash_ray.options import CorpusDemo
from xhash_ray.progress import Progress
from xhash_ray.runtime.cluster import connected
from xhash_ray.storage import tables, writing

DEMO_PART_PAIRS = 500


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
