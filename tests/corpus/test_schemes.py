"""Corpora elsewhere than on a local disk: whatever fsspec reads."""

import pickle
import zipfile
from pathlib import Path

import fsspec
import pytest

from tests.corpus.forms import (
    EXPECTED,
    csv_folder,
    every_form,
    jsonl_folder,
    packed_tars,
    parquet,
    parquet_of_bytes,
    parquet_of_paths,
    read_all,
    several_tables,
    tars_of_json,
    text_row,
)
from tests.corpus.servers import InParts, Quiet, serving
from xhash_ray.corpus.sources import open_corpus
from xhash_ray.errors import BadInput


def files_of(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, by its name there."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def memory():
    """fsspec's files in memory, none of them left."""
    filesystem = fsspec.filesystem("memory")
    yield filesystem
    filesystem.rm("/", recursive=True)


def check(uri: str) -> None:
    """Everything that a corpus answers."""
    source = pickle.loads(pickle.dumps(open_corpus(uri)))
    assert read_all(source, 3) == EXPECTED
    parts = source.parts(3)
    assert [name for part in parts for name in source.survey(part).ids] == [pair.id for pair in EXPECTED]
    placed = [(name, source.image(part, place)) for part in parts for name, place in source.located(part)]
    assert placed == [(pair.id, pair.image) for pair in EXPECTED]
    assert all(part.version.count("-") and part.version[-1] != "-" for part in parts)


@every_form
def test_memory(tmp_path, memory, build):
    build(tmp_path / "corpus")
    for name, content in files_of(tmp_path / "corpus").items():
        memory.pipe_file(f"memory://here/corpus/{name}", content)
    check("memory://here/corpus")


def test_patterns_in_memory(tmp_path, memory):
    tars_of_json(tmp_path)
    for number in range(20):
        memory.pipe_file(f"memory://x/{number:02d}.tar", (tmp_path / "000.tar").read_bytes())
    source = open_corpus("memory://x/{00..19}.tar")
    assert [part.source for part in source.parts(1)] == [f"memory://x/{number:02d}.tar" for number in range(20)]
    assert read_all(source) == EXPECTED[:5] * 20
    with pytest.raises(BadInput, match=r"memory://x/20\.tar: no such file"):
        open_corpus("memory://x/{00..20}.tar")


@every_form
def test_archives(tmp_path, build):
    build(tmp_path / "corpus")
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        for name, content in files_of(tmp_path / "corpus").items():
            archive.writestr(f"in/{name}", content)
    check(f"zip://in::{tmp_path}/x.zip")
    check(f"zip://::{tmp_path}/x.zip")


def test_one_file_of_an_archive(tmp_path):
    csv_folder(tmp_path / "corpus")
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        for name, content in files_of(tmp_path / "corpus").items():
            archive.writestr(name, content)
    check(f"zip://table.csv::{tmp_path}/x.zip")
    (tmp_path / "y.zip").write_bytes(b"no archive")
    with pytest.raises(BadInput, match="not a zip file"):
        open_corpus(f"zip://table.csv::{tmp_path}/y.zip")
    with pytest.raises(BadInput, match="no such file"):
        open_corpus(f"zip://other.csv::{tmp_path}/x.zip")


@pytest.mark.parametrize("kind", [InParts, Quiet])
@pytest.mark.parametrize(
    ("build", "pattern"),
    [
        (csv_folder, "table.csv"),
        (jsonl_folder, "table.jsonl"),
        (several_tables, "{1.csv,2.csv.zst}"),
        (tars_of_json, "{000..001}.tar"),
        (packed_tars, "{000.tar.gz,001.tar.zst}"),
    ],
)
def test_web_servers(tmp_path, build, pattern, kind):
    build(tmp_path)
    with serving(tmp_path, kind) as url:
        check(f"{url}/{pattern}")


@pytest.mark.parametrize(
    ("build", "pattern"), [(parquet_of_bytes, "{a,b}.parquet"), (parquet_of_paths, "part.parquet")]
)
def test_parquet_on_web_servers(tmp_path, build, pattern):
    build(tmp_path)
    with serving(tmp_path) as url:
        check(f"{url}/{pattern}")


def test_what_is_not_on_a_web_server_is_named(tmp_path):
    tars_of_json(tmp_path)
    with serving(tmp_path) as url:
        with pytest.raises(BadInput, match=r"/002\.tar: no such file"):
            open_corpus(f"{url}/{{000..002}}.tar")
        with pytest.raises(BadInput, match=r"/002\.tar: no such file"):
            open_corpus(f"{url}/002.tar")


def test_images_of_a_web_server(tmp_path):
    parquet_of_paths(tmp_path / "there")
    (tmp_path / "there" / "images" / "p03.jpg").unlink()
    with serving(tmp_path / "there") as url:
        rows = [text_row(pair) | {"image_path": f"{url}/images/{pair.id}.jpg"} for pair in EXPECTED]
        found = read_all(open_corpus(parquet(tmp_path / "here", rows)))
    assert found[:3] + found[4:] == EXPECTED[:3] + EXPECTED[4:]
    assert found[3].kind == "missing image"
