"""Import, end to end: a set goes in, our features come out, and nothing is left of what failed."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from tests.datasets import layout_files as files
from tests.datasets.layout_files import N, image_matrix, label_matrix, text_matrix
from xhash_ray.cli import main
from xhash_ray.datasets import importing
from xhash_ray.datasets.importing import import_features
from xhash_ray.errors import BadInput, BadOption, Mismatch
from xhash_ray.options import Import
from xhash_ray.storage import tables
from xhash_ray.storage.features import from_matrix, load_features, open_features
from xhash_ray.storage.where import parse_where


def npy_set(folder: Path, **replaced: np.ndarray) -> str:
    """A set of three .npy files."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, values in {"image": image_matrix(), "text": text_matrix(), "labels": label_matrix(), **replaced}.items():
        np.save(folder / f"{name}.npy", values)
    return str(folder)


def run(tmp_path: Path, layout: str, source: str, **options: object) -> dict:
    """Imports into tmp_path/out."""
    return import_features(Import(layout=layout, source=source, out=str(tmp_path / "out"), **options))


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_what_goes_in_comes_out(tmp_path, dtype, monkeypatch):
    monkeypatch.setattr(importing, "PART_SIZE_BYTES", 12 * np.dtype(dtype).itemsize * 25)
    result = run(tmp_path, "npy", npy_set(tmp_path / "set"), split="random:10:20", dtype=dtype)
    out = result["out"]
    assert (result["pairs"], result["query"], result["train"], result["database"]) == (N, 10, 20, 30)
    found = open_features(out)
    assert found.tables.rows == (25, 25, 10)
    assert (
        str(found.tables.schema.field("image").type.value_type) == {"float16": "halffloat", "float32": "float"}[dtype]
    )
    features = load_features(out)
    np.testing.assert_array_equal(features.image, image_matrix().astype(dtype).astype(np.float32))
    np.testing.assert_array_equal(features.text, text_matrix())
    assert features.labels == [np.flatnonzero(row).tolist() for row in label_matrix()]
    assert len(load_features(out, parse_where("split!=query")).ids) == 50


def test_what_was_done_is_written_down(tmp_path):
    result = run(tmp_path, "npy", npy_set(tmp_path / "set"), split="last:10", split_seed=4)
    facts = json.loads((tmp_path / "out" / tables.MANIFEST).read_text())["dataset"]
    counts = {"query": 10, "train": 50, "database": 0}
    digest = result["split_digest"]
    assert facts == {"layout": "npy", "split": "last:10", "split_seed": 4, "split_digest": digest, **counts}


def test_a_wrong_digest_leaves_nothing(tmp_path):
    with pytest.raises(Mismatch, match="with digest 1234"):
        run(tmp_path, "npy", npy_set(tmp_path / "set"), split="last:10", split_digest="1234")
    assert not (tmp_path / "out").exists()


def with_value(value: float) -> np.ndarray:
    """The images, one number of row 55 replaced."""
    values = image_matrix()
    values[55, 2] = value
    return values


@pytest.mark.parametrize(
    ("value", "dtype", "words"),
    [
        (np.nan, "float32", "image feature of pair '000055' is NaN or infinite"),
        (-np.inf, "float16", "is NaN or infinite"),
        (1e6, "float16", "is too large for float16. Give --dtype float32"),
    ],
)
def test_what_is_no_number_leaves_nothing(tmp_path, monkeypatch, value, dtype, words):
    monkeypatch.setattr(importing, "PART_SIZE_BYTES", 500)
    source = npy_set(tmp_path / "set", image=with_value(value))
    with pytest.raises(BadInput, match=words):
        run(tmp_path, "npy", source, split="last:10", dtype=dtype)
    assert list((tmp_path / "out").iterdir()) == []


def test_a_failure_keeps_the_results_that_were_there(tmp_path):
    good = npy_set(tmp_path / "good")
    run(tmp_path, "npy", good, split="last:10")
    before = sorted(path.name for path in (tmp_path / "out").iterdir())
    with pytest.raises(BadInput, match="finished results are there"):
        run(tmp_path, "npy", good, split="last:10")
    with pytest.raises(BadInput, match="NaN"):
        run(tmp_path, "npy", npy_set(tmp_path / "bad", image=with_value(np.nan)), split="last:10", overwrite=True)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == before
    run(tmp_path, "npy", good, split="last:11", overwrite=True)
    assert len(load_features(str(tmp_path / "out"), parse_where("split=query")).ids) == 11


def test_a_failure_leaves_an_older_runs_mark(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / tables.UNFINISHED).write_text("run of long ago")
    with pytest.raises(BadInput, match="NaN"):
        run(tmp_path, "npy", npy_set(tmp_path / "bad", image=with_value(np.nan)), split="last:10")
    assert [path.name for path in (tmp_path / "out").iterdir()] == [tables.UNFINISHED]


def feature_table(first: int, rows: int, **columns: object) -> pa.Table:
    """Features in Parquet with ids from `first` on."""
    content = {
        "id": pa.array([f"p{row}" for row in range(first, first + rows)]),
        "image": from_matrix(image_matrix(rows)),
        "text": from_matrix(text_matrix(rows).astype(np.float32)),
        "labels": pa.array([[row % 3] for row in range(rows)], pa.list_(pa.int32())),
        "colour": pa.array(["red"] * rows),
    }
    return pa.table({name: column for name, column in (content | columns).items() if column is not None})


def test_parquet_in_three_files(tmp_path):
    for first, part in ((0, "train"), (10, "database"), (20, "query")):
        tables.write_table(f"{tmp_path}/set/{part}.parquet", feature_table(first, 10))
    result = run(tmp_path, "parquet", f"{tmp_path}/set")
    assert (result["query"], result["train"], result["database"]) == (10, 10, 10)
    assert load_features(result["out"], parse_where("split=query")).ids == [f"p{row}" for row in range(20, 30)]
    assert open_features(result["out"]).tables.schema.names == ["id", "image", "text", "labels", "split", "colour"]


def test_parquet_with_its_own_split(tmp_path):
    split = pa.array(["train", "test"] * 5)
    tables.write_table(f"{tmp_path}/x.parquet", feature_table(0, 10, split=split))
    result = run(tmp_path, "parquet", f"{tmp_path}/x.parquet")
    assert load_features(result["out"], parse_where("split=query")).ids == ["p1", "p3", "p5", "p7", "p9"]


@pytest.mark.parametrize("split", [None, pa.array(["fold1"] * 10)])
def test_parquet_without_a_split_is_cut(tmp_path, split):
    tables.write_table(f"{tmp_path}/x.parquet", feature_table(0, 10, split=split, labels=None))
    assert run(tmp_path, "parquet", f"{tmp_path}/x.parquet", split="random:2:4")["train"] == 4
    with pytest.raises(BadInput, match="do not say which pairs are queries"):
        run(tmp_path, "parquet", f"{tmp_path}/x.parquet", overwrite=True)
    with pytest.raises(BadInput, match="no column 'labels'"):
        run(tmp_path, "parquet", f"{tmp_path}/x.parquet", overwrite=True, split="nuswide-stratified")


def test_an_id_that_occurs_twice_is_refused(tmp_path):
    for part in ("train", "test"):
        tables.write_table(f"{tmp_path}/set/{part}.parquet", feature_table(0, 10))
    with pytest.raises(BadInput, match="id 'p0' occurs twice"):
        run(tmp_path, "parquet", f"{tmp_path}/set")
    with pytest.raises(BadOption, match="leave them out"):
        run(tmp_path, "parquet", f"{tmp_path}/set", image_features="x.npy")


def test_the_command(tmp_path, capsys):
    source = str(files.wiki(tmp_path / "set"))
    arguments = ["import", "--layout", "wiki", "--source", source, "--out", f"{tmp_path}/out", "--json"]
    assert main(arguments) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["train"] == 40
    assert open_features(f"{tmp_path}/out").classes[:2] == ("art", "biology")
    assert main([*arguments, "--layout", "wikki"]) == 2
    assert "Did you mean 'wiki'?" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "counts", "lengths"),
    [("wiki", (693, 2173, 0), (128, 10)), ("fashion/features", (1000, 5000, 3583), (512, 698))],
)
def test_real_sets(tmp_path, shared_data, name, counts, lengths):
    result = run(tmp_path, "parquet", str(shared_data / name))
    assert tuple(result[part] for part in ("query", "train", "database")) == counts
    assert (result["image_length"], result["text_length"]) == lengths
    assert open_features(result["out"]).tables.total_rows == sum(counts)
