"""Corpora: the same pairs come out of every form, every row once, whatever parts it is read in."""

import pickle
import shutil
from dataclasses import replace

import pyarrow as pa
import pytest

from tests.corpus.forms import EXPECTED, every_form, packed_tars, read_all, several_tables, tars_of_json, unplaced
from xhash_ray.corpus.pairs import content_hash
from xhash_ray.corpus.sources import open_corpus

CONTENT_IDS = [content_hash(pair.image, pair.texts) for pair in EXPECTED]


@every_form
@pytest.mark.parametrize("rows", [1, 3, 5, 100])
def test_the_same_pairs_come_out_of_every_form(tmp_path, build, rows):
    assert read_all(open_corpus(build(tmp_path / "corpus")), rows) == EXPECTED


@every_form
def test_a_survey_knows_ids_labels_and_metadata(tmp_path, build):
    source = open_corpus(build(tmp_path / "corpus"))
    surveys = [source.survey(part) for part in source.parts(3)]
    assert [name for survey in surveys for name in survey.ids] == [pair.id for pair in EXPECTED]
    assert set().union(*(survey.labels for survey in surveys)) == {"even", "odd", "small"}
    assert {tuple(survey.metadata.names) for survey in surveys} == {("split",)}
    assert {survey.metadata.field("split").type for survey in surveys} == {pa.string()}


@every_form
def test_parts_are_numbered_and_read_alone_by_whoever_gets_the_source(tmp_path, build):
    source = open_corpus(build(tmp_path / "corpus"))
    parts = source.parts(3)
    assert [part.number for part in parts] == list(range(len(parts)))
    elsewhere = pickle.loads(pickle.dumps(source))
    renumbered = [pickle.loads(pickle.dumps(replace(part, number=part.number + 40))) for part in parts]
    backwards = [list(elsewhere.read(part)) for part in reversed(renumbered)]
    assert unplaced([pair for part in reversed(backwards) for pair in part]) == EXPECTED
    assert list(open_corpus(source.uri).read(parts[-1])) == backwards[0], "a source that was just opened"


@every_form
@pytest.mark.parametrize("rows", [1, 3, 100])
def test_rows_are_counted_within_their_file(tmp_path, build, rows):
    source = open_corpus(build(tmp_path / "corpus"))
    by_file: dict[str, list[int]] = {}
    for part in source.parts(rows):
        found = [pair.row for pair in source.read(part)]
        assert part.rows in {len(found), None}
        by_file.setdefault(part.source, []).extend(found)
    assert all(numbers == list(range(len(numbers))) for numbers in by_file.values())
    assert sum(map(len, by_file.values())) == len(EXPECTED)


@every_form
def test_a_part_has_the_version_of_its_file(tmp_path, build):
    uri = build(tmp_path / "corpus")
    before = {part.source: part.version for part in open_corpus(uri).parts(3)}
    assert {part.source: part.version for part in open_corpus(uri).parts(100)} == before
    changed = sorted(before)[-1]
    shutil.copy(changed, f"{changed}.copy")
    shutil.move(f"{changed}.copy", changed)
    after = {part.source: part.version for part in open_corpus(uri).parts(3)}
    assert {name for name in before if before[name] != after[name]} == {changed}


@every_form
def test_a_file_url_is_a_path(tmp_path, build):
    uri = build(tmp_path / "corpus")
    assert read_all(open_corpus(f"file://{uri}")) == EXPECTED


@every_form
def test_columns_can_be_renamed(tmp_path, build):
    uri = build(tmp_path / "corpus")
    renamed = read_all(open_corpus(uri, {"labels": "split"}))
    assert [pair.labels for pair in renamed] == [(pair.metadata["split"],) for pair in EXPECTED]


@every_form
def test_ids_may_be_made_of_the_content(tmp_path, build):
    source = open_corpus(build(tmp_path / "corpus"), identity="content")
    expected = [replace(pair, id=name) for pair, name in zip(EXPECTED, CONTENT_IDS, strict=True)]
    parts = source.parts(3)
    assert unplaced([row for part in parts for row in source.read(part)]) == expected
    surveys = [source.survey(part) for part in parts]
    assert [name for survey in surveys for name in survey.ids] == CONTENT_IDS
    assert {tuple(survey.metadata.names) for survey in surveys} == {("split",)}
    assert set().union(*(survey.labels for survey in surveys)) == {"even", "odd", "small"}
    placed = [(name, source.image(part, place)) for part in parts for name, place in source.located(part)]
    assert placed == [(pair.id, pair.image) for pair in expected]


@every_form
def test_images_alone(tmp_path, build):
    source = open_corpus(build(tmp_path / "corpus"), needs=("image",))
    assert read_all(source) == [replace(pair, texts=()) for pair in EXPECTED]


@every_form
def test_texts_alone_touch_no_image(tmp_path, build):
    uri = build(tmp_path / "corpus")
    shutil.rmtree(tmp_path / "corpus" / "images", ignore_errors=True)
    assert read_all(open_corpus(uri, needs=("text",))) == [replace(pair, image=b"") for pair in EXPECTED]


@pytest.mark.parametrize("build", [tars_of_json, packed_tars])
def test_a_tar_is_one_part(tmp_path, build):
    source = open_corpus(build(tmp_path))
    assert [(part.groups, part.start, part.rows) for part in source.parts(1)] == [((), 0, None)] * 2


def test_slices_of_tables_end_with_the_table(tmp_path):
    parts = open_corpus(several_tables(tmp_path)).parts(3)
    assert [(part.source.rpartition("/")[2], part.start, part.rows) for part in parts] == [
        ("1.csv", 0, 3),
        ("1.csv", 3, 1),
        ("2.csv.zst", 0, 3),
        ("2.csv.zst", 3, 3),
        ("2.csv.zst", 6, 1),
    ]
