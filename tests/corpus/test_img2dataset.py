"""What img2dataset writes: tars with a table beside each, files with a table beside each folder, Parquet.

Layouts as of img2dataset/writer.py and downloader.py: a key is shard and number, a failed download a row without image.
"""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.corpus.forms import EXPECTED, PACKED, parquet, read_all, tar, tar_bytes
from xhash_ray.corpus import sidecars, webdataset
from xhash_ray.corpus.pairs import Pair
from xhash_ray.corpus.sources import open_corpus
from xhash_ray.errors import BadInput

TEXTS = ("caption", "url", "key", "status", "error_message", "exif")
SCHEMA = pa.schema([*((name, pa.string()) for name in TEXTS), ("width", pa.int32())])
HALVES = {"00000": EXPECTED[:5], "00001": EXPECTED[5:]}


def meta(shard: str, number: int, pair: Pair | None) -> dict[str, Any]:
    """What img2dataset knows of a sample; without a pair, of one that could not be downloaded."""
    known = {"caption": pair.texts[0] if pair else "lost", "url": f"https://x/{number}", "key": f"{shard}{number:04d}"}
    if pair is None:
        return known | {"status": "failed_to_download", "error_message": "404", "width": None, "exif": None}
    return known | {"status": "success", "error_message": None, "width": number, "exif": "{}"}


def rows(shard: str) -> list[tuple[dict[str, Any], Pair | None]]:
    """A shard's samples; some of them could not be downloaded."""
    wanted: list[Pair | None] = [None, *HALVES[shard]]
    wanted.insert(3, None)
    return [(meta(shard, number, pair), pair) for number, pair in enumerate(wanted)]


def expected(layout: str = "") -> list[Pair]:
    """The pairs that come out."""
    found = []
    for shard in HALVES:
        for known, pair in rows(shard):
            if pair:
                extra = {name: value for name, value in known.items() if name != "key" or layout == "tars"}
                if layout != "tars":
                    extra.pop("caption")
                found.append(Pair(known["key"], pair.image, pair.texts, (), extra))
    return found


def table(folder: Path, shard: str) -> None:
    """The table that lies beside a tar or a folder, and the run's statistics."""
    folder.mkdir(parents=True, exist_ok=True)
    known = [known for known, _ in rows(shard)]
    pq.write_table(pa.Table.from_pylist(known, SCHEMA), folder / f"{shard}.parquet", row_group_size=3)
    stats = {"count": len(known), "successes": len(HALVES[shard]), "failed_to_download": 2}
    (folder / f"{shard}_stats.json").write_text(json.dumps(stats))


def members(shard: str) -> list[tuple[str, bytes]]:
    """A shard's samples as members of a tar."""
    found = []
    for known, pair in rows(shard):
        if pair:
            name = known["key"]
            found += [(f"{name}.jpg", pair.image), (f"{name}.txt", pair.texts[0].encode())]
            found += [(f"{name}.json", json.dumps(known, indent=4).encode())]
    return found


def tars(folder: Path) -> str:
    """--output_format webdataset, as LAION is handed around."""
    for shard in HALVES:
        table(folder, shard)
        tar(folder / f"{shard}.tar", members(shard))
    return str(folder)


def files(folder: Path, suffix: str = "jpg") -> str:
    """--output_format files."""
    for shard in HALVES:
        table(folder, shard)
        (folder / shard).mkdir()
        for name, content in members(shard):
            (folder / shard / name.replace(".jpg", f".{suffix}")).write_bytes(content)
    return str(folder)


def parquets(folder: Path, image: str = "jpg") -> str:
    """--output_format parquet."""
    folder.mkdir(parents=True, exist_ok=True)
    for shard in HALVES:
        found = [{**known, image: pair and pair.image, "txt": pair and pair.texts[0]} for known, pair in rows(shard)]
        schema = SCHEMA.append(pa.field(image, pa.binary())).append(pa.field("txt", pa.string()))
        pq.write_table(pa.Table.from_pylist(found, schema), folder / f"{shard}.parquet", row_group_size=3)
    return str(folder)


@pytest.fixture
def unread(monkeypatch):
    """Forbids going through a tar for a survey."""
    monkeypatch.setattr(webdataset, "survey_of_rows", lambda *_: pytest.fail("the tar was read"))


@pytest.mark.parametrize("size", [1, 100])
def test_tars_with_tables(tmp_path, size, unread):
    source = open_corpus(tars(tmp_path))
    assert read_all(source, size) == expected("tars")
    surveys = [source.survey(part) for part in source.parts(size)]
    assert [name for survey in surveys for name in survey.ids] == [pair.id for pair in expected()]
    for survey in surveys:
        assert set(survey.metadata.names) == set(SCHEMA.names)
        assert survey.metadata.field("width").type == pa.int32()


def test_a_table_tells_ids_and_labels_that_were_mapped(tmp_path, unread):
    source = open_corpus(tars(tmp_path), {"id": "url", "labels": "status"})
    parts = source.parts(1)
    assert [source.survey(part).ids for part in parts] == [[row.id for row in source.read(part)] for part in parts]
    assert source.survey(parts[0]).labels == {"success"}


@pytest.mark.parametrize("size", [1, 4, 100])
@pytest.mark.parametrize("suffix", ["jpg", "png", "webp"])
def test_files_with_tables(tmp_path, size, suffix):
    source = open_corpus(files(tmp_path, suffix))
    assert read_all(source, size) == expected()
    parts = source.parts(size)
    assert [name for part in parts for name in source.survey(part).ids] == [pair.id for pair in expected()]
    placed = [(name, source.image(part, place)) for part in parts for name, place in source.located(part)]
    assert placed == [(pair.id, pair.image) for pair in expected()]


@pytest.mark.parametrize("size", [1, 4, 100])
@pytest.mark.parametrize("image", ["jpg", "png", "webp"])
def test_parquet(tmp_path, size, image):
    source = open_corpus(parquets(tmp_path, image))
    wanted = [replace(pair, metadata={**pair.metadata, "txt": pair.texts[0]}) for pair in expected()]
    assert read_all(source, size) == wanted
    parts = source.parts(size)
    assert [name for part in parts for name in source.survey(part).ids] == [pair.id for pair in wanted]
    placed = [(name, source.image(part, place)) for part in parts for name, place in source.located(part)]
    assert placed == [(pair.id, pair.image) for pair in wanted]
    assert [row.row for part in parts[-1:] for row in source.read(part)][-1] == 7, "failed downloads count as rows"


def test_what_was_mapped_is_not_guessed(tmp_path):
    with pytest.raises(BadInput, match="column 'picture' is missing"):
        open_corpus(parquets(tmp_path), {"image": "picture"})


def test_somebody_elses_status_is_metadata(tmp_path):
    uri = parquet(tmp_path, [{"key": 1, "image": b"x", "text": "t", "status": "draft"}])
    assert read_all(open_corpus(uri)) == [Pair("1", b"x", ("t",), (), {"status": "draft"})]


def test_a_missing_file_is_a_reject(tmp_path):
    uri = files(tmp_path)
    (tmp_path / "00001" / "000010001.jpg").unlink()
    found = read_all(open_corpus(uri))
    (reject,) = [row for row in found if not isinstance(row, Pair)]
    assert (reject.id, reject.row, reject.kind) == ("000010001", 1, "missing image")


def spoil(folder: Path, how: str) -> None:
    """Makes the first table one that does not tell of its tar."""
    place = folder / "00000.parquet"
    found = pq.read_table(place)
    if how == "of a run that died":
        place.write_bytes(b"PAR1")
    elif how == "without keys":
        pq.write_table(found.drop_columns(["key"]), place)
    elif how == "in another order":
        pq.write_table(found.take([7 - n for n in range(7) if n] + [0]), place)
    elif how == "one short at the end":
        pq.write_table(found.slice(0, 6), place)
    elif how == "of more than the statistics":
        (folder / "00000_stats.json").write_text('{"successes": 4}')
    elif how == "without downloads":
        pq.write_table(found.filter(pa.array([False] * 7)), place)
    else:
        content = tar_bytes(members("00000"))
        (folder / "00000.tar").write_bytes(PACKED["gz"](content) if how == "of a packed tar" else content)


@pytest.mark.parametrize(
    "how",
    [
        "of a run that died",
        "without keys",
        "in another order",
        "one short at the end",
        "of more than the statistics",
        "without downloads",
        "of a packed tar",
    ],
)
def test_a_table_that_does_not_agree_is_passed_over(tmp_path, how):
    source = open_corpus(tars(tmp_path))
    spoil(tmp_path, how)
    assert read_all(source) == expected("tars")
    part = source.parts(1)[0]
    assert source.survey(part).ids == [pair.id for pair in expected()[:5]]
    assert sidecars.trusted(part.source, str(tmp_path / "00000.parquet"), source.reading) is None


@pytest.mark.parametrize(("change", "count"), [("one gone", 10), ("one more", 12)])
def test_a_tar_that_was_changed_since_is_found_out_when_it_is_read(tmp_path, change, count):
    """In its middle, where neither end tells."""
    source = open_corpus(tars(tmp_path))
    inside = members("00000")
    more = [("new.jpg", b"x"), ("new.txt", b"t")] if change == "one more" else []
    tar(tmp_path / "00000.tar", [*inside[:6], *more, *inside[6 if more else 9 :]])
    with pytest.raises(BadInput, match=r"its sample 2 is .*Take the table away"):
        list(source.read(source.parts(1)[0]))
    named = open_corpus(f"{tmp_path}/{{00000..00001}}.tar")
    assert len(read_all(named)) == count, "tars named alone are taken as they are"


def test_ids_of_content_need_no_table(tmp_path):
    source = open_corpus(tars(tmp_path), identity="content")
    assert {len(name) for part in source.parts(1) for name in source.survey(part).ids} == {32}


def test_a_table_of_no_tar_is_refused(tmp_path):
    tars(tmp_path)
    table(tmp_path, "00001")
    (tmp_path / "00001.tar").unlink()
    with pytest.raises(BadInput, match=r"2 Parquet files \(.*\) and 1 tar \(00000\.tar\)"):
        open_corpus(str(tmp_path))
