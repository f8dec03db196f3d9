"""One image of a corpus by where it lies: the same as reading everything gives, in every form."""

import pytest

from tests.corpus.forms import EXPECTED, bytes_with, csv_folder, every_form, parquet_of_paths, tar
from xhash_ray.corpus import parquet as parquet_corpus
from xhash_ray.corpus.sources import open_corpus
from xhash_ray.errors import BadInput


@every_form
@pytest.mark.parametrize("rows", [1, 3, 100, 2**40])
def test_every_image_is_where_it_is_said_to_be(tmp_path, build, rows):
    source = open_corpus(build(tmp_path / "corpus"))
    placed = [(name, part, place) for part in source.parts(rows) for name, place in source.located(part)]
    assert [name for name, _, _ in placed] == [pair.id for pair in EXPECTED]
    found = {name: source.image(part, place) for name, part, place in reversed(placed)}
    assert found == {pair.id: pair.image for pair in EXPECTED}


def test_a_row_group_is_gone_through_in_batches(tmp_path, monkeypatch):
    monkeypatch.setattr(parquet_corpus, "BATCH_ROWS", 3)
    source = bytes_with(tmp_path, 0)
    (part,) = source.parts(100)
    assert [source.image(part, row) for row in (3, 0, 10)] == [EXPECTED[row].image for row in (3, 0, 10)]
    assert source.image(part, 99) is None


def test_what_has_no_id_has_no_place_and_what_has_no_image_none(tmp_path):
    source = bytes_with(tmp_path / "a", 1, id=None)
    assert [place for _, place in source.located(source.parts(3)[0])] == [0, 2, 3]
    source = bytes_with(tmp_path / "b", 1, image=None)
    assert source.image(source.parts(3)[0], 1) is None


@pytest.mark.parametrize("build", [parquet_of_paths, csv_folder])
def test_an_image_file_that_is_gone_is_none(tmp_path, build):
    source = open_corpus(build(tmp_path))
    (tmp_path / "images" / "p00.jpg").unlink()
    (part,) = source.parts(100)
    assert source.image(part, 0) is None
    assert source.image(part, 1) == EXPECTED[1].image


def test_names_too_long_for_a_header_are_found_too(tmp_path):
    key = "folder/" * 30 + "1"
    tar(tmp_path / "a.tar", [("0.txt", b"no image"), (f"{key}.png", b"x"), (f"{key}.txt", b"t")])
    source = open_corpus(str(tmp_path))
    (part,) = source.parts(1)
    ((name, place),) = source.located(part)
    assert (name, source.image(part, place)) == (key, b"x")


def test_a_position_that_holds_no_file_is_none_and_a_tar_that_is_none_says_so(tmp_path):
    tar(tmp_path / "a.tar", [("1.png", b"x" * 600)])
    source = open_corpus(str(tmp_path))
    (part,) = source.parts(1)
    assert [source.image(part, 512 * block) for block in (1, 4)] == [None, None]
    (tmp_path / "a.tar").write_bytes(b"\x1f\x8b")
    with pytest.raises(BadInput, match="damaged"):
        source.image(part, 0)
