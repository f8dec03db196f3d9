"""Rows that are no pairs: each says where it is and why, and costs only itself."""

import errno
import json

import fsspec
import pytest

from tests.corpus.forms import (
    EXPECTED,
    bytes_with,
    csv_folder,
    images,
    jsonl_folder,
    parquet,
    parquet_of_paths,
    read_all,
    text_row,
)
from xhash_ray.corpus import paths
from xhash_ray.corpus.pairs import KINDS, Pair, Reject
from xhash_ray.corpus.paths import ahead, fetch, resolve
from xhash_ray.corpus.sources import open_corpus
from xhash_ray.errors import Unreachable, XhashError

BY_PATH = [parquet_of_paths, csv_folder, jsonl_folder]


@pytest.mark.parametrize(
    ("changed", "identity", "kind"),
    [
        ({"text": None}, "p05", "missing text"),
        ({"text": "  "}, "p05", "missing text"),
        ({"id": None}, "", "missing id"),
        ({"id": ""}, "", "missing id"),
        ({"image": None}, "p05", "missing image"),
        ({"image": b""}, "p05", "missing image"),
    ],
)
@pytest.mark.parametrize("rows", [3, 100])
def test_a_row_that_is_no_pair_says_where_and_why_and_costs_only_itself(tmp_path, changed, identity, kind, rows):
    source = bytes_with(tmp_path, 5, **changed)
    found = read_all(source, rows)
    reject = found.pop(5)
    assert found == EXPECTED[:5] + EXPECTED[6:]
    assert isinstance(reject, Reject)
    where = (reject.id, reject.source, reject.row, reject.stage, reject.kind)
    assert where == (identity, f"{tmp_path}/part.parquet", 5, "read", kind)
    assert kind in KINDS
    ids = [name for part in source.parts(rows) for name in source.survey(part).ids]
    assert ids == [*(pair.id for pair in EXPECTED[:5]), identity, *(pair.id for pair in EXPECTED[6:])]


def test_what_is_rejected_has_no_id_of_its_content(tmp_path):
    bytes_with(tmp_path, 5, image=None)
    source = open_corpus(str(tmp_path), identity="content")
    ids = [name for part in source.parts(4) for name in source.survey(part).ids]
    assert (ids[5], len(ids), len(set(ids))) == ("", 11, 11)


def unlink(path):
    path.unlink()


def empty(path):
    path.write_bytes(b"")


def make_folder(path):
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize("build", BY_PATH)
@pytest.mark.parametrize(
    ("spoil", "words"), [(unlink, "no such file"), (empty, "empty file"), (make_folder, "a folder")]
)
def test_an_image_file_that_is_none_is_a_reject(tmp_path, build, spoil, words):
    uri = build(tmp_path)
    spoil(tmp_path / "images" / "p05.jpg")
    found = read_all(open_corpus(uri))
    assert found[:5] + found[6:] == EXPECTED[:5] + EXPECTED[6:]
    assert (found[5].id, found[5].row, found[5].kind) == ("p05", 5, "missing image")
    assert f"p05.jpg: {words}" in found[5].reason


@pytest.mark.parametrize("name", ["a\0b.jpg", "x" * 5000 + ".jpg", "nowhere://x/y.jpg", "images/p00.jpg/x", "../.."])
def test_a_name_that_leads_nowhere_is_a_reject(tmp_path, name):
    images(tmp_path)
    row = {**text_row(EXPECTED[0]), "image_path": name}
    (tmp_path / "t.jsonl").write_text("\n".join(json.dumps(each) for each in (row, text_row(EXPECTED[1]))))
    first, second = read_all(open_corpus(str(tmp_path)))
    assert (first.id, first.kind) == ("p00", "missing image")
    assert second == EXPECTED[1]


@pytest.mark.parametrize("identity", [None, ""])
@pytest.mark.parametrize("build", [parquet_of_paths, jsonl_folder])
def test_a_missing_image_of_a_row_without_id_has_no_id(tmp_path, build, identity):
    images(tmp_path)
    row = text_row(EXPECTED[0]) | {"id": identity, "image_path": "images/nothing.jpg"}
    if build is jsonl_folder:
        (tmp_path / "t.jsonl").write_text(json.dumps(row) + "\n" + json.dumps(text_row(EXPECTED[1])))
    else:
        parquet(tmp_path, [row, text_row(EXPECTED[1])])
    assert read_all(open_corpus(str(tmp_path)))[0].id == ""


class ServerError(Exception):
    """What aiohttp raises, with the status of the answer."""

    __module__ = "aiohttp"

    def __init__(self, status):
        super().__init__(f"{status}, message='...'")
        self.status = status


class ClientError(Exception):
    """What botocore raises."""

    __module__ = "botocore"


def refused(code):
    """What s3fs makes of an answer of S3."""
    error = PermissionError(errno.EACCES, "refused")
    error.__cause__ = ClientError()
    error.__cause__.response = {"Error": {"Code": code}}
    return error


@pytest.fixture
def failing(monkeypatch):
    """Lets every read of memory:// fail in one way."""

    def fail(error):
        def cat_file(*_, **__):
            raise error

        monkeypatch.setattr(fsspec.filesystem("memory").__class__, "cat_file", cat_file)

    return fail


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.EIO, "Input/output error"),
        TimeoutError("timed out"),
        ConnectionResetError("reset"),
        ServerError(500),
        ServerError(503),
        ServerError(429),
        refused("ExpiredToken"),
        refused("InvalidAccessKeyId"),
    ],
)
def test_trouble_with_the_store_is_no_reject(tmp_path, failing, error):
    parquet(tmp_path, [text_row(pair) | {"image_path": f"memory://{pair.id}"} for pair in EXPECTED])
    source = open_corpus(str(tmp_path))
    failing(error)
    with pytest.raises(XhashError, match="memory://p00"):
        read_all(source)


@pytest.mark.parametrize(
    "error", [refused("AccessDenied"), PermissionError("no"), FileNotFoundError(), ServerError(404), ServerError(403)]
)
def test_what_the_store_says_of_the_object_is(failing, error):
    failing(error)
    assert fetch("memory://a").startswith("image memory://a: ")


@pytest.mark.parametrize("error", [ServerError(503), ServerError(429), TimeoutError(), ConnectionResetError()])
def test_what_can_be_tried_again_is_said_to_be_that(failing, error):
    failing(error)
    with pytest.raises(Unreachable, match="memory://a"):
        fetch("memory://a")


def test_a_web_server_that_nobody_knows_is_the_rows_own_matter():
    assert "no machine of that name" in fetch("http://nowhere.invalid/a.jpg")


@pytest.mark.parametrize(
    ("table", "path", "place"),
    [
        ("/a/t.csv", "b/c.jpg", "/a/b/c.jpg"),
        ("/a/t.csv", "/b.jpg", "/b.jpg"),
        ("s3://b/t.csv", "c.jpg", "s3://b/c.jpg"),
        ("s3://b/t.csv", "https://x/c.jpg", "https://x/c.jpg"),
        ("zip://d/t.csv::s3://b/x.zip", "c.jpg", "zip://d/c.jpg::s3://b/x.zip"),
        ("zip://t.csv::s3://b/x.zip", "d/c.jpg", "zip://d/c.jpg::s3://b/x.zip"),
    ],
)
def test_places_of_images(table, path, place):
    assert resolve(table, path) == place


def test_images_come_in_order_a_few_ahead():
    done = []
    stream = ahead(lambda number: done.append(number) or number * 2, iter(range(1000)))
    assert [next(stream) for _ in range(3)] == [(0, 0), (1, 2), (2, 4)]
    assert len(done) <= 3 + paths.AHEAD
    stream.close()
    assert len(done) <= 3 + paths.AHEAD
    assert list(ahead(str, range(100))) == [(number, str(number)) for number in range(100)]


def test_who_fails_ahead_fails_in_order():
    def do(number):
        if number == 5:
            raise XhashError("reading 5", "no answer", "Try again")
        return number

    stream = ahead(do, range(100))
    assert [next(stream)[0] for _ in range(5)] == [0, 1, 2, 3, 4]
    with pytest.raises(XhashError, match="reading 5"):
        next(stream)


def test_pairs_and_rejects_are_told_apart(tmp_path):
    found = read_all(bytes_with(tmp_path, 0, text=None))
    assert [isinstance(row, Pair) for row in found] == [False] + [True] * 10
