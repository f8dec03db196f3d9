"""Thumbnails: of every form of corpus, by id, and None for whatever cannot be shown."""

import asyncio
import csv
import io
import threading
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from tests.corpus.forms import tar
from xhash_ray.corpus.pairs import content_hash
from xhash_ray.errors import BadInput, Overloaded, XhashError
from xhash_ray.serving.shrinking import shrunk
from xhash_ray.serving.thumbnails import Places, Thumbnails

COLOURS = {f"p{n:02d}": (20 * n, 255 - 20 * n, 128) for n in range(12)}
BAD = "broken"


def encoded(image: Image.Image, form: str = "PNG", **options) -> bytes:
    """An image as a file."""
    written = io.BytesIO()
    image.save(written, form, **options)
    return written.getvalue()


PICTURES = {name: encoded(Image.new("RGB", (40, 30), colour)) for name, colour in COLOURS.items()} | {BAD: b"no image"}


def bytes_corpus(folder: Path) -> str:
    """Parquet of several files and row groups, ids in no order."""
    names = list(np.random.default_rng(1).permutation(list(PICTURES)))
    for part in (names[:6], names[6:]):
        rows = {"id": part, "image": [PICTURES[name] for name in part], "text": part}
        pq.write_table(pa.table(rows), folder / f"{part[0]}.parquet", row_group_size=4)
    return str(folder)


def files(folder: Path) -> list[dict[str, str]]:
    """Image files, and the rows that name them."""
    for name, content in PICTURES.items():
        (folder / f"{name}.png").write_bytes(content)
    return [{"id": name, "image_path": f"{name}.png", "text": name} for name in PICTURES]


def paths_corpus(folder: Path) -> str:
    """Parquet that names files."""
    pq.write_table(pa.Table.from_pylist(files(folder)), folder / "a.parquet", row_group_size=5)
    return str(folder)


def folder_corpus(folder: Path) -> str:
    """Files and a CSV table."""
    rows = files(folder)
    with open(folder / "t.csv", "w", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return str(folder)


def tars_corpus(folder: Path) -> str:
    """Two tars."""
    names = list(PICTURES)
    for number, part in enumerate((names[:5], names[5:])):
        members = [m for name in part for m in ((f"{name}.png", PICTURES[name]), (f"{name}.txt", name.encode()))]
        tar(folder / f"{number}.tar", members)
    return str(folder)


def picture(thumbnails: Thumbnails, name: str) -> bytes | None:
    """One picture."""
    return asyncio.run(thumbnails.jpeg(name))


def opened(content: bytes | None) -> Image.Image:
    """A picture that must be there."""
    assert content is not None
    image = Image.open(io.BytesIO(content))
    assert image.format == "JPEG"
    return image


@pytest.mark.parametrize("build", [bytes_corpus, paths_corpus, folder_corpus, tars_corpus])
def test_every_pair_has_its_own_picture_in_every_form(tmp_path, build):
    thumbnails = Thumbnails(build(tmp_path))
    for name, colour in COLOURS.items():
        image = opened(picture(thumbnails, name))
        assert image.size == (40, 30)
        assert np.abs(np.array(image.getpixel((20, 15))) - colour).max() < 8
    for name in (BAD, "nobody", "", "p", "zz", "p00\0", "ü"):
        assert picture(thumbnails, name) is None


def test_the_map_finds_every_id_and_the_first_of_equal_ones(tmp_path):
    names = [str(number) for number in np.random.default_rng(2).permutation(500)] + ["ß", "Z", "zebra", "7"]
    pq.write_table(
        pa.table({"id": names, "image": [b"x"] * 504, "text": names}), tmp_path / "a.parquet", row_group_size=50
    )
    places = Places(Thumbnails(str(tmp_path)).source)
    assert (len(places.parts), len(places.names)) == (1, 504)
    for row, name in enumerate(names[:-1]):
        place = places.find(name)
        assert place is not None
        assert place.position == row


def test_a_caption_that_is_a_pair_of_its_own_has_the_picture_of_all(tmp_path):
    names = ["a", "a#2", "b#1", "c"]
    table = pa.table({"id": names, "image": [name.encode() for name in names], "text": names})
    pq.write_table(table, tmp_path / "a.parquet")
    places = Places(Thumbnails(str(tmp_path)).source)
    found = {name: places.find(name) for name in ("a", "a#2", "a#3", "a#2#1", "b#1", "b#2", "c#x", "c#", "#1")}
    assert {name: place and place.position for name, place in found.items()} == {
        "a": 0, "a#2": 1, "a#3": 0, "a#2#1": 1, "b#1": 2, "b#2": None, "c#x": None, "c#": None, "#1": None,
    }  # fmt: skip


@pytest.mark.parametrize("build", [bytes_corpus, paths_corpus, folder_corpus, tars_corpus])
def test_ids_that_are_made_of_the_content(tmp_path, build):
    thumbnails = Thumbnails(build(tmp_path), identity="content")
    name = "p05"
    image = opened(picture(thumbnails, content_hash(PICTURES[name], [name])))
    assert np.abs(np.array(image.getpixel((20, 15))) - COLOURS[name]).max() < 8
    assert picture(thumbnails, name) is None


def test_a_corpus_without_captions_has_pictures_too(tmp_path):
    pq.write_table(pa.table({"id": ["a"], "image": [PICTURES["p03"]]}), tmp_path / "a.parquet")
    assert opened(picture(Thumbnails(str(tmp_path)), "a")).size == (40, 30)


def test_an_empty_corpus_has_no_pictures(tmp_path):
    schema = pa.schema([("id", pa.string()), ("image", pa.binary()), ("text", pa.string())])
    pq.write_table(schema.empty_table(), tmp_path / "a.parquet")
    assert picture(Thumbnails(str(tmp_path)), "a") is None


def test_renamed_columns(tmp_path):
    table = pa.table({"key": [7], "photo": [PICTURES["p03"]], "caption": ["x"]})
    pq.write_table(table, tmp_path / "a.parquet")
    thumbnails = Thumbnails(str(tmp_path), {"id": "key", "image": "photo", "text": "caption"})
    assert opened(picture(thumbnails, "7")).size == (40, 30)


def test_no_corpus_is_said_at_once(tmp_path):
    with pytest.raises(BadInput):
        Thumbnails(str(tmp_path / "nothing"))


def test_so_many_are_kept_those_last_used(tmp_path, monkeypatch):
    thumbnails = Thumbnails(folder_corpus(tmp_path), kept=2)
    read, image = [], thumbnails.source.image
    monkeypatch.setattr(
        thumbnails.source, "image", lambda part, position: read.append(position) or image(part, position)
    )
    for name in ("p00", "p01", "p00", "p02", "p00", "p01", BAD, BAD):
        picture(thumbnails, name)
    assert read == [0, 1, 2, 1, 12], "that one is no image is known, too"
    assert list(thumbnails.finished) == ["p01", BAD]


def test_trouble_with_storage_is_no_last_word(tmp_path):
    thumbnails = Thumbnails(folder_corpus(tmp_path))
    (tmp_path / "p01.png").rename(tmp_path / "away")
    assert picture(thumbnails, "p01") is None
    (tmp_path / "away").rename(tmp_path / "p01.png")
    assert opened(picture(thumbnails, "p01")).size == (40, 30)
    (tmp_path / "tars").mkdir()
    thumbnails = Thumbnails(tars_corpus(tmp_path / "tars"))
    picture(thumbnails, "p00")
    (tmp_path / "tars" / "0.tar").unlink()
    assert picture(thumbnails, "p01") is None


def test_who_comes_while_ids_are_read_is_told_so_and_a_failure_is_tried_again(tmp_path, monkeypatch):
    thumbnails = Thumbnails(folder_corpus(tmp_path), patience_s=0.05)
    go, located, tries = threading.Event(), thumbnails.source.located, []

    def slowly(part):
        tries.append(part)
        go.wait(120)
        if len(tries) == 1:
            raise XhashError("reading ids", "no network", "Ask again")
        return located(part)

    monkeypatch.setattr(thumbnails.source, "located", slowly)
    for _ in range(2):
        with pytest.raises(Overloaded, match="0 of"):
            picture(thumbnails, "p00")
    thumbnails.patience_s = 120
    threading.Timer(0.2, go.set).start()  # while somebody waits, who is told
    with pytest.raises(XhashError, match="no network"):
        picture(thumbnails, "p00")
    assert opened(picture(thumbnails, "p00")).size == (40, 30)
    assert len(tries) == 2, "both who came first waited for one pass"


@pytest.mark.parametrize(("size", "expected"), [((1000, 500), (256, 128)), ((30, 3000), (3, 256)), ((1, 1), (1, 1))])
def test_sizes(size, expected):
    for form in ("JPEG", "PNG", "WEBP"):
        assert opened(shrunk(encoded(Image.new("RGB", size, "red"), form), 256)).size == expected


def test_cameras_that_were_turned():
    image = Image.new("RGB", (64, 32), "blue")
    image.paste("red", (0, 0, 32, 32))
    exif = Image.Exif()
    exif[0x0112] = 6  # turned a quarter to the right: what lies left comes to the top
    turned = opened(shrunk(encoded(image, "JPEG", exif=exif, quality=95), 64))
    assert turned.size == (32, 64)
    assert turned.getpixel((16, 8))[0] > 200 > turned.getpixel((16, 56))[0]


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparency_lies_on_white(mode):
    layered = Image.new("RGBA", (300, 300), (0, 0, 0, 0))
    layered.paste((255, 0, 0, 255), (0, 0, 150, 300))
    if mode == "P":
        paletted = Image.new("P", (300, 300), 0)
        paletted.putpalette([0, 0, 0, 255, 0, 0])
        paletted.paste(1, (0, 0, 150, 300))
        content = encoded(paletted, "GIF", transparency=0)
    else:
        content = encoded(layered.convert("LA") if mode != "RGBA" else layered)
    made = opened(shrunk(content, 100))
    assert min(made.getpixel((90, 50))) > 245
    assert made.getpixel((10, 50))[1] < 120


@pytest.mark.parametrize("mode", ["1", "L", "I;16", "CMYK", "RGB"])
def test_other_kinds_of_pixels(mode):
    form = "JPEG" if mode == "CMYK" else "PNG"
    assert opened(shrunk(encoded(Image.new(mode, (300, 200)), form), 100)).mode == "RGB"


def test_what_is_too_large_or_broken_is_none(monkeypatch):
    fine = encoded(Image.effect_noise((200, 200), 50))
    assert shrunk(fine[: len(fine) // 2], 64) is None
    for content in (b"", b"text", b"\x89PNG\r\n\x1a\n", b"<svg xmlns='http://www.w3.org/2000/svg'/>", b"\xff\xd8\xff"):
        assert shrunk(content, 64) is None
    for form in ("EPS", "PPM", "PDF"):
        assert shrunk(encoded(Image.new("RGB", (9, 9)), form), 64) is None, "a reader that starts programs"
    assert shrunk(encoded(Image.new("1", (20_000, 20_000))), 64) is None, "more than Pillow itself wants"
    monkeypatch.setattr("xhash_ray.storage.pictures.PIXEL_LIMIT", 39_999)
    assert shrunk(fine, 64) is None
