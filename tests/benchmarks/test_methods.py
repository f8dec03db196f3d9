"""The zoo: one line per training, continued by a second run; feature sets are cut as the files say."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from xhash_ray.benchmarks import methods as zoo
from xhash_ray.benchmarks.feature_sets import open_feature_sets
from xhash_ray.benchmarks.zoo_plot import draw_panel, draw_zoo
from xhash_ray.benchmarks.zoo_table import markdown, tabulate
from xhash_ray.errors import BadInput, BadOption, XhashError
from xhash_ray.options.bench import BenchMethods
from xhash_ray.reports import render
from xhash_ray.storage.features import from_matrix

CLASSES = 3
SMALL = {"epochs": 2, "batch_size": 16, "hidden": 16}


def write(path: Path, ids: range, split: list[str] | None = None, labelled: bool = True) -> None:
    """Features whose images and texts share what their class is."""
    generator = np.random.default_rng(ids.start)
    labels = np.array([number % CLASSES for number in ids])
    centres = np.random.default_rng(0).standard_normal((CLASSES, 8))
    image, text = (centres[labels] + 0.3 * generator.standard_normal((len(ids), 8)) for _ in range(2))
    columns = {"id": [f"pair-{number}" for number in ids]}
    columns |= {"image": from_matrix(image.astype(np.float32)), "text": from_matrix(text.astype(np.float32))}
    columns |= {"labels": pa.array([[label] for label in labels.tolist()], pa.list_(pa.int32()))} if labelled else {}
    columns |= {"split": split} if split else {}
    pq.write_table(pa.table(columns), path)


@pytest.fixture
def three_files(tmp_path: Path) -> str:
    """Queries, training pairs, and a database that holds half of the training pairs again."""
    write(tmp_path / "query.parquet", range(20))
    write(tmp_path / "train.parquet", range(100, 164))
    write(tmp_path / "database.parquet", range(132, 200))
    return str(tmp_path)


def test_files_are_cut_into_queries_training_pairs_and_those_never_trained_on(three_files):
    sets = open_feature_sets(three_files)
    assert (len(sets.queries), len(sets.train), len(sets.rest)) == (20, 64, 36)
    published, unseen = sets.protocol("published"), sets.protocol("unseen")
    assert len(published.database) == 100
    assert set(unseen.database.ids).isdisjoint(unseen.train.ids)
    assert set(published.train.ids) < set(published.database.ids)
    assert sets.trains_alike()


def test_without_others_one_half_is_trained_on_and_the_other_searched(tmp_path):
    write(tmp_path / "test.parquet", range(10))
    write(tmp_path / "train.parquet", range(100, 180))
    sets = open_feature_sets(str(tmp_path))
    unseen = sets.protocol("unseen")
    assert set(unseen.database.ids).isdisjoint(unseen.train.ids)
    assert set(unseen.database.ids) | set(unseen.train.ids) == set(sets.train.ids)
    assert 20 < len(unseen.train) < 60
    assert not sets.trains_alike()


def test_a_split_column_does_the_same(tmp_path):
    write(tmp_path / "all.parquet", range(60), ["query"] * 10 + ["train"] * 30 + ["database"] * 20)
    sets = open_feature_sets(str(tmp_path))
    assert (len(sets.queries), len(sets.train), len(sets.rest)) == (10, 30, 20)


def test_features_without_a_split_hold_out_every_tenth_id(tmp_path):
    write(tmp_path / "all.parquet", range(200))
    sets = open_feature_sets(str(tmp_path))
    assert len(sets.queries) + len(sets.train) == 200
    assert 8 < len(sets.queries) < 35
    assert "id%10=0" in sets.how


def test_features_without_labels_or_queries_are_refused(tmp_path):
    write(tmp_path / "all.parquet", range(60), labelled=False)
    with pytest.raises(BadInput, match="no labels"):
        open_feature_sets(str(tmp_path))
    write(tmp_path / "all.parquet", range(60), ["train"] * 60)
    with pytest.raises(BadInput, match="no query pairs"):
        open_feature_sets(str(tmp_path))


def test_a_second_run_does_only_what_is_missing(three_files, tmp_path, capsys):
    out = str(tmp_path / "zoo")
    first = {"features": three_files, "out": out, "methods": ("cca_itq", "jdsh"), "bits": ("8",), "settings": SMALL}
    zoo.bench_methods(BenchMethods(**first, seeds=1))
    lines = (tmp_path / "zoo" / zoo.RESULTS).read_text().splitlines()
    assert len(lines) == 2
    result = zoo.bench_methods(BenchMethods(**first, seeds=2))
    assert "4 trainings, 2 of them done before" in capsys.readouterr().err
    assert (tmp_path / "zoo" / zoo.RESULTS).read_text().splitlines()[:2] == lines
    assert {(row["method"], row["database"], row["seeds"]) for row in result["rows"]} == {
        (name, column, 2) for name in ("cca_itq", "jdsh") for column in ("published", "unseen")
    }
    for row in result["rows"]:
        assert row["image_to_text"] > result["chance"][row["database"]]
    assert "cca_itq" in render("bench methods", result)
    assert (tmp_path / "zoo" / zoo.PLOT).read_bytes().startswith(b"\x89PNG")


def test_other_settings_are_other_trainings(three_files, tmp_path, capsys):
    given = {"features": three_files, "out": str(tmp_path / "zoo"), "methods": ("jdsh",), "bits": ("8",), "seeds": 1}
    for epochs in (1, 2):
        zoo.bench_methods(BenchMethods(**given, settings={**SMALL, "epochs": epochs}))
    assert capsys.readouterr().err.count("0 of them done before") == 2


def test_a_recipe_gives_a_method_its_settings(three_files, tmp_path):
    (tmp_path / "jdsh.toml").write_text('[train]\nmethod = "jdsh"\n[train.settings]\nmu = 1.1\nepochs = 9\n')
    options = BenchMethods(features=three_files, out="x", recipes=str(tmp_path), settings={"epochs": 3})
    assert zoo.settings_for("jdsh", options) == {"mu": 1.1, "epochs": 3}
    assert zoo.settings_for("cca_itq", options) == {"epochs": 3}


def test_unknown_methods_and_settings_are_named(three_files, tmp_path):
    given = {"features": three_files, "out": str(tmp_path / "zoo"), "bits": ("8",), "seeds": 1}
    with pytest.raises(BadOption, match="Did you mean 'jdsh'"):
        zoo.bench_methods(BenchMethods(**given, methods=("jdhs",)))
    with pytest.raises(BadOption, match="Did you mean 'published'"):
        zoo.bench_methods(BenchMethods(**given, databases=("publishd",)))
    with pytest.raises(BadOption, match="--bits"):
        zoo.bench_methods(BenchMethods(**{**given, "bits": ("16", "x")}))
    with pytest.raises(BadOption, match="Did you mean 'epochs'"):
        zoo.bench_methods(BenchMethods(**given, methods=("jdsh",), settings={"epoch": 3}))


def test_a_line_cut_short_by_a_killed_run_is_passed_over(tmp_path):
    (tmp_path / zoo.RESULTS).write_text(json.dumps({"key": "a"}) + '\n{"key": "b", "meth')
    assert zoo.read_lines(str(tmp_path)) == [{"key": "a"}]


def line(seed: int, value: float) -> dict:
    """A finished training."""
    health = {"stuck_bits": seed, "duplicate_bits": 0}
    column = {"image_to_text": value, "text_to_image": value + 0.1, "health": {"image": health, "text": health}}
    return {"method": "m", "bits": 16, "seed": seed, "seconds": 2.0, "columns": {"published": column}}


def test_the_table_has_means_and_spreads():
    (row,) = tabulate([line(1, 0.2), line(2, 0.4)])["rows"]
    assert row == {
        "method": "m", "bits": 16, "database": "published", "seeds": 2,
        "image_to_text": 0.3, "image_to_text_spread": 0.1414, "text_to_image": 0.4, "text_to_image_spread": 0.1414,
        "stuck_bits": 1.5, "duplicate_bits": 0, "seconds": 2.0,
    }  # fmt: skip


def test_the_markdown_table_shows_both_directions_and_who_refused():
    known = {"how": "files", "pairs": {"queries": 1, "train": 2, "rest": 0}, "chance": {"published": 0.1}, "cosine": {}}
    text = markdown({**known, **tabulate([line(1, 0.2), {"method": "n", "bits": 16, "refused": "too short"}])})
    assert "| m | .200 / .300 | 2 to 2 |" in text
    assert "n: too short" in text


def test_the_plot_has_a_line_per_method_and_the_cosine():
    from matplotlib.figure import Figure

    short, long = line(1, 0.2), {**line(1, 0.3), "bits": 32}
    other = {**line(1, 0.25), "method": "n"}
    result = {"chance": {"published": 0.1}, **tabulate([long, short, other])}
    panel = Figure().subplots()
    draw_panel(panel, result["rows"], "text_to_image", ["m", "n"])
    assert [bars.get_label() for bars in panel.containers] == ["m", "n"]
    assert [bars.lines[0].get_xydata().tolist() for bars in panel.containers] == [[[16, 0.3], [32, 0.4]], [[16, 0.35]]]
    bare, with_cosine = (draw_zoo({**result, "cosine": found}) for found in ({}, {"published": {"image_to_text": 0.4}}))
    assert bare.startswith(b"\x89PNG")
    assert bare != with_cosine


def test_a_line_depends_on_every_file_that_its_method_imports():
    assert {"fusion", "rotations", "cca_itq", "base"} <= zoo.imported("dfrh")
    assert "jdsh" not in zoo.imported("dfrh")


def test_methods_that_sum_over_all_pairs_get_all_of_them(three_files, monkeypatch):
    """Not whole batches alone."""
    seen, forward = [], zoo.methods.load("dfrh").forward

    def counted(self, batch, *rest):
        seen.append(len(batch.image))
        return forward(self, batch, *rest)

    monkeypatch.setattr(zoo.methods.load("dfrh"), "forward", counted)
    settings = {"batch_size": 48, "landmarks": 8, "epochs": 1, "dimensions": 8}
    zoo.trained(zoo.Task("dfrh", 8, 1, ("unseen",), settings, ""), open_feature_sets(three_files).train)
    assert seen == [48, 16]


def test_a_training_that_fails_is_a_line_and_not_the_end(three_files, tmp_path, monkeypatch):
    def diverge(*_):
        raise XhashError("training jdsh", "the loss is nan", "Lower the learning rate")

    monkeypatch.setattr(zoo, "trained", diverge)
    given = {"features": three_files, "out": str(tmp_path / "zoo"), "methods": ("jdsh",), "bits": ("8",), "seeds": 1}
    assert "the loss is nan" in zoo.bench_methods(BenchMethods(**given))["refused"]["jdsh"]
