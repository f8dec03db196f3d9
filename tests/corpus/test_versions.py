"""What tells one content of a file from another: the same however one asks, another when the file is another."""

import os
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime

import fsspec
import pytest
from moto.server import ThreadedMotoServer

from tests.corpus.forms import EXPECTED, byte_row, parquet, read_all, sample, tar_bytes, text_row
from xhash_ray.corpus.paths import fetch
from xhash_ray.corpus.sources import open_corpus
from xhash_ray.errors import BadInput
from xhash_ray.storage.uri import fsspec_filesystem, write_bytes
from xhash_ray.storage.versions import infos_of, version_of, versions_of


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    """A bucket of an S3 server on loopback; the environment points to it."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    patched = pytest.MonkeyPatch()
    for name, value in (
        ("AWS_ENDPOINT_URL", f"http://{host}:{port}"),
        ("AWS_ACCESS_KEY_ID", "test"),
        ("AWS_SECRET_ACCESS_KEY", "test"),
        ("AWS_DEFAULT_REGION", "us-east-1"),
    ):
        patched.setenv(name, value)
    urllib.request.urlopen(urllib.request.Request(f"http://{host}:{port}/corpora", method="PUT"), timeout=120).close()
    fsspec_filesystem("s3://corpora").clear_instance_cache()
    yield "s3://corpora"
    fsspec_filesystem("s3://corpora").clear_instance_cache()
    patched.undo()
    server.stop()


def asked(monkeypatch, method: str) -> list[str]:
    """Paths of the requests of one kind that S3 gets from here on."""
    calls: list[str] = []
    kind = fsspec_filesystem("s3://corpora").__class__
    original = getattr(kind, method)

    def counting(self, path, *args, **kwargs):
        calls.append(path)
        return original(self, path, *args, **kwargs)

    monkeypatch.setattr(kind, method, counting)
    return calls


def test_local_files(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"x")
    before = versions_of([str(path)])
    os.utime(path, ns=(0, path.stat().st_mtime_ns + 1))
    assert versions_of([str(path)]) != before
    assert infos_of([str(tmp_path), str(tmp_path / "b"), str(path / "c")]).keys() == {str(tmp_path)}
    with pytest.raises(BadInput, match="b: no such file"):
        versions_of([str(path), str(tmp_path / "b")])


def test_one_or_many_give_the_same():
    filesystem = fsspec.filesystem("memory")
    uris = [f"memory://versions/{number}" for number in range(20)]
    for uri in uris:
        filesystem.pipe_file(uri, uri.encode())
    everything = versions_of(uris)
    assert [versions_of([uri])[uri] for uri in uris] == [everything[uri] for uri in uris]
    assert len(set(everything.values())) == 20
    filesystem.rm("memory://versions", recursive=True)


@pytest.mark.parametrize(
    ("info", "version"),
    [
        ({"size": 3, "ETag": '"abc"', "LastModified": datetime(2020, 1, 1, tzinfo=UTC)}, "3-abc"),
        ({"size": 3, "md5Hash": "abc==", "updated": "today"}, "3-abc=="),
        ({"size": 3, "CRC": 7}, "3-7"),
        ({"size": 3, "mtime": 5.5}, "3-5.5"),
        ({"size": 3, "created": datetime(1970, 1, 2, tzinfo=UTC)}, "3-86400.0"),
        ({"size": None}, "None-"),
    ],
)
def test_what_stores_say(info, version):
    assert version_of(info) == version


def test_a_folder_of_a_bucket_is_listed_once(bucket, monkeypatch):
    uris = [f"{bucket}/many/{number:02d}.tar" for number in range(30)]
    for uri in uris:
        write_bytes(uri, uri.encode())
    heads, listings = asked(monkeypatch, "_info"), asked(monkeypatch, "_lsdir")
    everything = versions_of(uris)
    assert (len(heads), len(listings)) == (0, 1)
    assert {uri: versions_of([uri])[uri] for uri in uris[:3]} == {uri: everything[uri] for uri in uris[:3]}
    write_bytes(uris[0], uris[0].encode())
    assert versions_of(uris) == everything, "the same bytes"
    write_bytes(uris[0], b"others")
    assert [uri for uri, version in versions_of(uris).items() if version != everything[uri]] == uris[:1]


def test_corpora_in_a_bucket(bucket, tmp_path):
    for pair in EXPECTED:
        write_bytes(f"{bucket}/paths/images/{pair.id}.jpg", pair.image)
    parquet(tmp_path, [text_row(pair) for pair in EXPECTED], "paths.parquet")
    parquet(tmp_path, [byte_row(pair) for pair in EXPECTED], "bytes.parquet")
    write_bytes(f"{bucket}/paths/a.parquet", (tmp_path / "paths.parquet").read_bytes())
    write_bytes(f"{bucket}/bytes/a.parquet", (tmp_path / "bytes.parquet").read_bytes())
    for number, pair in enumerate(EXPECTED):
        write_bytes(f"{bucket}/tars/{number:02d}.tar", tar_bytes(sample(pair)))
    lines = "id\timage_path\ttext\n" + "".join(f"{p.id}\timages/{p.id}.jpg\t{p.texts[0]}\n" for p in EXPECTED)
    write_bytes(f"{bucket}/paths.tsv", lines.encode())
    for name in ("paths", "bytes", "tars", "tars/{00..10}.tar"):
        source = open_corpus(f"{bucket}/{name}")
        assert read_all(source) == EXPECTED
        assert all(len(part.version) > 30 for part in source.parts(3)), "size and ETag"
    missing = read_all(open_corpus(f"{bucket}/paths.tsv"))
    assert {row.kind for row in missing} == {"missing image"}, "paths are relative to the table"


@pytest.mark.parametrize("name", ["nothing", "nothing.tar", "{0..3}.tar", "{00..30}.tar"])
def test_what_is_not_in_a_bucket_is_named(bucket, name):
    with pytest.raises(BadInput, match="no such file"):
        open_corpus(f"{bucket}/{name}")
    with pytest.raises(BadInput, match="no such file"):
        open_corpus(f"s3://another/{name}")


@pytest.mark.parametrize("name", ["nothing", "many", "many/", "", "x" * 3000, "a\0b"])
def test_images_that_are_not_in_a_bucket_are_rejects(bucket, name):
    for uri in (f"{bucket}/{name}", f"s3://another/{name}", f"s3://{name[:9]}"):
        assert fetch(uri).startswith(f"image {uri}: ")
