"""A small index and its model, as fixtures of many tests, and what it must answer."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest
import torch

from tests.index.test_shard import brute_force, code_table
from xhash_ray import methods
from xhash_ray.index import generations
from xhash_ray.index.build import assemble, partition
from xhash_ray.index.segments import segment_name, write_segment
from xhash_ray.index.shard import load_shard, merge_hits
from xhash_ray.methods.artefacts import facts_of, weights_of
from xhash_ray.methods.base import Shape
from xhash_ray.storage import tables, writing
from xhash_ray.storage.artefact import write_artefact

SHARDS = 3


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> SimpleNamespace:
    """A model folder of 16 bits and its fingerprint."""
    folder = str(tmp_path_factory.mktemp("model"))
    torch.manual_seed(1)
    method = methods.create("jdsh", Shape(16, 4, 4), {"hidden": 4})
    facts = {**facts_of("jdsh", method), "encoder": None}
    made = write_artefact(folder, facts, weights_of(method), "")
    return SimpleNamespace(uri=folder, fingerprint=made.fingerprint, facts=made.facts)


def rows_of(first: int, last: int, seed: int = 0) -> pa.Table:
    """Codes of pairs `pair-first` to `pair-last`."""
    return code_table(last - first, seed).set_column(
        0, "id", pa.array([f"pair-{number}" for number in range(first, last)], pa.string())
    )


def codes_at(folder: Path, rows: pa.Table, fingerprint: str) -> str:
    """Rows as a code folder."""
    written = [tables.write_table(str(folder / "a.parquet"), rows)]
    writing.commit(str(folder), written, {"model_fingerprint": fingerprint})
    return str(folder)


@pytest.fixture
def index(tmp_path, model) -> str:
    """An index of pairs 0 to 39 in three shards."""
    uri, rows = str(tmp_path / "index"), rows_of(0, 40)
    parts = [assemble([part]) for part in partition(rows, SHARDS)]
    segments = [write_segment(uri, segment_name("0a", n, SHARDS), n, 1, part) for n, part in enumerate(parts)]
    copy = f"models/{model.fingerprint[:12]}"
    shutil.copytree(model.uri, f"{uri}/{copy}")
    known = {"bits": 16, "method": "jdsh", "model_fingerprint": model.fingerprint, "model": copy, "shards": SHARDS}
    generations.commit(uri, None, "build", segments, [], 40, known)
    return uri


def answers(index: str, k: int = 100) -> list[tuple[int, str]]:
    """Everything that the index answers to one query."""
    made, query = generations.current(index), np.zeros((1, 2), np.uint8)
    parts = [load_shard(made, number).search(query, "image", k)[0] for number in range(made.shards)]
    return [(hit.distance, hit.id) for hit in merge_hits(parts, k)]


def expected(rows: pa.Table, k: int = 100) -> list[tuple[int, str]]:
    """What a scan of some rows answers."""
    return brute_force(rows, np.zeros(2, np.uint8), "image", k)
