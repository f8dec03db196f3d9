"""Conditions on rows: what parses, which rows they keep, what cannot be compared."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xhash_ray.core.shards import id_hash
from xhash_ray.errors import BadInput, BadOption
from xhash_ray.storage.where import Where, filter_rows, metadata_keeps, parse_where

TABLE = pa.table(
    {
        "id": ["a", "b", "c", "d"],
        "split": ["train", "query", None, "database"],
        "year": pa.array([2001, 2002, None, 2004], pa.int64()),
        "score": pa.array([0.5, 1.0, None, 2.0], pa.float32()),
        "good": [True, False, None, True],
        "wide": pa.array(["x", "y", None, "x"], pa.large_string()),
        "category": pa.array(["x", "y", None, "x"]).dictionary_encode(),
        "tags": [["x"], [], None, ["y"]],
    }
)


def kept(condition: str, table: pa.Table = TABLE) -> str:
    """The ids of the rows that a condition keeps."""
    return "".join(filter_rows(table, parse_where(condition))["id"].to_pylist())


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("split=train", Where("split", ("train",))),
        (" split = train , query ", Where("split", ("train", "query"))),
        ("split!=query", Where("split", ("query",), negated=True)),
        ("split=", Where("split", ("",))),
        ("caption=a=b", Where("caption", ("a=b",))),
        ("id%10=0", Where("id", ("0",), modulus=10)),
        ("id % 10 != 0,9", Where("id", ("0", "9"), negated=True, modulus=10)),
    ],
)
def test_conditions_parse(text, where):
    assert parse_where(text) == where


@pytest.mark.parametrize("text", [None, ""])
def test_no_condition_keeps_every_row(text):
    assert parse_where(text) is None
    assert filter_rows(TABLE, parse_where(text)).num_rows == TABLE.num_rows


@pytest.mark.parametrize(
    "text",
    ["split", "=train", "!=x", "split%2=0", "id%0=0", "id%10=10", "id%10=-1", "id%10=a", "id%10=", "id%x=1"],
)
def test_what_is_no_condition_is_refused(text):
    with pytest.raises(BadOption, match="not a condition"):
        parse_where(text)


@pytest.mark.parametrize(
    ("condition", "ids"),
    [
        ("split=train", "a"),
        ("split=train,database", "ad"),
        ("split!=train", "bcd"),
        ("split=elsewhere", ""),
        ("year=2001,2004", "ad"),
        ("year!=2001", "bcd"),
        ("score=0.5,2", "ad"),
        ("good=true", "ad"),
        ("wide=x", "ad"),
        ("category=x", "ad"),
        ("category!=x", "bc"),
        ("id=b,c", "bc"),
        ("id!=b", "acd"),
    ],
)
def test_conditions_keep_rows(condition, ids):
    assert kept(condition) == ids


@pytest.mark.parametrize("condition", ["split=train", "split=database,query", "year!=2001", "good=false"])
def test_chunks_do_not_matter(condition):
    chunked = pa.concat_tables([TABLE.slice(0, 1), TABLE.slice(1, 0), TABLE.slice(1)])
    assert kept(condition, chunked) == kept(condition)


@pytest.mark.parametrize("condition", ["split=train", "split!=train", "id%3=0"])
def test_no_rows_stay_no_rows(condition):
    assert kept(condition, TABLE.slice(0, 0)) == ""
    assert kept(condition, TABLE.schema.empty_table()) == ""


@settings(deadline=None, max_examples=50)
@given(st.lists(st.text(max_size=6), max_size=15), st.integers(1, 8), st.data())
def test_remainders_follow_the_hash_of_the_id(ids, modulus, data):
    wanted = data.draw(st.sets(st.integers(0, modulus - 1), min_size=1))
    where = parse_where(f"id%{modulus}={','.join(map(str, sorted(wanted)))}")
    expected = [int(value) % modulus in wanted for value in id_hash(ids)]
    assert where.keeps(pa.table({"id": pa.array(ids, pa.string())})).to_pylist() == expected


@settings(deadline=None, max_examples=50)
@given(st.lists(st.sampled_from(["x", "y", "z", None]), max_size=12), st.sampled_from(["s=x", "s=x,y", "id%3=1"]))
def test_a_condition_and_its_negation_part_the_rows(values, text):
    table = pa.table({"id": [str(row) for row in range(len(values))], "s": pa.array(values, pa.string())})
    keeps = parse_where(text).keeps(table).to_pylist()
    refuses = parse_where(text.replace("=", "!=")).keeps(table).to_pylist()
    assert [not keep for keep in keeps] == refuses


def test_an_unknown_column_names_the_nearest():
    with pytest.raises(BadInput, match=r"no column 'splits'.*Did you mean 'split'"):
        kept("splits=train")


@pytest.mark.parametrize("condition", ["year=never", "tags=x", "good=perhaps"])
def test_what_cannot_be_compared_is_refused_with_the_columns_type(condition):
    column = condition.split("=")[0]
    with pytest.raises(BadInput, match=f"column is {TABLE.schema.field(column).type}".replace("<", ".")):
        kept(condition)


def test_a_remainder_of_a_missing_id_is_bad_input():
    with pytest.raises(BadInput):
        kept("id%2=0", pa.table({"id": ["a", None]}))


@pytest.mark.parametrize("condition", ["split=train", "split!=train", "year=2001", "id=b", "id%2=1", "id%2!=1"])
def test_loose_rows_are_kept_like_table_rows(condition):
    rows = TABLE.select(["id", "split", "year"]).to_pylist()
    metadata = [{"split": row["split"], "year": row["year"]} for row in rows]
    keeps = metadata_keeps(parse_where(condition), [row["id"] for row in rows], metadata)
    assert keeps.dtype == np.bool_
    assert keeps.tolist() == parse_where(condition).keeps(TABLE).to_pylist()


def test_loose_rows_without_the_column_are_refused():
    with pytest.raises(BadInput, match="no column 'split'"):
        metadata_keeps(parse_where("split=train"), ["a"], [{"year": 2001}])
