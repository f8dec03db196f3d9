"""Folders of images with tables of text: what tables may look like, and which are refused."""

import json
import random

import pytest

from tests.corpus.forms import (
    EXPECTED,
    PACKED,
    csv_folder,
    images,
    jsonl_folder,
    lines_text,
    read_all,
    separated_text,
    text_row,
    tsv_folder,
)
from xhash_ray.corpus import image_folder, records
from xhash_ray.corpus.pairs import Pair, Reject
from xhash_ray.corpus.sources import open_corpus
from xhash_ray.errors import BadInput


@pytest.mark.parametrize("column", ["image", "file", "file_name", "filename", "path"])
def test_a_table_may_call_its_paths_otherwise_and_have_no_ids(tmp_path, column):
    images(tmp_path)
    (tmp_path / "t.csv").write_text(f"{column},text\nimages/p00.jpg,hello\n")
    assert read_all(open_corpus(str(tmp_path))) == [Pair("images/p00.jpg", b"pixels 0", ("hello",))]


def test_every_role_can_be_renamed(tmp_path):
    images(tmp_path)
    names = {"id": "nr", "image_path": "photo", "text": "words", "labels": "tags"}
    lines = [json.dumps({names.get(name, name): value for name, value in text_row(p).items()}) for p in EXPECTED]
    (tmp_path / "t.jsonl").write_text("\n".join(lines))
    assert read_all(open_corpus(str(tmp_path), names)) == EXPECTED


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_a_table_may_begin_with_a_byte_order_mark(tmp_path, mark):
    images(tmp_path)
    (tmp_path / "t.csv").write_bytes(mark + b'"id",image_path,text\r\n"a",images/p00.jpg,hello\r\n')
    assert read_all(open_corpus(str(tmp_path / "t.csv"))) == [Pair("a", b"pixels 0", ("hello",))]
    (tmp_path / "t.csv").unlink()
    (tmp_path / "t.jsonl").write_bytes(mark + b'{"id": "a", "image_path": "images/p00.jpg", "text": "hello"}')
    assert read_all(open_corpus(str(tmp_path))) == [Pair("a", b"pixels 0", ("hello",))]


@pytest.mark.parametrize("build", [csv_folder, tsv_folder, jsonl_folder])
@pytest.mark.parametrize("packing", list(PACKED))
def test_tables_may_be_packed(tmp_path, build, packing):
    build(tmp_path)
    (table,) = tmp_path.glob("table.*")
    (tmp_path / f"{table.name}.{packing}").write_bytes(PACKED[packing](table.read_bytes()))
    table.unlink()
    source = open_corpus(str(tmp_path))
    assert read_all(source, 3) == EXPECTED
    assert read_all(open_corpus(str(tmp_path / f"{table.name}.{packing}"))) == EXPECTED


@pytest.mark.parametrize("name", ["metadata.csv", "metadata.jsonl"])
def test_hugging_faces_image_folders(tmp_path, name):
    """One table a split; the same names of files in both."""
    for split in ("train", "test"):
        (tmp_path / split).mkdir()
        (tmp_path / split / "0.jpg").write_bytes(split.encode())
        row = {"file_name": "0.jpg", "text": f"of {split}"}
        lines = f"file_name,text\n0.jpg,of {split}\n" if name.endswith("csv") else json.dumps(row)
        (tmp_path / split / name).write_text(lines)
    assert read_all(open_corpus(str(tmp_path))) == [
        Pair("test/0.jpg", b"test", ("of test",)),
        Pair("train/0.jpg", b"train", ("of train",)),
    ]
    assert read_all(open_corpus(str(tmp_path / "train"))) == [Pair("0.jpg", b"train", ("of train",))]


def test_a_common_folder_is_of_whole_names():
    assert image_folder.common_folder(["/c/train", "/c/test"]) == "/c"
    assert image_folder.common_folder(["/c", "/c/sub"]) == "/c"
    assert image_folder.common_folder(["s3://b/a/x", "s3://b/a/y"]) == "s3://b/a"


def test_cells_beyond_the_head_of_a_table_are_no_metadata(tmp_path):
    images(tmp_path)
    (tmp_path / "t.csv").write_text("id,image_path,text\na,images/p00.jpg,hello,more,and more\n")
    source = open_corpus(str(tmp_path))
    assert source.survey(source.parts(1)[0]).metadata.names == []
    assert read_all(source) == [Pair("a", b"pixels 0", ("hello",))]


@pytest.mark.parametrize("line", ["a,images/p00.jpg", "a,images/p00.jpg,", "a,images/p00.jpg, "])
def test_a_row_that_ends_early_is_a_reject(tmp_path, line):
    images(tmp_path)
    (tmp_path / "t.csv").write_text(f"id,image_path,text\nb,images/p01.jpg,one\n{line}\n")
    reject = Reject("a", f"{tmp_path}/t.csv", 1, "read", "missing text", "text is missing or empty")
    assert read_all(open_corpus(str(tmp_path)))[1] == reject


def test_line_ends_and_quotes_within_values(tmp_path):
    images(tmp_path)
    texts = ["two\nlines", 'a 5" disk', '"quoted"', "comma, and\r\nreturn", "\n\n", "'", 'x""y']
    pairs = [Pair(f"p{i:02d}", b"", (text,), (), {"split": "a"}) for i, text in enumerate(texts)]
    (tmp_path / "t.csv").write_bytes(separated_text(pairs, ","))
    found = read_all(open_corpus(str(tmp_path)), 2)
    assert [row.texts if isinstance(row, Pair) else row.kind for row in found] == [
        (text.strip(),) if text.strip() else "missing text" for text in texts
    ]


def test_half_a_surrogate_in_json_becomes_a_question_mark(tmp_path):
    images(tmp_path)
    (tmp_path / "t.jsonl").write_text('{"id": "a", "image_path": "images/p00.jpg", "text": "x\\ud83d y\\u00fc"}')
    assert read_all(open_corpus(str(tmp_path)))[0].texts == ("x? yü",)


def test_a_long_table_is_read_in_pieces(tmp_path, monkeypatch):
    """Blocks, strides and spans far smaller than the table, so that all their borders are crossed."""
    draw = random.Random(5)
    pieces = ["a", ",", '"', "\n", "\t", "ü", " ", "\r\n"]
    texts = ["t" + "".join(draw.choices(pieces, k=draw.randrange(9))) for _ in range(3000)]
    pairs = [Pair(f"i{i}", b"", (text,), (), {"split": "a"}) for i, text in enumerate(texts)]
    expected = [(f"i{i}", text.strip(), i) for i, text in enumerate(texts)]
    for name, content in (
        ("t.csv", separated_text(pairs, ",")),
        ("t.tsv", separated_text(pairs, "\t")),
        ("t.jsonl", lines_text(pairs)),
    ):
        (tmp_path / name).write_bytes(content)
        for stride, span, block in ((7, 1, 64), (64, 5000, 1000), (1024, 2**22, 2**24)):
            monkeypatch.setattr(records, "STRIDE", stride)
            monkeypatch.setattr(records, "SPAN_BYTES", span)
            monkeypatch.setattr(records, "BLOCK_BYTES", block)
            source = open_corpus(str(tmp_path / name), needs=("text",))
            found = [row for part in source.parts(100) for row in source.read(part)]
            assert [(row.id, row.texts[0], row.row) for row in found] == expected


@pytest.mark.parametrize(
    ("head", "column"),
    [("id,words,image_path", "text"), ("id,text,pixels", "image_path"), ("a,b", "image_path")],
)
def test_a_missing_column_is_named(tmp_path, head, column):
    (tmp_path / "t.csv").write_text(f"{head}\n" + ",".join("x" * (head.count(",") + 1)) + "\n")
    with pytest.raises(BadInput, match=f"column '{column}' is missing; there are {head.replace(',', ', ')}"):
        open_corpus(str(tmp_path))


def test_rows_without_picture_need_an_id(tmp_path):
    (tmp_path / "t.csv").write_text("text\nhello\n")
    with pytest.raises(BadInput, match="column 'id' is missing"):
        open_corpus(str(tmp_path), needs=("text",))
    assert read_all(open_corpus(str(tmp_path), identity="content", needs=("text",)))[0].texts == ("hello",)


@pytest.mark.parametrize("build", [csv_folder, jsonl_folder])
def test_the_table_of_a_folder_can_be_named_itself(tmp_path, build):
    build(tmp_path)
    (table,) = tmp_path.glob("table.*")
    assert read_all(open_corpus(str(table))) == EXPECTED


def test_tables_of_different_columns_are_refused_by_name(tmp_path):
    (tmp_path / "a.csv").write_text("id,image_path,text\n")
    (tmp_path / "b.csv").write_text("id,image_path,text,year\n")
    with pytest.raises(BadInput, match=r"a\.csv has id, image_path, text; .*b\.csv has id, image_path, text, year"):
        open_corpus(str(tmp_path))


@pytest.mark.parametrize(("name", "content"), [("t.csv", "id,image_path,text\n"), ("t.csv", ""), ("t.jsonl", "\n")])
def test_a_table_without_rows_has_no_parts(tmp_path, name, content):
    (tmp_path / name).write_text(content)
    assert open_corpus(str(tmp_path)).parts(4) == []


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("t.jsonl", b'{"id": 1, "image_path": "a", "text": "b"}\nno json'),
        ("t.csv", b"id,text\n\xff\xfe\x00"),
        ("t.csv", b"id,image_path,text\n" + b"a,b,c\n" * 9 + b"\xff"),
        ("t.csv", b"id,image_path,text\na,b,c\n\xc3"),
        ("t.jsonl", b"[1]\n"),
        ("t.jsonl", b'{"id": "a", "image_path": "b", "text": "c"}\n5\n'),
    ],
)
def test_a_table_that_cannot_be_read_is_named(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(BadInput, match=rf"{name}: (not readable|damaged)|corpus table .*{name}"):
        read_all(open_corpus(str(tmp_path), needs=("text",)))


@pytest.mark.parametrize(("packing", "cut"), [("gz", 9), ("zst", 3), ("xz", 3), ("bz2", 3)])
def test_a_packed_table_that_is_cut_off_is_named(tmp_path, packing, cut):
    content = PACKED[packing](b"id,image_path,text\n" + b"a,b,c\n" * 999)
    (tmp_path / f"t.csv.{packing}").write_bytes(content[:-cut])
    with pytest.raises(BadInput, match=rf"corpus table .*t\.csv\.{packing}: damaged"):
        read_all(open_corpus(str(tmp_path), needs=("text",)))


def test_a_table_that_changes_while_it_is_read_says_so(tmp_path):
    csv_folder(tmp_path)
    source = open_corpus(str(tmp_path))
    parts = source.parts(4)
    (tmp_path / "table.csv").write_bytes(separated_text(EXPECTED[:5], ","))
    with pytest.raises(BadInput, match="changed meanwhile"):
        list(source.read(parts[1]))
