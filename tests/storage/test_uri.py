"""Places on this machine: names, listings, writes that nobody sees half of, errors that name the place."""

import os
import socket
from pathlib import Path

import pytest

from xhash_ray.errors import BadInput, Unreachable, XhashError
from xhash_ray.storage import s3
from xhash_ray.storage import uri as places


def put(folder: Path, *names: str) -> None:
    """Files with their own name as content."""
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)


def names_under(folder: Path) -> list[str]:
    """Every file below a folder, hidden ones too."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize(
    ("uri", "scheme", "local"),
    [
        ("/a/b", "file", True),
        ("a/b", "file", True),
        ("file:///a", "file", True),
        ("S3://b/k", "s3", False),
        ("gs://b", "gs", False),
    ],
)
def test_schemes(uri, scheme, local):
    assert places.scheme_of(uri) == scheme
    assert places.is_local(uri) == local


@pytest.mark.parametrize(
    ("uri", "normal"),
    [
        ("/a/b/", "/a/b"),
        ("file:///a/b", "/a/b"),
        ("s3://bucket/prefix/", "s3://bucket/prefix"),
        ("s3://bucket", "s3://bucket"),
    ],
)
def test_normal_names(uri, normal):
    assert places.normalise(uri) == normal


def test_a_relative_path_becomes_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert places.normalise("a/b") == str(tmp_path / "a/b")


def test_a_home_path_is_expanded(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert places.normalise("~/a") == str(tmp_path / "a")


@pytest.mark.parametrize("uri", ["", "  "])
def test_an_empty_name_is_refused(uri):
    with pytest.raises(BadInput, match="empty name"):
        places.normalise(uri)


@pytest.mark.parametrize(
    ("uri", "joined"), [("/a", "/a/b/c"), ("/a/", "/a/b/c"), ("s3://x/", "s3://x/b/c"), ("a", "a/b/c")]
)
def test_join(uri, joined):
    assert places.join(uri, "b", "c") == joined


@pytest.mark.parametrize(("uri", "name"), [("/a/b.txt", "b.txt"), ("s3://x/y/", "y"), ("z", "z")])
def test_name_of(uri, name):
    assert places.name_of(uri) == name


def test_what_is_there_exists(tmp_path):
    put(tmp_path, "folder/file")
    assert places.exists(str(tmp_path / "folder"))
    assert places.exists(str(tmp_path / "folder/file"))
    assert not places.exists(str(tmp_path / "nothing"))


def test_only_a_file_is_a_file(tmp_path):
    put(tmp_path, "folder/file")
    found = {name: places.is_file(str(tmp_path / name)) for name in ("folder", "folder/file", "nothing")}
    assert found == {"folder": False, "folder/file": True, "nothing": False}


def test_delete_takes_the_named_and_passes_over_what_is_not_there(tmp_path):
    put(tmp_path, "a", "b/c", "b/d", "kept")
    places.delete(str(tmp_path), ["nothing", "a", "b"])
    assert names_under(tmp_path) == ["kept"]


def test_listing_is_sorted_and_recursive_and_leaves_out_bookkeeping(tmp_path):
    put(
        tmp_path,
        "b.parquet",
        "a.PARQUET",
        "sub/c.pq",
        "d.txt",
        "_metadata.parquet",
        ".x.parquet",
        "_old/e.parquet",
    )
    listed = places.list_files(str(tmp_path), (".parquet", ".pq"))
    assert listed == [str(tmp_path / name) for name in ("a.PARQUET", "b.parquet", "sub/c.pq")]


@pytest.mark.parametrize("parent", ["_work", ".hidden", "data.parquet"])
def test_only_names_below_the_folder_count_as_bookkeeping(tmp_path, parent):
    put(tmp_path / parent, "a.parquet")
    assert places.list_files(f"{tmp_path}/{parent}/", (".parquet",)) == [str(tmp_path / parent / "a.parquet")]


def test_a_file_stands_for_itself(tmp_path):
    put(tmp_path, "_odd.name")
    uri = str(tmp_path / "_odd.name")
    assert places.list_files(uri, (".parquet",)) == [uri]


def test_listing_nothing_names_the_place(tmp_path):
    with pytest.raises(BadInput, match=r"nothing.*no such file"):
        places.list_files(str(tmp_path / "nothing"), (".tar",))


@pytest.mark.parametrize("prefix", ["", "file://"])
def test_what_is_written_is_read(tmp_path, prefix):
    uri = f"{prefix}{tmp_path}/new/folder/file.bin"
    places.write_bytes(uri, b"\x00first")
    places.write_bytes(uri, b"second")
    assert places.read_bytes(uri) == b"second"
    assert names_under(tmp_path) == ["new/folder/file.bin"]


def test_a_reader_sees_the_old_file_until_the_new_one_is_complete(tmp_path, monkeypatch):
    target, seen = tmp_path / "file", []
    target.write_bytes(b"old")
    rename = os.replace

    def watched(source, destination):
        seen.append((Path(source).read_bytes(), target.read_bytes()))
        rename(source, destination)

    monkeypatch.setattr(os, "replace", watched)
    places.write_bytes(str(target), b"new")
    assert seen == [(b"new", b"old")]
    assert target.read_bytes() == b"new"


def test_others_may_read_what_is_written(tmp_path):
    places.write_bytes(str(tmp_path / "file"), b"x")
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o644


def test_a_failed_write_leaves_the_old_file_and_no_temporary_one(tmp_path):
    put(tmp_path, "target/inside")
    with pytest.raises(XhashError, match="target"):
        places.write_bytes(str(tmp_path / "target"), b"x")
    assert names_under(tmp_path) == ["target/inside"]


@pytest.mark.parametrize("name", ["nothing", "folder/nothing", "file/nothing"])
def test_reading_what_is_not_there_names_the_place(tmp_path, name):
    put(tmp_path, "file")
    with pytest.raises(BadInput, match=f"{name}: no such file"):
        places.read_bytes(str(tmp_path / name))


def test_an_unknown_scheme_is_bad_input():
    with pytest.raises(BadInput, match="nosuch"):
        places.read_bytes("nosuch://bucket/key")


def test_json_keeps_its_keys_in_order_and_its_letters(tmp_path):
    value = {"z": 1, "a": {"ü": [1.5, None, "写"]}}
    places.write_json(str(tmp_path / "x.json"), value)
    assert list(places.read_json(str(tmp_path / "x.json"))) == ["z", "a"]
    assert places.read_json(str(tmp_path / "x.json")) == value
    assert "写" in (tmp_path / "x.json").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("content", "found"),
    [(b"{", "not JSON"), (b"", "not JSON"), (b"\xff\xfe{}", "not JSON"), (b"[1]", "no object")],
)
def test_damaged_json_names_the_file(tmp_path, content, found):
    (tmp_path / "x.json").write_bytes(content)
    with pytest.raises(BadInput, match=f"x.json: .*{found}"):
        places.read_json(str(tmp_path / "x.json"))


@pytest.mark.parametrize(
    ("raised", "kind", "word"),
    [
        (FileNotFoundError("x"), BadInput, "no such"),
        (NotADirectoryError("x"), BadInput, "no such"),
        (PermissionError("x"), BadInput, "permission denied"),
        (OSError("AWS Error ACCESS_DENIED during HeadObject"), BadInput, "credentials"),
        (OSError("curlCode: 7, AWS Error NETWORK_CONNECTION"), Unreachable, "network"),
        (OSError("No space left on device"), XhashError, "free space"),
        (BadInput("asked", "found", "do"), BadInput, "asked: found"),
    ],
)
def test_what_file_systems_raise_becomes_one_clear_line(raised, kind, word):
    with pytest.raises(kind, match=word) as caught, places.said_clearly("s3://bucket/key"):
        raise raised
    assert "\n" not in str(caught.value)


def test_a_mistake_of_ours_is_not_dressed_up_as_a_storage_error():
    with pytest.raises(KeyError), places.said_clearly("s3://bucket/key"):
        raise KeyError("x")


def test_the_s3_endpoint_comes_from_the_environment(monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9/")
    monkeypatch.delenv("AWS_REGION", raising=False)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-3")
    filesystem, path = places.arrow_filesystem("s3://bucket/some/key/")
    assert (filesystem.region, path) == ("eu-west-3", "bucket/some/key")


def test_threads_share_one_filesystem_of_an_endpoint(monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    first, _ = places.arrow_filesystem("s3://bucket/a")
    assert places.arrow_filesystem("s3://other/b")[0] is first
    assert places.fsspec_filesystem("s3://bucket/a") is places.fsspec_filesystem("s3://other/b")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:8")
    assert places.arrow_filesystem("s3://bucket/a")[0] is not first
    assert places.fsspec_filesystem("s3://b").endpoint_url == "http://127.0.0.1:8"


def test_a_store_that_accepts_and_never_answers_is_given_up(monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        for name, value in {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{silent.getsockname()[1]}",
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
        }.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(s3, "CALL_S", 1.0)
        with pytest.raises(Unreachable, match="put_object of s3://xhash/name: no answer in 1 s"):
            places.write_bytes("s3://xhash/name", b"content")
