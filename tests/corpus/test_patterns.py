"""Names that stand for several."""

import json

import pytest

from tests.corpus.forms import (
    EXPECTED,
    byte_row,
    images,
    lines_text,
    parquet,
    read_all,
    separated_text,
    tars_of_json,
)
from xhash_ray.corpus import patterns
from xhash_ray.corpus.patterns import alternatives, expanded
from xhash_ray.corpus.sources import open_corpus
from xhash_ray.errors import BadInput
from xhash_ray.storage.uri import normalise


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("a", "a"),
        ("a{1..3}", "a1 a2 a3"),
        ("{08..11}", "08 09 10 11"),
        ("{8..11}", "8 9 10 11"),
        ("{000..2}", "000 001 002"),
        ("{3..1}", "3 2 1"),
        ("{0..9..4}", "0 4 8"),
        ("{-1..1}", "-1 0 1"),
        ("{a..c}", "a b c"),
        ("x{a,b}y", "xay xby"),
        ("{a,b}{1..2}", "a1 a2 b1 b2"),
        ("{a{1,2},b}", "a1 a2 b"),
        ("{a,{b,c}}", "a b c"),
        ("{a,}x", "ax x"),
        ("{a}", "{a}"),
        ("{}", "{}"),
        ("{a{1,2}}", "{a1} {a2}"),
        ("{a", "{a"),
        ("a}{1,2}", "a}1 a}2"),
        ("{1..b}", "{1..b}"),
    ],
)
def test_braces(text, names):
    assert list(alternatives(text)) == names.split()


@pytest.mark.parametrize(
    ("uri", "names"),
    [
        ("s3://b/x-{000000..000041}.tar", [f"s3://b/x-{n:06d}.tar" for n in range(42)]),
        ("s3://b/{0..1}.tar::s3://c/9.tar", ["s3://b/0.tar", "s3://b/1.tar", "s3://c/9.tar"]),
        ("/a/x.tar::/b/y.tar::/a/x.tar", ["/a/x.tar", "/b/y.tar"]),
        ("file:///a/{x,y}.tar", ["/a/x.tar", "/a/y.tar"]),
        (normalise("file:///a.tar::file:///b.tar"), ["/a.tar", "/b.tar"]),
        ("zip://{a,b}.csv::s3://b/x.zip", ["zip://a.csv::s3://b/x.zip", "zip://b.csv::s3://b/x.zip"]),
        ("simplecache::s3://b/{0..1}.tar", ["simplecache::s3://b/0.tar", "simplecache::s3://b/1.tar"]),
    ],
)
def test_names(uri, names):
    assert expanded(uri) == names


def test_names_are_of_here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert expanded("a.tar::b/{c,d}.tar") == [f"{tmp_path}/{name}" for name in ("a.tar", "b/c.tar", "b/d.tar")]
    (tmp_path / "{a,b}::c").mkdir()
    assert expanded("{a,b}::c") == [f"{tmp_path}/{{a,b}}::c"], "a folder that is called so"


def test_braces_that_stand_for_too_much_are_refused(monkeypatch):
    monkeypatch.setattr(patterns, "MOST_NAMES", 1000)
    with pytest.raises(BadInput, match="more than 1,000 names"):
        expanded("s3://b/{0..999999999}{0..999999999}.tar")


def test_tars(tmp_path):
    uri = tars_of_json(tmp_path)
    for pattern in ("{000..001}.tar", "000.tar::001.tar", "00{0,1}.tar", "{000.tar,001.tar}"):
        assert read_all(open_corpus("::".join(f"{uri}/{piece}" for piece in pattern.split("::")))) == EXPECTED
    assert read_all(open_corpus(f"{uri}/{{001..000}}.tar")) == EXPECTED[5:] + EXPECTED[:5], "in the order of the names"


def test_parquet_files_and_folders(tmp_path):
    for name, pairs in (("a", EXPECTED[:3]), ("b", EXPECTED[3:7]), ("c", EXPECTED[7:])):
        parquet(tmp_path / name, [byte_row(pair) for pair in pairs], "x.parquet")
    assert read_all(open_corpus(f"{tmp_path}/{{a..c}}/x.parquet")) == EXPECTED
    assert read_all(open_corpus(f"{tmp_path}/{{a,b,c}}")) == EXPECTED
    assert read_all(open_corpus(f"{tmp_path}/a::{tmp_path}/{{b,c}}/x.parquet")) == EXPECTED


@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
def test_tables(tmp_path, suffix):
    images(tmp_path)
    for number, pairs in enumerate((EXPECTED[:3], EXPECTED[3:])):
        content = separated_text(pairs, ",") if suffix == "csv" else lines_text(pairs)
        (tmp_path / f"{number}.{suffix}").write_bytes(content)
    assert read_all(open_corpus(f"{tmp_path}/{{0..1}}.{suffix}")) == EXPECTED


def test_a_missing_file_of_a_pattern_is_named(tmp_path):
    uri = tars_of_json(tmp_path)
    for pattern in (f"{uri}/{{000..002}}.tar", f"{uri}/{{000..099}}.tar", f"{uri}/001.tar::{uri}/002.tar"):
        with pytest.raises(BadInput, match=r"/002\.tar: no such file"):
            open_corpus(pattern)


def test_a_pattern_leaves_other_files_of_the_folder_alone(tmp_path):
    tars_of_json(tmp_path)
    (tmp_path / "notes.csv").write_text("a,b\n")
    parquet(tmp_path, [{"x": json.dumps({})}])
    assert read_all(open_corpus(f"{tmp_path}/{{000..001}}.tar")) == EXPECTED
