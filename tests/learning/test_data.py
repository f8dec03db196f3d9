"""What a training is given: rows for training and rows for validation never mix, and data are told apart."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.learning.conftest import CLASSES, FILES, IMAGE_LENGTH, TEXT_LENGTH, made_rows, table_of, write_features
from xhash_ray.core.shards import id_hash
from xhash_ray.errors import BadInput, BadOption
from xhash_ray.learning import data as data_module
from xhash_ray.learning.data import open_training_data, resident_source
from xhash_ray.methods.base import World
from xhash_ray.storage import tables, writing

CONDITIONS = [(None, "id%4=0"), ("split!=query", "id%4=1,2"), (None, "split=query")]
ROWS = sum(count for count, _ in FILES)


def test_row_groups_that_count_are_listed_with_their_first_row(features):
    found = open_training_data(features, None, None)
    sizes = [min(group, count - start) for count, group in FILES for start in range(0, count, group)]
    assert [group.rows for group in found.groups] == sizes
    assert [group.first for group in found.groups] == np.cumsum([0, *sizes[:-1]]).tolist()
    assert (found.pairs, found.classes) == (ROWS, CLASSES)
    assert found.row_bytes == 4 * (IMAGE_LENGTH + TEXT_LENGTH + CLASSES)


def test_row_groups_without_rows_that_count_are_left_out(features, all_rows):
    ids = all_rows.ids[[2, 20, 21]]
    found = open_training_data(features, f"id={','.join(ids)}", None)
    assert [(Path(group.file).name, group.group, group.rows, group.first) for group in found.groups] == [
        ("part-0.parquet", 0, 1, 0),
        ("part-1.parquet", 0, 2, 1),
    ]
    assert found.classes == CLASSES  # of the files, not of these rows: a model must fit all of them


@pytest.mark.parametrize(("where", "validation"), CONDITIONS)
def test_validation_pairs_are_set_aside_from_the_pairs_asked_for(features, all_rows, where, validation):
    found = open_training_data(features, where, validation)
    asked = all_rows.chosen(all_rows.split != "query") if where else all_rows
    remainders = {"id%4=0": [0], "id%4=1,2": [1, 2]}.get(validation)
    aside = np.isin(id_hash(asked.ids.tolist()) % np.uint64(4), remainders) if remainders else asked.split == "query"
    assert 0 < aside.sum() < len(aside)
    training, held_out = found.resident(), found.validation_pairs()
    for pairs, keep in ((training, ~aside), (held_out, aside)):
        np.testing.assert_array_equal(pairs.image, asked.image[keep])
        np.testing.assert_array_equal(pairs.text, asked.text[keep])
        np.testing.assert_array_equal(pairs.labels, asked.labels[keep])
    assert found.pairs == len(training)


def test_without_validation_no_pair_is_set_aside(features):
    found = open_training_data(features, None, None)
    assert found.validation_pairs() is None
    assert len(found.resident()) == ROWS


def test_validation_pairs_are_bounded(features, all_rows, monkeypatch):
    monkeypatch.setattr(data_module, "VALIDATION_ROWS", 5)
    found = open_training_data(features, None, "split=query").validation_pairs()
    np.testing.assert_array_equal(found.image, all_rows.image[all_rows.split == "query"][:5])


def test_unlabelled_pairs_have_no_labels(tmp_path):
    found = open_training_data(write_features(tmp_path, made_rows(ROWS), labelled=False), None, "id%4=0")
    assert found.classes == 0
    assert found.resident().labels is None
    assert found.validation_pairs().labels is None


@pytest.mark.parametrize(("labelled", "classes"), [(True, 7), (False, 0)])
def test_named_classes_count_where_rows_have_labels(tmp_path, labelled, classes):
    part = tables.write_table(f"{tmp_path}/part.parquet", table_of(made_rows(12), labelled))
    writing.commit(str(tmp_path), [part], {"classes": list("abcdefg")})
    found = open_training_data(str(tmp_path), None, None)
    assert found.classes == classes
    assert labelled == (found.resident().labels is not None)


def test_a_label_number_below_zero_is_refused(tmp_path):
    table = table_of(made_rows(3)).drop_columns("labels")
    pq.write_table(table.append_column("labels", pa.array([[0], [-1], [2]])), tmp_path / "part.parquet")
    with pytest.raises(BadInput, match=r"part\.parquet: label number -1"):
        open_training_data(str(tmp_path), None, None)


@pytest.mark.parametrize(
    ("where", "validation", "error", "words"),
    [
        ("split=nothing", None, BadInput, "no rows"),
        (None, "id%1=0", BadInput, "no rows"),
        (None, "split=nothing", BadInput, "validation pairs of .*: no rows"),
        ("spilt=train", None, BadInput, "Did you mean 'split'"),
        (None, "spilt=train", BadInput, "Did you mean 'split'"),
        ("split", None, BadOption, "not a condition"),
        (None, "id%10=10", BadOption, "not a condition"),
    ],
)
def test_conditions_that_cannot_be_met_are_said(features, where, validation, error, words):
    with pytest.raises(error, match=words):
        open_training_data(features, where, validation)


@pytest.mark.parametrize("zeros", ["refuse", "keep"])
def test_zero_features_are_refused_naming_the_id_unless_they_are_kept(tmp_path, zeros):
    rows = made_rows(ROWS)
    rows.text[40] = 0
    found = open_training_data(write_features(tmp_path, rows), None, None, zeros)
    if zeros == "keep":
        assert len(found.resident()) == ROWS
    else:
        with pytest.raises(BadInput, match="text feature of id 'pair-40' is all zeros"):
            found.resident()


def test_the_same_pairs_have_the_same_digest_wherever_they_lie(features, tmp_path):
    copy = write_features(tmp_path / "elsewhere", made_rows(ROWS))
    assert open_training_data(copy, None, None).digest == open_training_data(features, None, None).digest


def test_other_pairs_have_another_digest(features, tmp_path):
    others = {
        "numbers": write_features(tmp_path / "numbers", made_rows(ROWS, seed=2)),
        "row groups": write_features(tmp_path / "groups", made_rows(ROWS), [(17, 17), *FILES[1:]]),
        "rows": write_features(tmp_path / "rows", made_rows(ROWS + 1), [*FILES[:3], (25, 10)]),
    }
    digests = {name: open_training_data(folder, None, None).digest for name, folder in others.items()}
    digests |= {
        where: open_training_data(features, where, None).digest for where in ("split!=query", "split=query")
    } | {"itself": open_training_data(features, None, None).digest}
    assert len(set(digests.values())) == len(digests), json.dumps(digests, indent=1)


def test_fewer_pairs_than_a_batch_are_refused(features):
    pairs = open_training_data(features, None, None).resident()
    with pytest.raises(BadInput, match=f"{ROWS} pairs for batches of {ROWS + 1}"):
        resident_source(pairs, ROWS + 1, 1, World())
    assert resident_source(pairs, ROWS, 1, World()).steps == 1
