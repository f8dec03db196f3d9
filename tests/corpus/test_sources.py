"""Corpora: the same pairs come out of every form, every row once, and what is no pair says why."""

import csv
import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from xhash_ray.corpus.pairs import Pair, Reject, as_labels, as_texts, column_map
from xhash_ray.corpus.sources import Source, common_type, metadata_schema, open_corpus, unify
from xhash_ray.corpus.units import Unit, plan_units
from xhash_ray.errors import BadInput, BadOption, XhashError

N = 11
Build = Callable[[Path], str]
EXPECTED = [
    Pair(
        f"p{i:02d}",
        f"pixels {i}".encode(),
        (f'caption {i}, "ü"',),
        ("even",) if i % 2 == 0 else ("odd", "small"),
        {"split": "ab"[i % 2]},
    )
    for i in range(N)
]


def images(folder: Path, without: int | None = None) -> None:
    """The images as files of their own."""
    (folder / "images").mkdir(parents=True, exist_ok=True)
    for number, pair in enumerate(EXPECTED):
        if number != without:
            (folder / "images" / f"{pair.id}.jpg").write_bytes(pair.image)


def text_row(pair: Pair) -> dict[str, Any]:
    """A pair without its image's bytes, as a row."""
    return {
        "id": pair.id,
        "image_path": f"images/{pair.id}.jpg",
        "text": pair.texts[0],
        "labels": list(pair.labels),
        "split": pair.metadata["split"],
    }


def byte_row(pair: Pair) -> dict[str, Any]:
    """A pair with its image's bytes, as a row."""
    row = text_row(pair) | {"image": pair.image}
    row.pop("image_path")
    return row


def parquet(folder: Path, rows: list[dict[str, Any]], name: str = "part.parquet", group: int = 4) -> str:
    """Rows as a Parquet file of several row groups."""
    folder.mkdir(exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), folder / name, row_group_size=group)
    return str(folder)


def parquet_of_bytes(folder: Path) -> str:
    """Two Parquet files with image bytes."""
    parquet(folder, [byte_row(pair) for pair in EXPECTED[:7]], "a.parquet")
    return parquet(folder, [byte_row(pair) for pair in EXPECTED[7:]], "b.parquet")


def parquet_of_structs(folder: Path) -> str:
    """Images as the structs that Hugging Face writes."""
    return parquet(folder, [byte_row(p) | {"image": {"bytes": p.image, "path": None}} for p in EXPECTED])


def parquet_of_lists(folder: Path) -> str:
    """Captions as lists of one."""
    return parquet(folder, [byte_row(pair) | {"text": list(pair.texts)} for pair in EXPECTED])


def parquet_of_paths(folder: Path) -> str:
    """Parquet that names image files beside it."""
    images(folder)
    return parquet(folder, [text_row(pair) for pair in EXPECTED])


def separated(folder: Path, name: str, delimiter: str) -> str:
    """Image files and a table of separated values."""
    images(folder)
    rows = [text_row(pair) | {"labels": "|".join(pair.labels)} for pair in EXPECTED]
    with open(folder / name, "w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, list(rows[0]), delimiter=delimiter)
        writer.writeheader()
        writer.writerows(rows)
    return str(folder)


def csv_folder(folder: Path) -> str:
    """Image files and a CSV table."""
    return separated(folder, "table.csv", ",")


def tsv_folder(folder: Path) -> str:
    """Image files and a TSV table."""
    return separated(folder, "table.tsv", "\t")


def jsonl_folder(folder: Path) -> str:
    """Image files and a JSON Lines table, with an empty line in it."""
    images(folder)
    lines = [json.dumps(text_row(pair)) for pair in EXPECTED]
    (folder / "table.jsonl").write_text("\n".join([*lines[:3], "", *lines[3:]]), encoding="utf-8")
    return str(folder)


def tar(path: Path, members: list[tuple[str, bytes]]) -> None:
    """A tar file of members."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as archive:
        for name, content in members:
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))


def tars_of_json(folder: Path) -> str:
    """Two tars: image, caption and JSON metadata of each pair."""
    for name, pairs in (("000.tar", EXPECTED[:5]), ("001.tar", EXPECTED[5:])):
        members = []
        for pair in pairs:
            facts = {"labels": list(pair.labels), **pair.metadata}
            members += [(f"{pair.id}.jpg", pair.image), (f"{pair.id}.txt", pair.texts[0].encode())]
            members += [(f"{pair.id}.json", json.dumps(facts).encode())]
        tar(folder / name, members)
    return str(folder)


FORMS = [
    parquet_of_bytes,
    parquet_of_structs,
    parquet_of_lists,
    parquet_of_paths,
    csv_folder,
    tsv_folder,
    jsonl_folder,
    tars_of_json,
]
every_form = pytest.mark.parametrize("build", FORMS)


def read_all(source: Source, rows_per_unit: int = 4) -> list[Pair | Reject]:
    """All rows of a corpus in the order of its units."""
    return [found for unit in source.plan(rows_per_unit) for found in source.read(unit)]


def bytes_with(folder: Path, number: int, **changed: Any) -> Source:
    """A Parquet corpus in which one row was changed."""
    rows = [byte_row(pair) for pair in EXPECTED]
    rows[number] |= changed
    return open_corpus(parquet(folder, rows))


@every_form
@pytest.mark.parametrize("rows_per_unit", [1, 3, 5, 100])
def test_the_same_pairs_come_out_of_every_form(tmp_path, build, rows_per_unit):
    assert read_all(open_corpus(build(tmp_path / "corpus")), rows_per_unit) == EXPECTED


@every_form
def test_a_survey_knows_ids_labels_and_metadata(tmp_path, build):
    source = open_corpus(build(tmp_path / "corpus"))
    surveys = [source.survey(unit) for unit in source.plan(3)]
    assert [name for survey in surveys for name in survey.ids] == [pair.id for pair in EXPECTED]
    assert set().union(*(survey.labels for survey in surveys)) == {"even", "odd", "small"}
    assert {tuple(survey.metadata.names) for survey in surveys} == {("split",)}
    assert {survey.metadata.field("split").type for survey in surveys} == {pa.string()}


@every_form
def test_units_are_numbered_and_read_alone(tmp_path, build):
    source = open_corpus(build(tmp_path / "corpus"))
    units = source.plan(3)
    assert [unit.number for unit in units] == list(range(len(units)))
    backwards = [list(source.read(unit)) for unit in reversed(units)]
    assert [pair for part in reversed(backwards) for pair in part] == EXPECTED


@every_form
def test_a_file_url_is_a_path(tmp_path, build):
    uri = build(tmp_path / "corpus")
    assert read_all(open_corpus(f"file://{uri}")) == EXPECTED


@pytest.mark.parametrize("rows_per_unit", [1, 2, 3, 5, 7, 1000])
def test_a_plan_covers_every_row_exactly_once(rows_per_unit):
    groups = [("a", 0, 7), ("a", 1, 0), ("a", 2, 1), ("b", 0, 10)]
    units = plan_units(groups, rows_per_unit)
    covered = [(unit.source, unit.group, row) for unit in units for row in range(unit.start, unit.stop or 0)]
    assert covered == [(source, group, row) for source, group, rows in groups for row in range(rows)]
    assert all(0 < (unit.stop or 0) - unit.start <= rows_per_unit for unit in units)
    assert [unit.number for unit in units] == list(range(len(units)))


def test_tars_are_one_unit_each(tmp_path):
    uri = tars_of_json(tmp_path)
    assert open_corpus(uri).plan(1) == [Unit(0, f"{uri}/000.tar"), Unit(1, f"{uri}/001.tar")]


@every_form
def test_columns_can_be_renamed(tmp_path, build):
    uri = build(tmp_path / "corpus")
    renamed = read_all(open_corpus(uri, {"labels": "split"}))
    assert [pair.labels for pair in renamed] == [(pair.metadata["split"],) for pair in EXPECTED]


def test_every_role_can_be_renamed(tmp_path):
    names = {"id": "key", "image": "jpeg", "text": "caption", "labels": "tags"}
    rows = [{names.get(name, name): value for name, value in byte_row(pair).items()} for pair in EXPECTED]
    assert read_all(open_corpus(parquet(tmp_path, rows), names)) == EXPECTED


def test_an_unknown_role_names_the_nearest(tmp_path):
    with pytest.raises(BadOption, match="Did you mean 'labels'"):
        open_corpus(parquet_of_bytes(tmp_path), {"label": "split"})


def test_a_column_map_has_every_role():
    assert column_map({"text": "caption"}) == {
        "id": "id",
        "image": "image",
        "image_path": "image_path",
        "text": "caption",
        "labels": "labels",
    }


def test_several_captions_and_extra_columns_are_kept(tmp_path):
    rows = [{"id": 7, "image": b"x", "text": ["one", " two ", "", None], "year": 2001, "tags": ["t"]}]
    (pair,) = read_all(open_corpus(parquet(tmp_path, rows)))
    assert pair == Pair("7", b"x", ("one", "two"), (), {"year": 2001, "tags": ["t"]})


def test_a_label_may_be_a_plain_string(tmp_path):
    (pair,) = read_all(open_corpus(parquet(tmp_path, [{"id": "a", "image": b"x", "text": "t", "labels": "cat"}])))
    assert pair.labels == ("cat",)


def test_an_absolute_image_path_is_taken_as_it_stands(tmp_path):
    images(tmp_path / "elsewhere")
    rows = [text_row(pair) | {"image_path": f"{tmp_path}/elsewhere/images/{pair.id}.jpg"} for pair in EXPECTED]
    assert read_all(open_corpus(parquet(tmp_path / "corpus", rows))) == EXPECTED


@pytest.mark.parametrize("column", ["image", "file", "file_name", "filename", "path"])
def test_a_table_may_call_its_paths_otherwise_and_have_no_ids(tmp_path, column):
    images(tmp_path)
    (tmp_path / "t.csv").write_text(f"{column},text\nimages/p00.jpg,hello\n")
    assert read_all(open_corpus(str(tmp_path))) == [Pair("images/p00.jpg", b"pixels 0", ("hello",))]


def test_a_table_may_begin_with_a_byte_order_mark(tmp_path):
    images(tmp_path)
    (tmp_path / "t.csv").write_text("id,image_path,text\na,images/p00.jpg,hello\n", encoding="utf-8-sig")
    assert read_all(open_corpus(str(tmp_path / "t.csv"))) == [Pair("a", b"pixels 0", ("hello",))]


def test_tars_take_captions_labels_and_ids_from_json_and_cls(tmp_path):
    facts = json.dumps({"id": "own", "caption": "from json", "year": 2001}).encode()
    members = [
        ("d/1.png", b"x"),
        ("d/1.json", facts),
        ("d/1.cls", b"3\n"),
        ("2.seg.png", b"?"),
        ("2.WEBP", b"y"),
    ]
    tar(tmp_path / "a.tar", [*members, ("2.caption", b"from file"), ("2.json", b"no json"), ("3.jpg", b"z")])
    first, second, third = read_all(open_corpus(str(tmp_path / "a.tar")))
    assert first == Pair("own", b"x", ("from json",), ("3",), {"year": 2001})
    assert second == Pair("2", b"y", ("from file",))
    assert third == Reject("3", f"{tmp_path}/a.tar sample 3", "text is missing or empty")


def test_tars_in_folders_have_keys_with_folders(tmp_path):
    tar(tmp_path / "a.tar", [("x/1.jpg", b"x"), ("x/1.txt", b"t"), ("y/1.jpg", b"y"), ("y/1.txt", b"u")])
    assert [pair.id for pair in read_all(open_corpus(str(tmp_path)))] == ["x/1", "y/1"]


@pytest.mark.parametrize(
    ("changed", "identity", "reason"),
    [
        ({"text": None}, "p05", "text is missing"),
        ({"text": "  "}, "p05", "text is missing"),
        ({"id": None}, "", "id is missing"),
        ({"image": None}, "p05", "image is missing"),
        ({"image": b""}, "p05", "image is missing"),
    ],
)
def test_a_row_that_is_no_pair_says_where_and_why_and_costs_only_itself(tmp_path, changed, identity, reason):
    found = read_all(bytes_with(tmp_path, 5, **changed), 3)
    reject = found.pop(5)
    assert found == EXPECTED[:5] + EXPECTED[6:]
    assert isinstance(reject, Reject)
    assert reject.id == identity
    assert reject.source == f"{tmp_path}/part.parquet row group 1 row 1"
    assert reason in reject.reason


@pytest.mark.parametrize("build", [parquet_of_paths, csv_folder, jsonl_folder])
def test_an_image_file_that_is_not_there_is_a_reject(tmp_path, build):
    uri = build(tmp_path)
    (tmp_path / "images" / "p05.jpg").unlink()
    found = read_all(open_corpus(uri))
    assert found[:5] + found[6:] == EXPECTED[:5] + EXPECTED[6:]
    assert found[5].id == "p05"
    assert "p05.jpg: no such file" in found[5].reason


@pytest.mark.parametrize("missing", ["", " "])
def test_a_table_row_without_text_says_where_and_why(tmp_path, missing):
    images(tmp_path)
    (tmp_path / "t.csv").write_text(f"id,image_path,text\na,images/p00.jpg,one\nb,images/p01.jpg,{missing}\n")
    assert read_all(open_corpus(str(tmp_path)))[1] == Reject("b", f"{tmp_path}/t.csv row 1", "text is missing or empty")


@pytest.mark.parametrize("identity", [None, ""])
def test_rows_without_an_id_are_left_out_of_the_survey(tmp_path, identity):
    source = bytes_with(tmp_path, 0, id=identity)
    assert source.survey(source.plan(100)[0]).ids == ["p01", "p02", "p03"]


def test_samples_whose_json_says_no_id_are_left_out_of_the_survey(tmp_path):
    tar(tmp_path / "a.tar", [("1.jpg", b"x"), ("1.txt", b"t"), ("1.json", b'{"id": null}')])
    source = open_corpus(str(tmp_path))
    assert isinstance(read_all(source)[0], Reject)
    assert source.survey(source.plan(1)[0]).ids == []


def test_cells_beyond_the_head_of_a_table_are_no_metadata(tmp_path):
    images(tmp_path)
    (tmp_path / "t.csv").write_text("id,image_path,text\na,images/p00.jpg,hello,more,and more\n")
    source = open_corpus(str(tmp_path))
    assert source.survey(source.plan(1)[0]).metadata.names == []
    assert read_all(source) == [Pair("a", b"pixels 0", ("hello",))]


def test_a_row_that_ends_early_is_a_reject(tmp_path):
    images(tmp_path)
    (tmp_path / "t.csv").write_text("id,image_path,text\na,images/p00.jpg\n")
    assert read_all(open_corpus(str(tmp_path))) == [Reject("a", f"{tmp_path}/t.csv row 0", "text is missing or empty")]


@pytest.mark.parametrize("identity", [None, ""])
@pytest.mark.parametrize("build", [parquet_of_paths, jsonl_folder])
def test_a_missing_image_of_a_row_without_id_has_no_id(tmp_path, build, identity):
    images(tmp_path)
    row = text_row(EXPECTED[0]) | {"id": identity, "image_path": "images/nothing.jpg"}
    if build is jsonl_folder:
        (tmp_path / "t.jsonl").write_text(json.dumps(row) + "\n" + json.dumps(text_row(EXPECTED[1])))
    else:
        parquet(tmp_path, [row, text_row(EXPECTED[1])])
    reject = read_all(open_corpus(str(tmp_path)))[0]
    assert reject.id == ""


@pytest.mark.parametrize("column", ["id", "text", "image"])
def test_a_missing_parquet_column_is_named(tmp_path, column):
    rows = [{key: value for key, value in byte_row(pair).items() if key != column} for pair in EXPECTED]
    with pytest.raises(BadInput, match=f"column '{column}' is missing"):
        open_corpus(parquet(tmp_path, rows))


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"text": 5}, "'text' is int64"),
        ({"text": [5]}, "'text' is list<"),
        ({"image": "path.jpg"}, "'image' is string"),
        ({"image": 5}, "'image' is int64"),
    ],
)
def test_a_parquet_column_of_the_wrong_type_is_refused(tmp_path, changed, words):
    with pytest.raises(BadInput, match=words):
        open_corpus(parquet(tmp_path, [byte_row(EXPECTED[0]) | changed]))


@pytest.mark.parametrize(
    ("head", "column"),
    [("id,caption,image_path", "text"), ("id,text,pixels", "image_path"), ("a,b", "image_path")],
)
def test_a_missing_table_column_is_named(tmp_path, head, column):
    (tmp_path / "t.csv").write_text(f"{head}\n" + ",".join("x" * (head.count(",") + 1)) + "\n")
    with pytest.raises(BadInput, match=f"column '{column}' is missing; there are {head.replace(',', ', ')}"):
        open_corpus(str(tmp_path))


@pytest.mark.parametrize("there", [[], ["notes.txt"], ["a.jpg", "_hidden.parquet"]])
def test_a_folder_without_corpus_is_refused(tmp_path, there):
    for name in there:
        (tmp_path / name).write_bytes(b"x")
    with pytest.raises(BadInput, match=r"no corpus file.*Parquet files, WebDataset"):
        open_corpus(str(tmp_path))


def test_a_place_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(BadInput, match="no such file"):
        open_corpus(str(tmp_path / "nothing"))


@pytest.mark.parametrize("name", ["notes.txt", "photo.jpg"])
def test_a_file_that_is_no_corpus_is_refused(tmp_path, name):
    (tmp_path / name).write_bytes(b"something else")
    with pytest.raises(BadInput):
        open_corpus(str(tmp_path / name))


@pytest.mark.parametrize("build", [csv_folder, jsonl_folder])
def test_the_table_of_a_folder_can_be_named_itself(tmp_path, build):
    build(tmp_path)
    (table,) = tmp_path.glob("table.*")
    assert read_all(open_corpus(str(table))) == EXPECTED


def test_one_tar_can_be_named_itself(tmp_path):
    assert read_all(open_corpus(f"{tars_of_json(tmp_path)}/000.tar")) == EXPECTED[:5]


def test_several_tables_are_refused_by_name(tmp_path):
    csv_folder(tmp_path)
    jsonl_folder(tmp_path)
    with pytest.raises(BadInput, match=r"2 tables \(table\.csv, table\.jsonl\)"):
        open_corpus(str(tmp_path))


def test_a_corpus_without_rows_plans_nothing(tmp_path):
    (tmp_path / "t.csv").write_text("id,image_path,text\n")
    assert open_corpus(str(tmp_path)).plan(4) == []


@pytest.mark.parametrize(("where", "offset"), [("a head", 100), ("content", 700), ("between members", 0)])
def test_a_cut_off_tar_is_named(tmp_path, where, offset):
    """A member of 600 bytes takes three blocks of 512: one head, two of content."""
    path = tmp_path / "a.tar"
    tar(path, [(f"{number}.{suffix}", b"x" * 600) for number in range(9) for suffix in ("jpg", "txt")])
    path.write_bytes(path.read_bytes()[: 9 * 1536 + offset])
    with pytest.raises(BadInput, match=r"a\.tar: damaged"):
        read_all(open_corpus(str(tmp_path)))


@pytest.mark.parametrize("content", [b"", b"no tar at all", bytes(range(256)) * 8])
def test_a_tar_that_is_none_is_named(tmp_path, content):
    (tmp_path / "a.tar").write_bytes(content)
    with pytest.raises(BadInput, match=r"a\.tar: damaged"):
        read_all(open_corpus(str(tmp_path)))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("t.jsonl", b'{"id": 1}\nno json'),
        ("t.csv", b"id,text\n\xff\xfe\x00"),
        ("t.jsonl", b"[1]\n"),
        ("t.jsonl", b'{"id": "a", "image_path": "b", "text": "c"}\n5\n'),
    ],
)
def test_a_table_that_cannot_be_read_is_named(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(BadInput, match=rf"{name}"):
        read_all(open_corpus(str(tmp_path)))


def test_every_refusal_is_one_line(tmp_path):
    (tmp_path / "cut.parquet").write_bytes(b"PAR1")
    with pytest.raises(XhashError) as caught:
        open_corpus(str(tmp_path))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("value", "texts"),
    [
        ("a", ("a",)),
        (["a", " b "], ("a", "b")),
        ((), ()),
        (None, ()),
        ("", ()),
        ([None, ""], ()),
        ("a\n", ("a",)),
    ],
)
def test_texts(value, texts):
    assert as_texts(value) == texts


@pytest.mark.parametrize("value", [5, [5], ["a", 5], b"a", [None, 5]])
def test_what_is_no_text_is_refused(value):
    with pytest.raises(ValueError, match="not a string or a list of strings"):
        as_texts(value)


@pytest.mark.parametrize(
    ("value", "labels"),
    [(None, ()), ("a", ("a",)), (3, ("3",)), (["b", "a", "b", None], ("a", "b")), ([], ())],
)
def test_labels(value, labels):
    assert as_labels(value) == labels


def test_loose_metadata_gets_types_and_text_where_they_do_not_agree():
    rows = [
        {"n": 1, "f": 0.5, "mixed": 1, "nothing": None},
        {"n": None, "f": 1, "mixed": "a", "nested": {"x": 1}},
    ]
    schema = metadata_schema(rows)
    assert dict(zip(schema.names, schema.types, strict=True)) == {
        "n": pa.int64(),
        "f": pa.float64(),
        "mixed": pa.string(),
        "nothing": pa.string(),
        "nested": pa.string(),
    }


@pytest.mark.parametrize("rows", [[], [{}], [{}, {}]])
def test_no_metadata_is_an_empty_schema(rows):
    assert metadata_schema(rows) == pa.schema([])


@pytest.mark.parametrize(
    ("first", "second", "common"),
    [
        (pa.int32(), pa.int64(), pa.int64()),
        (pa.int64(), pa.float64(), pa.float64()),
        (pa.null(), pa.int8(), pa.int8()),
        (pa.int64(), pa.string(), pa.string()),
        (pa.bool_(), pa.int64(), pa.string()),
    ],
)
def test_types_of_two_units_meet(first, second, common):
    assert common_type(first, second) == common
    assert common_type(second, first) == common


def test_schemas_of_two_units_are_united():
    first, second = (
        pa.schema([("a", pa.int32()), ("b", pa.string())]),
        pa.schema([("a", pa.int64()), ("c", pa.bool_())]),
    )
    assert unify(first, second) == pa.schema([("a", pa.int64()), ("b", pa.string()), ("c", pa.bool_())])
