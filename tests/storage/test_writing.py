"""Replacing results: the old ones stay until the new are complete, and nothing of anybody else is touched."""

import pyarrow as pa
import pytest

from xhash_ray.errors import BadInput
from xhash_ray.storage import tables, writing
from xhash_ray.storage.tables import MANIFEST, UNFINISHED


def write(claimed: writing.Claim, number: int, value: int) -> tables.FileFacts:
    return tables.write_table(claimed.part(number), pa.table({"id": [f"row-{number}"], "value": [value]}))


def values(uri: str) -> list[int]:
    return tables.read_table(tables.open_tables(uri, "rows"))["value"].to_pylist()


def finished(folder, value: int = 1) -> str:
    claimed = writing.claim(str(folder), "rows", overwrite=True)
    writing.begin(claimed)
    writing.commit(claimed.uri, [write(claimed, number, value) for number in (0, 1)], {})
    return claimed.uri


def test_finished_results_are_not_replaced_unasked(tmp_path):
    uri = finished(tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(BadInput, match=r"finished results.*--overwrite"):
        writing.claim(uri, "rows", overwrite=False)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_claim_changes_nothing(tmp_path):
    uri = finished(tmp_path)
    before = sorted(path.name for path in tmp_path.iterdir())
    writing.claim(uri, "rows", overwrite=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == before


def test_old_results_are_read_until_the_new_are_committed(tmp_path):
    uri = finished(tmp_path, value=1)
    claimed = writing.claim(uri, "rows", overwrite=True)
    writing.begin(claimed)
    parts = [write(claimed, number, 2) for number in (0, 1, 2)]
    assert values(uri) == [1, 1]
    writing.commit(uri, parts, {})
    assert values(uri) == [2, 2, 2]


def test_replaced_parts_are_removed_and_nothing_else(tmp_path):
    uri = finished(tmp_path)
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "other.parquet").write_bytes(b"mine")
    before = {path.name for path in tmp_path.glob("part-*")}
    finished(tmp_path, value=2)
    after = {path.name for path in tmp_path.glob("part-*")}
    assert len(after) == 2
    assert not after & before
    assert (tmp_path / "notes.txt").exists()
    assert (tmp_path / "other.parquet").exists()
    assert values(uri) == [2, 2]


def test_what_a_dead_run_left_is_refused(tmp_path):
    claimed = writing.claim(str(tmp_path / "new"), "rows", overwrite=False)
    writing.begin(claimed)
    write(claimed, 0, 1)
    with pytest.raises(BadInput, match="a run that did not finish"):
        tables.open_tables(claimed.uri, "rows")
    again = writing.claim(claimed.uri, "rows", overwrite=False)
    writing.begin(again)
    writing.commit(again.uri, [write(again, 0, 3)], {})
    assert values(again.uri) == [3]
    assert not (tmp_path / "new" / UNFINISHED).exists()


def test_a_run_that_dies_over_finished_results_leaves_them(tmp_path):
    uri = finished(tmp_path)
    claimed = writing.claim(uri, "rows", overwrite=True)
    writing.begin(claimed)
    write(claimed, 0, 9)
    assert values(uri) == [1, 1]
    assert (tmp_path / MANIFEST).exists()


def test_a_file_is_not_taken_for_a_folder(tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(BadInput, match="a file of that name"):
        writing.claim(str(tmp_path / "file"), "rows", overwrite=True)
    assert (tmp_path / "file").read_text() == "mine"


def test_parts_sort_by_number(tmp_path):
    claimed = writing.claim(str(tmp_path), "rows", overwrite=False)
    names = [claimed.part(number) for number in (0, 9, 10, 123_456)]
    assert names == sorted(names)
    assert writing.claim(str(tmp_path), "rows", overwrite=False).run != claimed.run
