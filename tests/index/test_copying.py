"""Copies of an index: whole or not there, continued, and never mixed with another's."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.index.samples import answers, codes_at, rows_of
from xhash_ray.errors import BadInput, Mismatch
from xhash_ray.index import copying, generations, life
from xhash_ray.index.verify import verify
from xhash_ray.options import IndexAdd, IndexCopy, IndexDelete, IndexRollback, IndexVerify


def copied(index: str, out: Path, generation: int | None = None) -> dict:
    """What `xhash index copy` says."""
    return copying.copy(IndexCopy(index=index, out=str(out), generation=generation))


def test_a_copy_answers_as_its_index_and_stands_alone(index, tmp_path):
    life.delete(IndexDelete(index=index, ids=("pair-3", "pair-9")))
    told, before = copied(index, tmp_path / "copy"), answers(index)
    assert (told["generation"], told["rows"], told["there"]) == (2, 38, 0)
    Path(index).rename(tmp_path / "gone")
    assert answers(str(tmp_path / "copy")) == before
    assert verify(IndexVerify(index=str(tmp_path / "copy")))["rows"] == 38


def test_a_second_copy_sends_only_what_is_new(index, model, tmp_path):
    first = copied(index, tmp_path / "copy")
    assert copied(index, tmp_path / "copy")["files"] == 0
    life.add(IndexAdd(index=index, codes=codes_at(tmp_path / "more", rows_of(40, 60, seed=1), model.fingerprint)))
    second = copied(index, tmp_path / "copy")
    assert (second["there"], second["rows"]) == (first["files"], 60)
    assert second["files"] == len(generations.current(index).segments) - first["files"]
    assert answers(str(tmp_path / "copy")) == answers(index)
    copy = str(tmp_path / "copy")
    life.rollback(IndexRollback(index=copy))  # both generations are there
    assert generations.current(copy).rows == 40


def test_a_file_that_is_not_what_the_generation_says_is_not_copied(index, tmp_path):
    victim = Path(index) / generations.current(index).segments[1].name
    content = bytearray(victim.read_bytes())
    content[len(content) // 2] ^= 1
    victim.write_bytes(content)
    with pytest.raises(Mismatch, match="not the size and SHA-256"):
        copied(index, tmp_path / "copy")
    assert generations.numbers(str(tmp_path / "copy")) == []
    assert not (tmp_path / "copy" / generations.current(index).segments[1].name).exists()
    content[len(content) // 2] ^= 1
    victim.write_bytes(content)
    assert copied(index, tmp_path / "copy")["there"] == 1  # it goes on
    victim.unlink()
    with pytest.raises(BadInput, match="is missing"):
        copied(index, tmp_path / "other")


def test_a_copy_of_another_index_or_a_newer_one_stays_as_it_is(index, model, tmp_path):
    copied(index, tmp_path / "copy")
    life.delete(IndexDelete(index=str(tmp_path / "copy"), ids=("pair-1",)))
    with pytest.raises(BadInput, match="generation 2 is there"):
        copied(index, tmp_path / "copy")
    life.delete(IndexDelete(index=index, ids=("pair-2",)))
    before = answers(str(tmp_path / "copy"))
    with pytest.raises(BadInput, match="generation 2 of another index"):
        copied(index, tmp_path / "copy")
    with pytest.raises(BadInput, match="the index itself"):
        copied(index, Path(index))
    with pytest.raises(BadInput, match="no generation 7"):
        copied(index, tmp_path / "copy", 7)
    assert answers(str(tmp_path / "copy")) == before
