"""Changes of an index that are killed, overtaken, or find no room: it is the old or the new one."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from tests.index.samples import SHARDS, answers, codes_at, rows_of
from xhash_ray.errors import Conflict, XhashError
from xhash_ray.index import generations, life
from xhash_ray.index.verify import verify
from xhash_ray.options import (
    IndexAdd,
    IndexCompact,
    IndexDelete,
    IndexRollback,
    IndexUpsert,
    IndexVerify,
)
from xhash_ray.storage import streams
from xhash_ray.storage import uri as places

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
