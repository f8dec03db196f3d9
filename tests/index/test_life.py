"""The life of an index: every change is one commit, whoever dies or comes second."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest
import torch
from pyarrow import feather

from tests.index.test_shard import brute_force, code_table
from xhash_ray import methods
from xhash_ray.errors import BadInput, Conflict, Mismatch, XhashError
from xhash_ray.index import generations, life
from xhash_ray.index.build import assemble, partition
from xhash_ray.index.export import export
from xhash_ray.index.segments import segment_name, write_segment
from xhash_ray.index.shard import load_shard, merge_hits
from xhash_ray.index.verify import verify
from xhash_ray.methods.artefacts import facts_of, weights_of
from xhash_ray.methods.base import Shape
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
from xhash_ray.storage import streams, tables, writing
from xhash_ray.storage import uri as places
from xhash_ray.storage.artefact import write_artefact
from xhash_ray.storage.codes import to_array

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


CHANGES = {
    "add": lambda index, codes: life.add(IndexAdd(index=index, codes=codes)),
    "upsert": lambda index, codes: life.upsert(IndexUpsert(index=index, codes=codes)),
    "delete": lambda index, codes: life.delete(IndexDelete(index=index, ids=("pair-1", "pair-2"))),
    "compact": lambda index, codes: life.compact(IndexCompact(index=index, keep=1)),
    "rollback": lambda index, codes: life.rollback(IndexRollback(index=index, to=1)),
}


class Killed(BaseException):
    """What a killed process does not live to see."""


@pytest.mark.parametrize("change", CHANGES)
def test_killed_at_any_step_the_index_is_the_old_or_the_new_one(tmp_path, index, model, monkeypatch, change):
    rows = rows_of(40, 60, 1) if change != "upsert" else rows_of(30, 60, 1)
    codes = codes_at(tmp_path / "codes", rows, model.fingerprint)
    life.delete(IndexDelete(index=index, ids=("pair-0",)))
    before = answers(index)
    whole = tmp_path / "whole"
    shutil.copytree(index, whole)
    CHANGES[change](str(whole), codes)
    after, steps, finished = answers(str(whole)), 0, False
    while not finished:
        copy = tmp_path / f"copy-{steps}"
        shutil.copytree(index, copy)
        left = [steps]

        def dying(function, left=left):
            def step(*arguments, **named):
                if left[0] == 0:
                    raise Killed
                left[0] -= 1
                return function(*arguments, **named)

            return step

        with monkeypatch.context() as patch:
            for name in ("write_bytes", "create_bytes", "delete"):
                patch.setattr(places, name, dying(getattr(places, name)))
            patch.setattr(streams.DigestingFile, "write", dying(streams.DigestingFile.write))
            patch.setattr(os, "replace", dying(os.replace))
            try:
                CHANGES[change](str(copy), codes)
                finished = True
            except Killed:
                pass
        assert answers(str(copy)) in ((before, after) if not finished else (after,))
        verify(IndexVerify(index=str(copy)))
        steps += 1
    assert steps >= 2


@pytest.mark.parametrize("change", CHANGES)
def test_of_two_writers_one_wins_and_the_other_is_told_and_can_run_again(tmp_path, index, model, monkeypatch, change):
    life.delete(IndexDelete(index=index, ids=("pair-0",)))
    codes = codes_at(tmp_path / "codes", rows_of(40, 60, 1), model.fingerprint)
    first = codes_at(tmp_path / "first", rows_of(90, 95, 3), model.fingerprint)
    commit = generations.commit

    def overtaken(*arguments):
        monkeypatch.setattr(generations, "commit", commit)
        life.add(IndexAdd(index=index, codes=first))
        return commit(*arguments)

    monkeypatch.setattr(generations, "commit", overtaken)
    with pytest.raises(Conflict, match="generation 3 was committed by another writer"):
        CHANGES[change](index, codes)
    assert generations.current(index).facts["change"] == "add"
    assert generations.current(index).rows == 44
    verify(IndexVerify(index=index))
    CHANGES[change](index, codes)
    verify(IndexVerify(index=index))


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


def test_ids_out_of_order_are_named(index):
    made = generations.current(index)
    facts = made.segments[0]
    table = feather.read_table(f"{index}/{facts.name}")
    mixed = table.take([1, 0, *range(2, len(table))])
    written = write_segment(index, facts.name, facts.shard, 1, mixed)
    path = Path(index) / generations.name_of(1)
    changed = json.loads(path.read_text())
    changed["segments"][0] = vars(written)
    path.write_text(json.dumps(changed))
    with pytest.raises(XhashError, match="in row 1 is out of order"):
        verify(IndexVerify(index=index))


def test_a_full_disk_leaves_the_index_as_it_was(tmp_path, index, model, monkeypatch):
    codes = codes_at(tmp_path / "codes", rows_of(40, 60, 1), model.fingerprint)
    before = answers(index)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(streams.DigestingFile, "write", full)
    with pytest.raises(XhashError, match="No space left on device"):
        life.add(IndexAdd(index=index, codes=codes))
    assert answers(index) == before
    verify(IndexVerify(index=index))
    assert not list(Path(index).rglob(".writing-*"))


def test_ids_to_delete_may_come_from_a_file(tmp_path, index):
    (tmp_path / "ids.txt").write_text("pair-7\n\npair-8\n")
    assert life.delete(IndexDelete(index=index, ids_file=str(tmp_path / "ids.txt")))["deleted"] == 2
    assert not {"pair-7", "pair-8"} & {name for _, name in answers(index)}


def test_every_damage_is_named(index):
    made = generations.current(index)
    first, second, third = (Path(index) / facts.name for facts in made.segments)
    first.write_bytes(first.read_bytes()[:-7])
    second.unlink()
    content = bytearray(third.read_bytes())
    content[len(content) // 2] ^= 4
    third.write_bytes(content)
    (weights,) = (Path(index) / made.facts["model"]).glob("*.safetensors")
    weights.write_bytes(b"x")
    with pytest.raises(XhashError) as error:
        verify(IndexVerify(index=index))
    for name in (first, second, third, weights):
        assert name.name in error.value.found
    assert "is missing" in error.value.found


def test_counts_and_statistics_are_counted_again(index):
    path = Path(index) / generations.name_of(1)
    facts = json.loads(path.read_text())
    for change, found in [
        (lambda f: f.update(rows=41), "40 live rows in the segments, 41 in the generation"),
        (lambda f: f["segments"][0]["ones"]["image"].__setitem__(0, 0), "image codes' bits are not distributed"),
        (lambda f: f["segments"][0].update(shard=2), "belongs to shard 0"),
        (lambda f: f["segments"][1].update(rows=5), "instead of 5"),
        (lambda f: f.update(bits=24), "image codes of 16 bits instead of 24"),
    ]:
        changed = json.loads(json.dumps(facts))
        change(changed)
        path.write_text(json.dumps(changed))
        with pytest.raises(XhashError, match=found):
            verify(IndexVerify(index=index))


@pytest.mark.parametrize("version", [1, 3, None])
def test_another_format_is_refused(index, version):
    path = Path(index) / generations.name_of(1)
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format_version": version}))
    with pytest.raises(Mismatch, match=f"format version {version} in generations/00000001.json"):
        verify(IndexVerify(index=index))


def test_a_folder_without_generations_is_no_index(tmp_path):
    with pytest.raises(BadInput, match="no generation"):
        generations.current(str(tmp_path))
    (tmp_path / "manifest.json").write_text("{}")
    with pytest.raises(Mismatch, match="format version 1"):
        generations.current(str(tmp_path))


def test_what_is_exported_is_what_is_there(tmp_path, index):
    life.delete(IndexDelete(index=index, ids=("pair-1",)))
    found = export(IndexExport(index=index, out=str(tmp_path / "parquet"), format="parquet"))
    rows = tables.read_table(tables.open_tables(found["out"], "codes"))
    assert (found["rows"], len(rows), len(found["files"])) == (39, 39, SHARDS)
    faiss = pytest.importorskip("faiss", reason="faiss is in the bench extra")
    found = export(IndexExport(index=index, out=str(tmp_path / "faiss")))
    loaded = faiss.read_index_binary(f"{found['out']}/text.faiss")
    names = Path(found["out"], "ids.txt").read_text().split("\n")[:-1]
    stored = dict(zip(rows["id"].to_pylist(), to_array(rows["text_code"]).tolist(), strict=True))
    assert len(names) == loaded.ntotal == 39
    assert faiss.vector_to_array(loaded.xb).reshape(39, 2).tolist() == [stored[name] for name in names]
    with pytest.raises(BadInput, match="something is there"):
        export(IndexExport(index=index, out=str(tmp_path / "faiss")))


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


def test_compacting_sweeps_up_what_dead_writers_left_and_nothing_else(tmp_path, index, model, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(generations, "commit", lambda *_: (_ for _ in ()).throw(Killed()))
        with pytest.raises(Killed):
            life.add(IndexAdd(index=index, codes=codes_at(tmp_path / "a", rows_of(40, 60, 1), model.fingerprint)))
    building = Path(index) / "building" / "0b" / "cut-000000.arrow"
    half = Path(index) / "segments" / ".writing-abc"
    for path in (building, half):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    before, files = answers(index), len(list(Path(index).rglob("*.*")))
    assert life.compact(IndexCompact(index=index))["orphans_deleted"] == 0, "they may be a writer's at work"
    assert len(list(Path(index).rglob("*.*"))) == files
    found = life.compact(IndexCompact(index=index, orphans_after_s=0))["orphans_deleted"]
    assert found == SHARDS + 2
    assert not building.exists()
    assert not half.exists()
    assert answers(index) == before
    verify(IndexVerify(index=index))
