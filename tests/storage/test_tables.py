"""Sets of Parquet files: what counts as one, what is refused, and in which order results become visible."""

import hashlib
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from xhash_ray.errors import BadInput, Mismatch
from xhash_ray.storage import tables, writing
from xhash_ray.storage import uri as places
from xhash_ray.storage.tables import FOOTERS, MANIFEST, FileFacts


def rows(start: int, count: int) -> pa.Table:
    """Rows with consecutive numbers."""
    numbers = list(range(start, start + count))
    return pa.table({"id": [f"row-{number}" for number in numbers], "number": pa.array(numbers, pa.int32())})


def committed(folder: Path, sizes: tuple[int, ...] = (3, 2), **facts: object) -> str:
    """A folder as our stages write it."""
    parts, start = [], 0
    for number, size in enumerate(sizes):
        parts.append(tables.write_table(f"{folder}/part-{number}.parquet", rows(start, size)))
        start += size
    writing.commit(str(folder), parts, dict(facts))
    return str(folder)


def committed_with_row_groups(folder: Path) -> str:
    """A committed folder whose parts have several row groups, the last of them smaller."""
    folder.mkdir()
    parts = []
    for number, size in enumerate((7, 4)):
        path = folder / f"part-{number}.parquet"
        pq.write_table(rows(number * 10, size), path, row_group_size=3)
        content = path.read_bytes()
        parts.append(FileFacts(path.name, size, len(content), hashlib.sha256(content).hexdigest()))
    writing.commit(str(folder), parts, {})
    return str(folder)


def test_a_file_is_a_set_of_one(tmp_path):
    uri = str(tmp_path / "one.parquet")
    tables.write_table(uri, rows(0, 4))
    found = tables.open_tables(uri, "rows")
    assert (found.files, found.rows, found.total_rows, found.facts) == ((uri,), (4,), 4, {})
    assert tables.read_table(found).equals(rows(0, 4))


def test_a_folder_without_manifest_is_its_files_in_name_order(tmp_path):
    for name, start in (("b", 3), ("a", 0), ("_c", 9)):
        tables.write_table(f"{tmp_path}/{name}.parquet", rows(start, 3))
    found = tables.open_tables(str(tmp_path), "rows")
    assert [places.name_of(name) for name in found.files] == ["a.parquet", "b.parquet"]
    assert tables.read_table(found).equals(rows(0, 6))


def test_a_manifest_says_which_files_count_and_in_which_order(tmp_path):
    second = tables.write_table(f"{tmp_path}/a.parquet", rows(3, 2))
    first = tables.write_table(f"{tmp_path}/b.parquet", rows(0, 3))
    tables.write_table(f"{tmp_path}/left-over.parquet", rows(50, 2))
    writing.commit(str(tmp_path), [first, second], {"encoder": {"model": "m"}})
    found = tables.open_tables(str(tmp_path), "rows")
    assert tables.read_table(found).equals(rows(0, 5))
    assert found.rows == (3, 2)
    assert (found.facts["rows"], found.facts["encoder"]) == (5, {"model": "m"})


def test_columns_can_be_chosen(tmp_path):
    found = tables.open_tables(committed(tmp_path), "rows")
    assert tables.read_table(found, ["number"]).column_names == ["number"]


@pytest.mark.parametrize(
    ("other", "column"),
    [
        (pa.table({"id": ["x"], "number": pa.array([1], pa.int64())}), "number"),
        (pa.table({"id": ["x"]}), "number"),
        (pa.table({"id": ["x"], "number": pa.array([1], pa.int32()), "extra": [1]}), "extra"),
    ],
)
def test_files_of_another_schema_are_refused_by_column(tmp_path, other, column):
    tables.write_table(f"{tmp_path}/a.parquet", rows(0, 1))
    tables.write_table(f"{tmp_path}/b.parquet", other)
    with pytest.raises(Mismatch, match=rf"column '{column}' is .* in .*a\.parquet and .* in .*b\.parquet"):
        tables.open_tables(str(tmp_path), "rows")


def test_metadata_of_the_schema_may_differ(tmp_path):
    tables.write_table(f"{tmp_path}/a.parquet", rows(0, 1))
    tables.write_table(f"{tmp_path}/b.parquet", rows(1, 1).replace_schema_metadata({"made": "elsewhere"}))
    assert tables.open_tables(str(tmp_path), "rows").total_rows == 2


@pytest.mark.parametrize("share", [0.0, 0.5, 0.95])
def test_a_truncated_file_is_named(tmp_path, share):
    path = tmp_path / "cut.parquet"
    tables.write_table(str(path), rows(0, 50))
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(BadInput, match=r"features in .*cut\.parquet: not readable as Parquet"):
        tables.open_tables(str(path), "features")


@pytest.mark.parametrize("name", ["", "missing", "missing.parquet"])
def test_nothing_there_is_bad_input_that_says_what_was_wanted(tmp_path, name):
    with pytest.raises(BadInput):
        tables.open_tables(str(tmp_path / name), "features")


def test_a_missing_column_is_named_with_those_there_are(tmp_path):
    found = tables.open_tables(committed(tmp_path), "rows")
    tables.require_columns(found, ["id", "number"], "rows")
    with pytest.raises(BadInput, match="column 'text' is missing; there are id, number"):
        tables.require_columns(found, ["id", "text"], "rows")


def test_the_same_rows_give_the_same_bytes(tmp_path):
    first = tables.write_table(f"{tmp_path}/a.parquet", rows(0, 9))
    second = tables.write_table(f"{tmp_path}/b.parquet", rows(0, 9))
    assert (first.sha256, first.size_bytes) == (second.sha256, second.size_bytes)


def test_file_facts_are_those_of_the_bytes(tmp_path):
    facts = tables.write_table(f"{tmp_path}/a.parquet", rows(0, 9))
    content = (tmp_path / "a.parquet").read_bytes()
    assert facts == FileFacts("a.parquet", 9, len(content), hashlib.sha256(content).hexdigest())


def test_commit_writes_the_manifest_last(tmp_path, monkeypatch):
    written = []
    write = places.write_json

    def watched(uri, value):
        written.append((places.name_of(uri), sorted(path.name for path in tmp_path.iterdir())))
        write(uri, value)

    monkeypatch.setattr(places, "write_json", watched)
    committed(tmp_path)
    ((name, there_before),) = written
    assert name == MANIFEST
    assert MANIFEST not in there_before
    assert {FOOTERS, "part-0.parquet", "part-1.parquet"} <= set(there_before)


def test_pyarrow_reads_the_merged_footers(tmp_path):
    footers = pq.read_metadata(Path(committed_with_row_groups(tmp_path / "set")) / FOOTERS)
    names = [footers.row_group(group).column(0).file_path for group in range(footers.num_row_groups)]
    assert footers.num_rows == 11
    assert names == ["part-0.parquet"] * 3 + ["part-1.parquet"] * 2
    assert footers.schema.to_arrow_schema().names == ["id", "number"]


def test_row_groups_with_and_without_manifest_agree(tmp_path):
    uri = committed_with_row_groups(tmp_path / "set")
    with_manifest = tables.row_groups(tables.open_tables(uri, "rows"))
    places.delete(uri, [MANIFEST])
    without = tables.row_groups(tables.open_tables(uri, "rows"))
    assert with_manifest == without
    assert [(places.name_of(name), group, size) for name, group, size in without] == [
        ("part-0.parquet", 0, 3),
        ("part-0.parquet", 1, 3),
        ("part-0.parquet", 2, 1),
        ("part-1.parquet", 0, 3),
        ("part-1.parquet", 1, 1),
    ]


def test_row_groups_read_in_order_are_the_table(tmp_path):
    found = tables.open_tables(committed_with_row_groups(tmp_path / "set"), "rows")
    parts = [next(tables.iter_row_groups(name, [group])) for name, group, _ in tables.row_groups(found)]
    assert pa.concat_tables(parts).equals(tables.read_table(found))


def test_several_row_groups_of_one_file_can_be_read_at_once(tmp_path):
    uri = committed_with_row_groups(tmp_path / "set")
    parts = list(tables.iter_row_groups(f"{uri}/part-0.parquet", [0, 2], ["number"]))
    assert [part["number"].to_pylist() for part in parts] == [[0, 1, 2], [6]]


def test_a_committed_set_without_files_has_no_rows(tmp_path):
    places.write_json(f"{tmp_path}/{MANIFEST}", {"format_version": 1, "rows": 0, "files": []})
    with pytest.raises(BadInput, match="no rows"):
        tables.open_tables(str(tmp_path), "features")


@pytest.mark.parametrize("version", [0, 2, None, "1"])
def test_a_manifest_of_another_version_is_refused(tmp_path, version):
    places.write_json(f"{tmp_path}/{MANIFEST}", {"format_version": version, "files": []})
    with pytest.raises(Mismatch, match=f"format version {version}"):
        tables.open_tables(str(tmp_path), "features")


def test_a_file_that_the_manifest_lists_but_is_gone_is_named(tmp_path):
    uri = committed(tmp_path)
    places.delete(uri, ["part-0.parquet"])
    with pytest.raises(BadInput, match=r"part-0\.parquet"):
        tables.open_tables(uri, "rows")


def test_bytes_in_memory_parse(tmp_path):
    tables.write_table(f"{tmp_path}/a.parquet", rows(0, 3))
    assert tables.parse((tmp_path / "a.parquet").read_bytes()).equals(rows(0, 3))


@pytest.mark.parametrize("content", [b"", b"PAR1", b"no Parquet at all"])
def test_bytes_that_are_no_parquet_are_refused(content):
    with pytest.raises(BadInput, match="reading a table"):
        tables.parse(content)
