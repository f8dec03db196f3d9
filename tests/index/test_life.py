"""The life of an index: every change is one commit."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from tests.index.samples import SHARDS, answers, codes_at, expected, rows_of
from tests.index.test_shard import code_table
from xhash_ray.errors import BadInput, Mismatch
from xhash_ray.index import generations, life
from xhash_ray.index.export import export
from xhash_ray.index.verify import verify
from xhash_ray.options import (
    IndexAdd,
    IndexCompact,
    IndexDelete,
    IndexExport,
    IndexInfo,
    IndexRollback,
    IndexUpsert,
    IndexVerify,
)
from xhash_ray.reports import render


def test_adding_deleting_replacing_compacting_and_rolling_back(tmp_path, index, model):
    first, more = rows_of(0, 40), rows_of(40, 60, seed=1)
    assert answers(index) == expected(first)
    codes = codes_at(tmp_path / "more", more, model.fingerprint)
    assert life.add(IndexAdd(index=index, codes=codes))["rows"] == 60
    everything = pa.concat_tables([first, more])
    assert answers(index) == expected(everything)

    gone = ["pair-3", "pair-41", "pair-59"]
    assert life.delete(IndexDelete(index=index, ids=tuple(gone)))["rows"] == 57
    left = everything.filter(pa.array([name not in gone for name in everything["id"].to_pylist()]))
    assert answers(index) == expected(left)

    newer = rows_of(35, 45, seed=2)  # pair-41 comes back, others are replaced
    found = life.upsert(IndexUpsert(index=index, codes=codes_at(tmp_path / "newer", newer, model.fingerprint)))
    assert (found["rows"], found["added"], found["replaced"]) == (58, 1, 9)
    names = set(newer["id"].to_pylist())
    kept = left.filter(pa.array([name not in names for name in left["id"].to_pylist()]))
    final = pa.concat_tables([kept, newer])
    assert answers(index) == expected(final)
    assert verify(IndexVerify(index=index))["rows"] == 58

    found = life.compact(IndexCompact(index=index, keep=2))
    assert (found["rows"], found["segments"]) == (58, SHARDS)
    assert generations.current(index).tombstones == []
    assert answers(index) == expected(final)
    assert generations.numbers(index) == [4, 5]
    named = {name for number in (4, 5) for name in generations.read(index, number).files()}
    there = {str(path.relative_to(index)) for path in Path(index).rglob("*.arrow")}
    assert there == named, "nothing is left over, nothing is missing"

    assert life.rollback(IndexRollback(index=index))["content_of"] == 4
    assert answers(index) == expected(final)
    verify(IndexVerify(index=index))
    told = life.info(IndexInfo(index=index))
    assert "rollback" in render("index info", told)
    history = told["history"]
    assert [entry["change"] for entry in history] == ["upsert", "compact", "rollback"]


def test_a_pair_that_was_deleted_and_added_again_is_there(tmp_path, index, model):
    life.delete(IndexDelete(index=index, ids=("pair-5",)))
    again = rows_of(5, 6, seed=7)
    life.add(IndexAdd(index=index, codes=codes_at(tmp_path / "again", again, model.fingerprint)))
    life.delete(IndexDelete(index=index, ids=("pair-6",)))
    names = rows_of(0, 40)["id"].to_pylist()
    kept = rows_of(0, 40).filter(pa.array([name not in ("pair-5", "pair-6") for name in names]))
    assert answers(index) == expected(pa.concat_tables([kept, again]))


def test_bad_input_changes_nothing(tmp_path, index, model):
    before = sorted(str(path) for path in Path(index).rglob("*"))
    there = codes_at(tmp_path / "there", rows_of(39, 45), model.fingerprint)
    with pytest.raises(BadInput, match=r"id 'pair-39' is there already \(1 such rows\)"):
        life.add(IndexAdd(index=index, codes=there))
    twice = codes_at(tmp_path / "twice", pa.concat_tables([rows_of(50, 52), rows_of(51, 53)]), model.fingerprint)
    with pytest.raises(BadInput, match="id 'pair-51' occurs twice"):
        life.upsert(IndexUpsert(index=index, codes=twice))
    with pytest.raises(Mismatch, match="is made by model aaaa"):
        life.add(IndexAdd(index=index, codes=codes_at(tmp_path / "other", rows_of(50, 52), "a" * 64)))
    wide = code_table(3, 0).set_column(1, "image_code", pa.array([b"abc"] * 3, pa.binary(3)))
    wide = wide.set_column(2, "text_code", pa.array([b"abc"] * 3, pa.binary(3)))
    with pytest.raises(Mismatch, match="codes of 24 bits"):
        life.add(IndexAdd(index=index, codes=codes_at(tmp_path / "wide", wide, model.fingerprint)))
    with pytest.raises(BadInput, match="no rows"):
        life.add(IndexAdd(index=index, codes=there, where="id=nothing"))
    with pytest.raises(BadInput, match=r"id 'nobody' is not there \(1 such ids\)"):
        life.delete(IndexDelete(index=index, ids=("pair-1", "nobody")))
    with pytest.raises(BadInput, match="id 'pair-1' is given twice"):
        life.delete(IndexDelete(index=index, ids=("pair-1", "pair-1")))
    with pytest.raises(BadInput, match="no ids"):
        life.delete(IndexDelete(index=index))
    with pytest.raises(BadInput, match="it is the first"):
        life.rollback(IndexRollback(index=index))
    with pytest.raises(BadInput, match="no generation 9; there are 1"):
        life.rollback(IndexRollback(index=index, to=9))
    assert sorted(str(path) for path in Path(index).rglob("*")) == before
    assert life.delete(IndexDelete(index=index, ids=("nobody",), ignore_missing=True))["deleted"] == 0


def test_keeping_no_generation_is_refused_before_anything_is_merged(index):
    life.delete(IndexDelete(index=index, ids=("pair-1",)))
    with pytest.raises(BadInput, match="--keep 0"):
        life.compact(IndexCompact(index=index, keep=0))
    assert generations.numbers(index) == [1, 2]


def test_an_index_may_become_empty(tmp_path, index):
    names = tuple(rows_of(0, 40)["id"].to_pylist())
    assert life.delete(IndexDelete(index=index, ids=names))["rows"] == 0
    assert answers(index) == []
    verify(IndexVerify(index=index))
    life.compact(IndexCompact(index=index, keep=1))
    assert answers(index) == []
    assert verify(IndexVerify(index=index))["rows"] == 0
    with pytest.raises(BadInput, match="no rows"):
        export(IndexExport(index=index, out=str(tmp_path / "out"), format="parquet"))


def test_ids_to_delete_may_come_from_a_file(tmp_path, index):
    (tmp_path / "ids.txt").write_text("pair-7\n\npair-8\n")
    assert life.delete(IndexDelete(index=index, ids_file=str(tmp_path / "ids.txt")))["deleted"] == 2
    assert not {"pair-7", "pair-8"} & {name for _, name in answers(index)}


def test_a_shard_too_large_for_one_segment_is_compacted_into_several(tmp_path, index, model, monkeypatch):
    monkeypatch.setattr(life, "SEGMENT_ROWS", 6)
    more = rows_of(40, 60, 1)
    life.add(IndexAdd(index=index, codes=codes_at(tmp_path / "more", more, model.fingerprint)))
    life.delete(IndexDelete(index=index, ids=("pair-3", "pair-41")))
    before = answers(index)
    life.compact(IndexCompact(index=index))
    made = generations.current(index)
    assert len(made.segments) > SHARDS
    assert answers(index) == before
    verify(IndexVerify(index=index))
    assert life.compact(IndexCompact(index=index))["generation"] == made.number, "nothing is left to compact"
