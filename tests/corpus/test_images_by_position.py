"""One image of a corpus by where it lies: the same as reading everything gives, in every form."""

import tarfile

import pytest

from tests.corpus.test_sources import EXPECTED, bytes_with, csv_folder, every_form, parquet_of_paths, tar, tars_of_json
from xhash_ray.corpus import parquet as parquet_corpus
from xhash_ray.corpus.sources import open_corpus
from xhash_ray.errors import BadInput


@every_form
@pytest.mark.parametrize("rows_per_unit", [1, 3, 100])
def test_every_image_is_where_it_is_said_to_be(tmp_path, build, rows_per_unit):
    source = open_corpus(build(tmp_path / "corpus"))
    placed = [(name, unit, place) for unit in source.plan(rows_per_unit) for name, place in source.located(unit)]
    assert [name for name, _, _ in placed] == [pair.id for pair in EXPECTED]
    found = {name: source.image(unit, place) for name, unit, place in reversed(placed)}
    assert found == {pair.id: pair.image for pair in EXPECTED}


def test_a_row_group_is_gone_through_in_batches(tmp_path, monkeypatch):
    monkeypatch.setattr(parquet_corpus, "BATCH_ROWS", 3)
    source = bytes_with(tmp_path, 0)
    unit = source.plan(100)[0]
    assert [source.image(unit, row) for row in (3, 0, 2)] == [EXPECTED[row].image for row in (3, 0, 2)]
    assert source.image(unit, 99) is None


def test_what_has_no_id_has_no_place_and_what_has_no_image_none(tmp_path):
    source = bytes_with(tmp_path / "a", 1, id=None)
    assert [place for _, place in source.located(source.plan(100)[0])] == [0, 2, 3]
    source = bytes_with(tmp_path / "b", 1, image=None)
    assert source.image(source.plan(100)[0], 1) is None


@pytest.mark.parametrize("build", [parquet_of_paths, csv_folder])
def test_an_image_file_that_is_gone_is_none(tmp_path, build):
    source = open_corpus(build(tmp_path))
    (tmp_path / "images" / "p00.jpg").unlink()
    unit = source.plan(100)[0]
    assert source.image(unit, 0) is None
    assert source.image(unit, 1) == EXPECTED[1].image


@pytest.mark.parametrize("how", ["gz", "bz2", "xz"])
def test_compressed_tars_are_gone_through(tmp_path, how):
    tars_of_json(tmp_path / "plain")
    with tarfile.open(tmp_path / "a.tar", f"w:{how}") as whole, tarfile.open(tmp_path / "plain" / "001.tar") as plain:
        for entry in plain:
            whole.addfile(entry, plain.extractfile(entry))
    source = open_corpus(str(tmp_path / "a.tar"))
    (unit,) = source.plan(1)
    assert [source.image(unit, place) for _, place in source.located(unit)] == [pair.image for pair in EXPECTED[5:]]


def test_names_too_long_for_a_header_are_found_too(tmp_path):
    key = "folder/" * 30 + "1"
    tar(tmp_path / "a.tar", [("0.txt", b"no image"), (f"{key}.png", b"x"), (f"{key}.txt", b"t")])
    source = open_corpus(str(tmp_path))
    (unit,) = source.plan(1)
    ((name, place),) = source.located(unit)
    assert (name, source.image(unit, place)) == (key, b"x")


def test_a_position_that_holds_no_file_is_none_and_a_tar_that_is_none_says_so(tmp_path):
    tar(tmp_path / "a.tar", [("1.png", b"x" * 600)])
    source = open_corpus(str(tmp_path))
    (unit,) = source.plan(1)
    assert [source.image(unit, 512 * block) for block in (1, 4)] == [None, None]
    (tmp_path / "a.tar").write_bytes(b"\x1f\x8b")
    with pytest.raises(BadInput, match="damaged"):
        source.image(unit, 0)
