"""`xhash evaluate` from the command line, in this process; and that Ray gives the same numbers."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from xhash_ray.cli import main
from xhash_ray.core.bits import pack
from xhash_ray.evaluation.published import DEFINITIONS
from xhash_ray.evaluation.relevance import label_matrix
from xhash_ray.evaluation.retrieval import mean_average_precision
from xhash_ray.options import Evaluate
from xhash_ray.runtime import evaluation
from xhash_ray.runtime.evaluation import evaluate, load_side
from xhash_ray.storage import tables
from xhash_ray.storage.codes import from_array
from xhash_ray.storage.features import from_matrix

PAIRS, CLASSES = 700, 6


def labels_of(generator: np.random.Generator) -> list[list[int] | None]:
    """Some labels each; one row has none, one's are missing."""
    return [[], None, *(np.flatnonzero(row).tolist() for row in generator.random((PAIRS - 2, CLASSES)) < 0.3)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files near, far (codes) and floats (features) of the same pairs; `split` is query for every tenth."""
    root = tmp_path_factory.mktemp("evaluate")
    generator = np.random.default_rng(1)
    labels = labels_of(generator)
    clean = label_matrix([each or [] for each in labels], CLASSES) @ generator.standard_normal((CLASSES, 32))
    common = {
        "id": [f"pair-{row}" for row in range(PAIRS)],
        "labels": pa.array(labels, pa.list_(pa.int32())),
        "split": ["query" if row % 10 == 0 else "database" for row in range(PAIRS)],
    }
    for name, noise in (("near", 1.0), ("far", 6.0)):
        sides = (pack(clean + noise * generator.standard_normal(clean.shape)) for _ in range(2))
        columns = dict(zip(("image_code", "text_code"), map(from_array, sides), strict=True))
        tables.write_table(str(root / f"{name}.parquet"), pa.table({**common, **columns}))
    sides = (from_matrix((clean + generator.standard_normal(clean.shape)).astype(np.float32)) for _ in range(2))
    floats = dict(zip(("image", "text"), sides, strict=True))
    tables.write_table(str(root / "floats.parquet"), pa.table({**common, **floats}))
    return root


def split_of(folder: Path, name: str, **more: object) -> Evaluate:
    """Options for one file against itself, split."""
    where = {"queries_where": "split=query", "database_where": "split!=query"}
    return Evaluate(queries=str(folder / name), database=str(folder / name), **where, **more)


@pytest.fixture
def no_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray may not be started."""
    monkeypatch.setattr(evaluation.cluster, "connect", lambda: pytest.fail("Ray was started"))


def test_codes_are_measured_in_this_process(folder, no_ray):
    result = evaluate(split_of(folder, "near.parquet"))
    queries, database = (load_side(str(folder / "near.parquet"), f"split{sign}query") for sign in ("=", "!="))
    every = np.array([1 << bit for bit in range(CLASSES)], np.uint64)
    given = ((side.labels & every) > 0 for side in (queries, database))
    expected = mean_average_precision(queries.arrays["image"], database.arrays["text"], *given)
    assert result["map"]["image_to_text"] == pytest.approx(expected, abs=1e-5)
    assert (result["kind"], result["queries"], result["database"]) == ("codes", 70, 630)
    assert {"chance", "without_relevant", "seconds", "measures", "lowest", "highest"} <= set(result)
    for direction, value in result["map"].items():
        assert result["chance"] < result["lowest"][direction] <= value <= result["highest"][direction] <= 1


def test_missing_labels_are_no_labels(folder, no_ray):
    side = load_side(str(folder / "near.parquet"), None)
    assert side.labels[:2].tolist() == [[0], [0]]
    assert side.labels.any(axis=1).sum() > PAIRS / 2
    assert evaluate(split_of(folder, "near.parquet"))["without_relevant"] >= 1


def test_features_are_measured_too(folder, no_ray):
    result = evaluate(split_of(folder, "floats.parquet"))
    assert result["kind"] == "features"
    assert result["chance"] < result["map"]["text_to_image"] <= 1
    assert "precision_within_radius_2" not in result["measures"]["text_to_image"]


@pytest.mark.parametrize("name", ["near.parquet", "floats.parquet"])
def test_queries_within_the_database_do_not_find_themselves(folder, no_ray, name):
    place = str(folder / name)
    whole = evaluate(Evaluate(queries=place, database=place, queries_where="split=query", directions=("all",)))
    assert list(whole["map"]) == ["image_to_text", "text_to_image", "image_to_image", "text_to_text"]
    split = evaluate(split_of(folder, name, directions=("image_to_image",)))
    assert whole["map"]["image_to_image"] != split["map"]["image_to_image"]  # other queries are items, too
    assert whole["measures"]["image_to_image"]["precision_at"]["1"] < 1


def test_the_command_prints_writes_and_draws(folder, no_ray, tmp_path, capsys):
    runs = f"ours={folder}/near.parquet,theirs={folder}/far.parquet"
    out, plots = tmp_path / "result.json", tmp_path / "plots"
    given = ["evaluate", "--runs", runs, "--queries-where", "split=query", "--database-where", "split!=query"]
    code = main([*given, "--at", "50,5", "--definitions", "all", "--out", str(out), "--plots", str(plots), "--json"])
    printed = json.loads(capsys.readouterr().out.strip().splitlines()[-1])
    assert code == 0
    assert printed == json.loads(out.read_text())
    ours, theirs = printed["runs"]["ours"], printed["runs"]["theirs"]
    assert ours["map"]["image_to_text"] > theirs["map"]["image_to_text"]
    assert list(ours["measures"]["image_to_text"]["ndcg_at"]) == ["5", "50"]
    assert list(ours["definitions"]) == list(DEFINITIONS)
    assert sorted(path.name for path in plots.iterdir()) == sorted(Path(path).name for path in printed["plots"])
    with Image.open(plots / "precision-recall.png") as picture:
        assert picture.width > picture.height > 400
        assert picture.convert("L").getextrema()[0] < 100


def test_the_table_names_measures_directions_and_definitions(folder, no_ray, capsys):
    place = str(folder / "near.parquet")
    given = ["evaluate", "--queries", place, "--database", place, "--directions", "text_to_image", "--k", "7"]
    assert main([*given, "--definitions", "map_at_k_over_hits"]) == 0
    printed = capsys.readouterr().out
    words = ["text to image", "MAP@all", "worst order", "best order", "chance", "precision@10", "NDCG@100", "radius 2"]
    for word in [*words, "map_at_k_over_hits", "k = 7"]:
        assert word in printed
    assert "image to text" not in printed


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], ["nothing to evaluate", "--runs"]),
        (["--queries", "x"], ["--queries", "--database"]),
        (["--queries", "x", "--database", "x", "--runs", "a=x"], ["--queries and --database and --runs"]),
        (["--runs", "a=x", "--directions", "image_to_txt"], ["Did you mean 'image_to_text'"]),
        (["--runs", "a=x", "--definitions", "map"], ["unknown definition 'map'", "map_first_min_k_r"]),
        (["--runs", "a=x", "--at", "ten"], ["--at", "ten"]),
        (["--runs", "a=x", "--at", "0"], ["cut-offs", "0"]),
    ],
)
def test_bad_options_are_one_clear_line(arguments, words, capsys):
    assert main(["evaluate", *arguments]) == 2
    line = capsys.readouterr().err.strip()
    assert "\n" not in line
    for word in words:
        assert word in line


@pytest.mark.parametrize("name", ["near.parquet", "floats.parquet"])
def test_ray_gives_the_same_numbers(folder, ray_cluster, monkeypatch, name):
    monkeypatch.setattr(evaluation, "QUERIES_PER_PART", 30)
    options = split_of(folder, name, directions=("all",), definitions=("all",))
    here = evaluate(options)
    monkeypatch.setattr(evaluation, "WORTH_A_CLUSTER_S", 0.0)
    spread = evaluate(options)
    assert {**spread, "seconds": 0} == {**here, "seconds": 0}
