"""Filters: what holds is what Python says; what is no filter is refused with a reason; nothing is evaluated."""

import string

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xhash_ray.errors import BadInput
from xhash_ray.serving.filters import parse_filter, rows_passing

TABLE = pa.table(
    {
        "id": ["a", "b", "c", "d", "e"],
        "year": pa.array([2009, 2010, None, 2012, 2013], pa.int32()),
        "price": [1.5, 2.5, 3.5, None, 5.5],
        "category": ["shoes", "bags", None, 'a "b"', "shoes"],
        "new": [True, False, None, True, False],
        "odd name": ["x", "y", "x", "y", None],
        "labels": [[1], [2], [], None, [1, 2]],
    }
)


def passing(text: str) -> str:
    """The ids of the rows that pass."""
    found = rows_passing(TABLE, parse_filter(text, TABLE.schema))
    return "".join(np.asarray(TABLE["id"])[found])


@pytest.mark.parametrize(
    ("text", "ids"),
    [
        ("year = 2010", "b"),
        ("year != 2010", "ade"),
        ("year >= 2010 and year < 2013", "bd"),
        ("year > 2009.5", "bde"),
        ("price <= 2.5", "ab"),
        ("price > 3", "ce"),
        ("not year = 2010", "ade"),
        ("not not year = 2010", "b"),
        ("exists(year)", "abde"),
        ("not exists(year)", "c"),
        ("year = 2010 or not exists(year)", "bc"),
        ("year = 2009 or year = 2010 and price > 2", "ab"),
        ("(year = 2009 or year = 2010) and price > 2", "b"),
        ('category in ["shoes", "bags"]', "abe"),
        ('not category in ["shoes"]', "bd"),
        (r'category = "a \"b\""', "d"),
        ("category = 'a \"b\"'", "d"),
        ("new = true", "ad"),
        ("id = 'a'", "a"),
        ("`odd name` = 'y' AND new = false", "b"),
        ("id > 'c'", "de"),
    ],
)
def test_a_filter_keeps_what_it_says(text, ids):
    assert passing(text) == ids


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the end at character 1 where a column"),
        ("year", "the end at character 5 where one of"),
        ("year = ", "where a number, true, false or text"),
        ("year == 2010", "= at character 7"),
        ("yeer = 2010", "Did you mean 'year'"),
        ("year = 'x'", "'x' for a column of int32"),
        ("year = 99999999999", "for a column of int32"),
        ("category = 3", "3 for a column of string"),
        ("new = 1", "1 for a column of bool"),
        ("labels = 1", "a column of list"),
        ("year in [2010", "the end at character 14 where ']'"),
        ("(year = 2010", "where '\\)'"),
        ("year = 2010)", "\\) at character 12 where and, or, or the end"),
        ("__import__('os').system('x')", r"system\('x'\)' at character 17"),
        ("year = 2010; drop", "';"),
        ("(" * 60 + "year = 1" + ")" * 60, "more than 50 levels"),
        ("year = 1 or " * 500 + "year = 1", "characters"),
    ],
)
def test_what_is_no_filter_is_refused(text, message):
    with pytest.raises(BadInput, match=message):
        passing(text)


comparisons = st.sampled_from([("year", int), ("price", float)]).flatmap(
    lambda column: st.tuples(
        st.just(column[0]), st.sampled_from(["=", "!=", "<", "<=", ">", ">="]), st.integers(2008, 2014)
    )
)
trees = st.recursive(
    comparisons.map(lambda c: f"{c[0]} {c[1]} {c[2]}"),
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from(["and", "or"]), inner).map(lambda t: f"({t[0]} {t[1]} {t[2]})"),
        inner.map(lambda text: f"not ({text})"),
    ),
    max_leaves=6,
)


def kleene(text: str, row: dict) -> bool | None:
    """Three-valued logic by Python, for the trees above: the oracle."""
    if text.startswith("not "):
        inner = kleene(text[4:], row)
        return None if inner is None else not inner
    if text.startswith("("):
        depth, body = 0, text[1:-1]
        for place, letter in enumerate(body):
            depth += (letter == "(") - (letter == ")")
            for word in (" and ", " or "):
                if depth == 0 and body.startswith(word, place):
                    left, right = kleene(body[:place], row), kleene(body[place + len(word) :], row)
                    decisive = word == " or "
                    if decisive in (left, right):
                        return decisive
                    return None if None in (left, right) else not decisive
        return kleene(body, row)
    column, sign, value = text.split()
    if row[column] is None:
        return None
    return bool(eval(f"a {'==' if sign == '=' else sign} b", {"a": row[column], "b": int(value)}))


@settings(deadline=None, max_examples=100)
@given(trees)
def test_any_tree_means_what_python_says(text):
    expected = "".join(row["id"] for row in TABLE.to_pylist() if kleene(text, row) is True)
    assert passing(text) == expected


@settings(deadline=None, max_examples=300)
@given(st.text(alphabet=string.printable + "é写", max_size=60))
def test_any_text_is_a_filter_or_refused(text):
    try:
        rows_passing(TABLE, parse_filter(text, TABLE.schema))
    except BadInput as error:
        assert error.found  # noqa: PT017
