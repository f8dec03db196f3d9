"""Parquet corpora: columns, row groups, and files that do not belong together."""

import random

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.corpus.forms import EXPECTED, byte_row, images, parquet, parquet_of_bytes, read_all, text_row
from xhash_ray.corpus import parquet as parquet_corpus
from xhash_ray.corpus.footers import gathered
from xhash_ray.corpus.pairs import Pair
from xhash_ray.corpus.sources import open_corpus
from xhash_ray.errors import BadInput, Mismatch
from xhash_ray.storage import tables, writing


@pytest.mark.parametrize(
    ("counts", "rows", "parts"),
    [
        ([4, 4, 3], 1, [((0,), 0, 4), ((1,), 4, 4), ((2,), 8, 3)]),
        ([4, 4, 3], 5, [((0, 1), 0, 8), ((2,), 8, 3)]),
        ([4, 4, 3], 99, [((0, 1, 2), 0, 11)]),
        ([0, 2, 0, 0, 3], 2, [((0, 1), 0, 2), ((2, 3, 4), 2, 3)]),
        ([3, 0], 3, [((0,), 0, 3)]),
        ([], 3, []),
        ([0], 3, []),
        ([2, 2], 0, [((0,), 0, 2), ((1,), 2, 2)]),
    ],
)
def test_row_groups_are_gathered_and_never_cut(counts, rows, parts):
    assert list(gathered(counts, rows)) == parts


def test_parts_of_a_file_begin_where_the_one_before_ended(tmp_path):
    parts = open_corpus(parquet_of_bytes(tmp_path)).parts(4)
    assert [(part.groups, part.start, part.rows) for part in parts] == [
        ((0,), 0, 4),
        ((1,), 4, 3),
        ((0,), 0, 4),
    ]


def test_row_groups_are_streamed(tmp_path, monkeypatch):
    monkeypatch.setattr(parquet_corpus, "BATCH_ROWS", 3)
    source = open_corpus(parquet(tmp_path, [byte_row(pair) for pair in EXPECTED], group=7))
    assert read_all(source, 100) == EXPECTED
    assert [pair.row for part in source.parts(1) for pair in source.read(part)] == list(range(11))


def test_large_row_groups_are_never_in_memory(tmp_path):
    images = [random.randbytes(2_000_000) for _ in range(60)]
    table = pa.table({"id": list(range(60)), "image": images, "text": ["t"] * 60})
    pq.write_table(table, tmp_path / "a.parquet", use_dictionary=False, write_batch_size=1)
    size_bytes = table.nbytes
    del table
    source, before = open_corpus(str(tmp_path)), pa.total_allocated_bytes()
    (part,) = source.parts(1)
    most = 0
    for number, pair in enumerate(source.read(part)):
        assert pair.image == images[number]
        most = max(most, pa.total_allocated_bytes() - before)
    assert most < size_bytes / 3


def test_every_role_can_be_renamed(tmp_path):
    names = {"id": "key", "image": "jpeg", "text": "caption", "labels": "tags"}
    rows = [{names.get(name, name): value for name, value in byte_row(pair).items()} for pair in EXPECTED]
    assert read_all(open_corpus(parquet(tmp_path, rows), names)) == EXPECTED


def test_several_captions_and_extra_columns_are_kept(tmp_path):
    rows = [{"id": 7, "image": b"x", "text": ["one", " two ", "", None], "year": 2001, "tags": ["t"]}]
    (pair,) = read_all(open_corpus(parquet(tmp_path, rows)))
    assert pair == Pair("7", b"x", ("one", "two"), (), {"year": 2001, "tags": ["t"]})


def test_a_label_may_be_a_plain_string(tmp_path):
    (pair,) = read_all(open_corpus(parquet(tmp_path, [{"id": "a", "image": b"x", "text": "t", "labels": "cat"}])))
    assert pair.labels == ("cat",)


def test_text_may_be_a_dictionary(tmp_path):
    texts = pa.array(["one", "two", "one"]).dictionary_encode()
    pq.write_table(pa.table({"id": ["a", "b", "c"], "image": [b"x"] * 3, "text": texts}), tmp_path / "a.parquet")
    assert [pair.texts for pair in read_all(open_corpus(str(tmp_path)))] == [("one",), ("two",), ("one",)]


def test_an_absolute_image_path_is_taken_as_it_stands(tmp_path):
    images(tmp_path / "elsewhere")
    rows = [text_row(pair) | {"image_path": f"{tmp_path}/elsewhere/images/{pair.id}.jpg"} for pair in EXPECTED]
    assert read_all(open_corpus(parquet(tmp_path / "corpus", rows))) == EXPECTED


def test_hugging_faces_table_of_an_image_folder(tmp_path):
    images(tmp_path)
    rows = [text_row(pair) for pair in EXPECTED]
    named = [{"file_name": row.pop("image_path"), **row} for row in rows]
    assert read_all(open_corpus(parquet(tmp_path, named, "metadata.parquet"))) == EXPECTED


def test_a_file_name_beside_image_bytes_is_metadata(tmp_path):
    (pair,) = read_all(open_corpus(parquet(tmp_path, [{"id": 1, "image": b"x", "text": "t", "file_name": "a"}])))
    assert pair.metadata == {"file_name": "a"}


@pytest.mark.parametrize("column", ["id", "text", "image"])
def test_a_missing_column_is_named(tmp_path, column):
    rows = [{key: value for key, value in byte_row(pair).items() if key != column} for pair in EXPECTED]
    with pytest.raises(BadInput, match=f"column '{column}' is missing"):
        open_corpus(parquet(tmp_path, rows))


def test_what_is_not_needed_may_be_missing(tmp_path):
    uri = parquet(tmp_path, [{"text": "one"}, {"text": "two"}])
    pairs = read_all(open_corpus(uri, identity="content", needs=("text",)))
    assert [(pair.texts, len(pair.id)) for pair in pairs] == [(("one",), 32), (("two",), 32)]
    uri = parquet(tmp_path / "b", [{"id": "a", "image": b"x"}])
    assert read_all(open_corpus(uri, needs=("image",))) == [Pair("a", b"x", ())]


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"text": 5}, "'text' is int64"),
        ({"text": [5]}, "'text' is list<"),
        ({"image": "path.jpg"}, "'image' is string"),
        ({"image": 5}, "'image' is int64"),
        ({"image": {"path": "a"}}, "'image' is struct<"),
    ],
)
def test_a_column_of_the_wrong_type_is_refused(tmp_path, changed, words):
    with pytest.raises(BadInput, match=words):
        open_corpus(parquet(tmp_path, [byte_row(EXPECTED[0]) | changed]))


def test_files_of_different_columns_are_refused_by_name(tmp_path):
    parquet(tmp_path, [byte_row(EXPECTED[0])], "a.parquet")
    parquet(tmp_path, [byte_row(EXPECTED[1]) | {"split": 5}], "b.parquet")
    with pytest.raises(Mismatch, match=r"'split' is string in .*a\.parquet and int64 in .*b\.parquet"):
        open_corpus(str(tmp_path))


def test_a_damaged_page_names_the_file(tmp_path):
    uri = parquet(tmp_path, [byte_row(pair) for pair in EXPECTED])
    source = open_corpus(uri)
    path = tmp_path / "part.parquet"
    (part,) = source.parts(100)
    path.write_bytes(b"PAR1" + bytes(len(path.read_bytes()) - 4))
    with pytest.raises(BadInput, match=r"part\.parquet"):
        list(source.read(part))


def committed(folder) -> str:
    """A corpus as one of our stages writes it, with a file beside it that does not count."""
    claimed = writing.claim(str(folder), "a corpus", False)
    writing.begin(claimed)
    halves = (EXPECTED[:6], EXPECTED[6:])
    files = [
        tables.write_table(claimed.part(n), pa.Table.from_pylist([byte_row(pair) for pair in half]))
        for n, half in enumerate(halves)
    ]
    writing.commit(claimed.uri, files, {"kind": "corpus"})
    parquet(folder, [byte_row(EXPECTED[0])], "left-over.parquet")
    return str(folder)


def test_a_manifest_says_which_files_count_and_what_they_hold(tmp_path):
    uri = committed(tmp_path / "corpus")
    source = open_corpus(uri)
    assert read_all(source) == EXPECTED
    listed = {entry["name"]: entry["sha256"] for entry in tables.read_manifest(uri)["files"]}
    assert {part.source.rpartition("/")[2]: part.version for part in source.parts(100)} == listed


def test_manifests_count_in_lists_too(tmp_path):
    parquet(tmp_path / "b", [byte_row(EXPECTED[0]) | {"id": "other"}])
    pairs = read_all(open_corpus(f"{committed(tmp_path / 'a')}::{tmp_path / 'b'}"))
    assert [pair.id for pair in pairs] == [*(pair.id for pair in EXPECTED), "other"]


def test_what_a_run_left_unfinished_is_refused(tmp_path):
    parquet_of_bytes(tmp_path)
    (tmp_path / tables.UNFINISHED).write_text("")
    with pytest.raises(BadInput, match="did not finish"):
        open_corpus(str(tmp_path))
