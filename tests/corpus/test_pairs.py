"""What a pair is: captions, labels, content hashes, and types of loose metadata."""

import pyarrow as pa
import pytest

from tests.corpus.forms import parquet_of_bytes
from xhash_ray.corpus.pairs import as_labels, as_texts, column_map, content_hash
from xhash_ray.corpus.sources import common_type, metadata_schema, open_corpus, unify
from xhash_ray.errors import BadOption


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


def test_content_hashes_tell_where_one_part_ends():
    hashes = {
        content_hash(b"ab", ["c"]),
        content_hash(b"a", ["bc"]),
        content_hash(b"ab", ["c", ""]),
        content_hash(b"", []),
    }
    assert {len(name) for name in hashes} == {32}
    assert len(hashes) == 4
    assert content_hash(b"ab", ["c"]) == "4826ed043ab3cdec576d8541fa5d5a80"


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
def test_types_of_two_parts_meet(first, second, common):
    assert common_type(first, second) == common
    assert common_type(second, first) == common


def test_schemas_of_two_parts_are_united():
    first, second = (
        pa.schema([("a", pa.int32()), ("b", pa.string())]),
        pa.schema([("a", pa.int64()), ("c", pa.bool_())]),
    )
    assert unify(first, second) == pa.schema([("a", pa.int64()), ("b", pa.string()), ("c", pa.bool_())])
