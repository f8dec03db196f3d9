"""Small feature files of several parts and row groups, and the same rows as plain arrays to compare with."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from xhash_ray.storage.features import from_matrix

IMAGE_LENGTH, TEXT_LENGTH, CLASSES = 6, 5, 3
FILES = ((17, 8), (30, 30), (9, 4), (24, 10))  # rows of each file, rows of its row groups


@pytest.fixture(autouse=True)
def one_thread():
    """Small matrices: more threads only wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


class Rows(NamedTuple):
    """Every row of a feature set, in the order of its files."""

    ids: np.ndarray
    image: np.ndarray
    text: np.ndarray
    labels: np.ndarray
    split: np.ndarray

    def chosen(self, keep: np.ndarray) -> Rows:
        """Some of them."""
        return Rows(*(array[keep] for array in self))


def made_rows(n: int, seed: int = 1) -> Rows:
    """Rows whose features are made from what a pair has in common; classes by its strongest part, a tenth queries."""
    generator = np.random.default_rng(seed)
    shared = generator.standard_normal((n, CLASSES))
    image, text = (
        (shared @ generator.standard_normal((CLASSES, length))).astype(np.float32)
        for length in (IMAGE_LENGTH, TEXT_LENGTH)
    )
    labels = np.eye(CLASSES, dtype=np.uint8)[shared.argmax(axis=1)]
    labels[::7, 0] = 1  # some rows have two
    split = np.where(np.arange(n) % 10 == 3, "query", "train")
    return Rows(np.array([f"pair-{row}" for row in range(n)]), image, text, labels, split)


def table_of(rows: Rows, labelled: bool = True) -> pa.Table:
    """Rows in the format of feature files."""
    content = {"id": pa.array(rows.ids.tolist()), "image": from_matrix(rows.image), "text": from_matrix(rows.text)}
    if labelled:
        numbers = [np.flatnonzero(row).tolist() for row in rows.labels]
        content["labels"] = pa.array(numbers, pa.list_(pa.int32()))
    return pa.table(content | {"split": pa.array(rows.split.tolist())})


def write_features(folder: Path, rows: Rows, files: Sequence[tuple[int, int]] = FILES, labelled: bool = True) -> str:
    """Writes rows as several Parquet files of several row groups; returns the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    first = 0
    for number, (count, group) in enumerate(files):
        table = table_of(rows.chosen(np.arange(first, first + count)), labelled)
        pq.write_table(table, folder / f"part-{number}.parquet", row_group_size=group)
        first += count
    assert first == len(rows.ids)
    return str(folder)


@pytest.fixture(scope="session")
def all_rows() -> Rows:
    """The rows of `features`."""
    return made_rows(sum(count for count, _ in FILES))


@pytest.fixture(scope="session")
def features(tmp_path_factory: pytest.TempPathFactory, all_rows: Rows) -> str:
    """A folder of four files and ten row groups."""
    return write_features(tmp_path_factory.mktemp("features"), all_rows)
