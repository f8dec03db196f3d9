"""Places that hold no corpus, or more than one: said at once, in one line, with what was found."""

import pytest

from tests.corpus.forms import (
    EXPECTED,
    byte_row,
    csv_folder,
    jsonl_folder,
    parquet,
    parquet_of_paths,
    read_all,
    tar,
    tars_of_json,
)
from xhash_ray.corpus.sources import open_corpus
from xhash_ray.errors import BadInput, XhashError
from xhash_ray.storage import uri as places


@pytest.mark.parametrize("there", [[], ["notes.txt"], ["a.jpg", "_hidden.parquet"], ["stats.json"]])
def test_a_folder_without_corpus_is_refused(tmp_path, there):
    for name in there:
        (tmp_path / name).write_bytes(b"x")
    with pytest.raises(BadInput, match=r"no corpus file.*Parquet files, WebDataset"):
        open_corpus(str(tmp_path))


@pytest.mark.parametrize("name", ["nothing", "nothing.tar", "nothing/x.parquet", "{a,b}.tar", "x.tar::y.tar"])
def test_a_place_that_is_not_there_is_refused(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BadInput, match="no such file"):
        open_corpus(name)


@pytest.mark.parametrize("uri", ["memory://nowhere", "memory://nowhere/x.tar", "memory://nowhere/{0..20}.tar"])
def test_elsewhere_too(uri):
    with pytest.raises(BadInput, match="no such file"):
        open_corpus(uri)


@pytest.mark.parametrize("uri", ["nowhere://x", "zip://a.csv::/nowhere.zip", "zip://a.csv::nowhere://x", " "])
def test_what_is_no_place_is_refused(uri):
    with pytest.raises(BadInput):
        open_corpus(uri)


@pytest.mark.parametrize("name", ["notes.txt", "photo.jpg"])
def test_a_file_that_is_no_corpus_is_refused(tmp_path, name):
    (tmp_path / name).write_bytes(b"something else")
    with pytest.raises(BadInput):
        open_corpus(str(tmp_path / name))


def test_several_kinds_of_tables_are_refused_by_name(tmp_path):
    csv_folder(tmp_path)
    jsonl_folder(tmp_path)
    found = r"1 \.csv table \(table\.csv\) and 1 \.jsonl table \(table\.jsonl\)\. Name one"
    with pytest.raises(BadInput, match=found):
        open_corpus(str(tmp_path))
    assert read_all(open_corpus(f"{tmp_path}/table.csv")) == EXPECTED


def test_tars_and_tables_are_refused_by_name(tmp_path):
    tars_of_json(tmp_path)
    for number in range(5):
        tar(tmp_path / f"more-{number}.tar", [])
    csv_folder(tmp_path)
    found = r"7 tars \(000\.tar, 001\.tar, more-0\.tar, \.\.\.\) and 1 \.csv table \(table\.csv\)"
    with pytest.raises(BadInput, match=found):
        open_corpus(str(tmp_path))


def test_tars_and_parquet_that_do_not_belong_together_are_refused(tmp_path):
    tars_of_json(tmp_path)
    parquet(tmp_path, [byte_row(pair) for pair in EXPECTED], "002.parquet")
    with pytest.raises(BadInput, match=r"2 tars \(000\.tar, 001\.tar\) and 1 Parquet file \(002\.parquet\)"):
        open_corpus(str(tmp_path))


def test_parquet_and_tables_are_refused(tmp_path):
    parquet_of_paths(tmp_path)
    csv_folder(tmp_path)
    with pytest.raises(BadInput, match="several kinds"):
        open_corpus(str(tmp_path))


def test_a_place_that_may_not_be_read_is_said_to_be_that(tmp_path, monkeypatch):
    def refused(uri):
        raise PermissionError(13, "Permission denied")

    csv_folder(tmp_path)
    monkeypatch.setattr(places, "fsspec_place", refused)
    with pytest.raises(BadInput, match=r"table\.csv: permission denied"):
        open_corpus(str(tmp_path))


@pytest.mark.parametrize("content", [b"", b"PAR1", b"no Parquet at all"])
def test_every_refusal_is_one_line(tmp_path, content):
    (tmp_path / "cut.parquet").write_bytes(content)
    with pytest.raises(XhashError, match=r"cut\.parquet") as caught:
        open_corpus(str(tmp_path))
    assert "\n" not in str(caught.value)
