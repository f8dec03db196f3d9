"""Extraction on Ray: what CLIP gives, for every pair exactly once, and bad input said clearly."""

from __future__ import annotations

import io

import numpy as np
import open_clip
import pyarrow as pa
import pytest
import torch
from PIL import Image

from tests.runtime.conftest import PAIRS
from xhash_ray import options
from xhash_ray.errors import BadInput, Mismatch, XhashError
from xhash_ray.features.checkpoints import resolve_architecture
from xhash_ray.runtime.encoding import encode
from xhash_ray.runtime.extraction import extract
from xhash_ray.runtime.verifying import verify
from xhash_ray.storage import tables
from xhash_ray.storage.features import load_features, open_features
from xhash_ray.storage.writing import REJECTS


def corpus_rows(run) -> list[dict]:
    return tables.read_table(tables.open_tables(run.corpus, "corpus")).to_pylist()


def write_corpus(folder, rows) -> str:
    tables.write_table(str(folder / "part-0.parquet"), pa.Table.from_pylist(rows))
    return str(folder)


def extract_options(run, corpus, out, **more):
    common = {"model": "xhash-tiny", "pretrained": run.weights, "actors": 1, "dtype": "float32"}
    return options.Extract(corpus=corpus, out=str(out), **{**common, **more})


def test_every_pair_is_there_once_with_its_metadata(run):
    table = tables.read_table(open_features(run.features).tables)
    rows = {row["id"]: row for row in corpus_rows(run)}
    assert sorted(table["id"].to_pylist()) == sorted(rows)
    classes = open_features(run.features).classes
    for row in table.select(["id", "caption", "split", "labels"]).to_pylist():
        assert row["caption"] == rows[row["id"]]["text"]
        assert row["split"] == rows[row["id"]]["split"]
        assert [classes[number] for number in row["labels"]] == rows[row["id"]]["labels"]


def test_features_are_those_of_open_clip(run):
    name = resolve_architecture("xhash-tiny")
    model, _, preprocess = open_clip.create_model_and_transforms(name, run.weights)
    tokenizer = open_clip.get_tokenizer(name)
    model.eval()
    features = load_features(run.features)
    rows = {row["id"]: row for row in corpus_rows(run)}
    with torch.inference_mode():
        for position in range(0, len(features.ids), 17):
            row = rows[features.ids[position]]
            image = preprocess(Image.open(io.BytesIO(row["image"])))[None]
            expected_image = model.encode_image(image, normalize=True)[0].numpy()
            expected_text = model.encode_text(tokenizer([row["text"]]), normalize=True)[0].numpy()
            assert np.abs(features.image[position] - expected_image).max() < 1e-5
            assert np.abs(features.text[position] - expected_text).max() < 1e-5


def rejects_of(folder) -> list[dict]:
    return tables.read_table(tables.open_tables(str(folder / REJECTS), "rejects")).to_pylist()


def test_unusable_rows_are_put_aside_with_id_place_and_reason(run, tmp_path):
    rows = [{"id": row["id"], "image": row["image"], "text": row["text"]} for row in corpus_rows(run)[:20]]
    rows[3]["image"] = b"no image at all"
    rows[5]["image"] = rows[5]["image"][: len(rows[5]["image"]) // 2]
    rows[7]["text"] = "  "
    corpus = write_corpus(tmp_path / "corpus", rows)
    result = extract(extract_options(run, corpus, tmp_path / "out", max_rejects=0.5))
    assert (result["pairs"], result["rejected"], result["input_pairs"]) == (17, 3, 20)
    assert result["rejected_by"] == {"prepare: truncated": 1, "prepare: wrong type": 1, "read: missing text": 1}
    found = [(row["id"], row["row"], row["stage"], row["kind"]) for row in rejects_of(tmp_path / "out")]
    assert found == [
        (rows[3]["id"], 3, "prepare", "wrong type"),
        (rows[5]["id"], 5, "prepare", "truncated"),
        (rows[7]["id"], 7, "read", "missing text"),
    ]
    assert {row["source"] for row in rejects_of(tmp_path / "out")} == {f"{corpus}/part-0.parquet"}
    assert load_features(str(tmp_path / "out")).ids == [row["id"] for i, row in enumerate(rows) if i not in (3, 5, 7)]
    assert "prepare: truncated" in (tmp_path / "out" / "_run" / "report.html").read_text()


def test_too_many_rejects_end_the_run_and_a_higher_limit_goes_on(run, tmp_path):
    rows = [{"id": row["id"], "image": row["image"], "text": row["text"]} for row in corpus_rows(run)[:12]]
    for row in rows[:3]:
        row["image"] = b"broken"
    corpus, out = write_corpus(tmp_path / "corpus", rows), tmp_path / "out"
    with pytest.raises(BadInput, match=r"of 12 pairs are unusable so far \(prepare: wrong type \d\).*id '"):
        extract(extract_options(run, corpus, out, rows_per_unit=2))
    assert not (out / tables.MANIFEST).exists()
    result = extract(extract_options(run, corpus, out, rows_per_unit=2, max_rejects=0.3))
    assert (result["pairs"], result["rejected"]) == (9, 3)
    assert result["done_before"] > 0


def test_an_id_that_occurs_twice_is_named_before_anything_is_computed(run, tmp_path):
    rows = corpus_rows(run)[:5]
    rows[4]["id"] = rows[0]["id"]
    corpus = write_corpus(tmp_path / "corpus", rows)
    with pytest.raises(BadInput, match=f"id '{rows[0]['id']}' occurs again in .*row 4"):
        extract(extract_options(run, corpus, tmp_path / "out"))
    assert not list(tmp_path.glob("out/*.parquet"))
    result = extract(extract_options(run, corpus, tmp_path / "out", duplicates="first"))
    assert (result["pairs"], result["rejected_by"]) == (4, {"identity: duplicate id": 1})


def test_equal_contents_are_one_pair_by_their_hash(run, tmp_path):
    rows = [{"image": row["image"], "text": row["text"]} for row in corpus_rows(run)[:4]]
    corpus = write_corpus(tmp_path / "corpus", [*rows, rows[2]])
    result = extract(extract_options(run, corpus, tmp_path / "out", identity="content"))
    assert (result["pairs"], result["rejected"]) == (4, 1)
    assert all(len(name) == 32 for name in load_features(str(tmp_path / "out")).ids)


def test_several_captions_give_the_mean_feature(run, tmp_path):
    first, second = corpus_rows(run)[:2]
    rows = [{"id": "both", "image": first["image"], "text": [first["text"], second["text"]]}]
    extract(extract_options(run, write_corpus(tmp_path / "corpus", rows), tmp_path / "out"))
    features = load_features(run.features)
    known = {name: row for name, row in zip(features.ids, features.text, strict=True)}
    mean = known[first["id"]] + known[second["id"]]
    found = load_features(str(tmp_path / "out")).text[0]
    assert np.abs(found - mean / np.linalg.norm(mean)).max() < 1e-5


def test_each_caption_can_be_a_pair_of_its_own(run, tmp_path):
    first, second, third = corpus_rows(run)[:3]
    rows = [
        {"id": "both", "image": first["image"], "text": [first["text"], second["text"]]},
        {"id": "one", "image": third["image"], "text": [third["text"]]},
    ]
    corpus = write_corpus(tmp_path / "corpus", rows)
    extract(extract_options(run, corpus, tmp_path / "out", captions="each"))
    features, found = load_features(run.features), load_features(str(tmp_path / "out"))
    known = {name: place for place, name in enumerate(features.ids)}
    assert found.ids == ["both#0", "both#1", "one"]
    images = [features.image[known[row["id"]]] for row in (first, first, third)]
    texts = [features.text[known[row["id"]]] for row in (first, second, third)]
    assert np.abs(found.image - np.stack(images)).max() < 1e-5
    assert np.abs(found.text - np.stack(texts)).max() < 1e-5
    assert verify(options.Verify(features=str(tmp_path / "out")))["pairs"] == {"features": 2}


def test_the_result_does_not_ask_how_many_actors_or_rows_in_a_unit_or_batch(run, tmp_path):
    known = load_features(run.features)
    changed = {"actors": 1, "rows_per_unit": 37, "batch_size": 11}
    extract(extract_options(run, run.corpus, tmp_path / "out", **changed))
    found = load_features(str(tmp_path / "out"))
    order = np.argsort(known.ids), np.argsort(found.ids)
    assert [known.ids[i] for i in order[0]] == [found.ids[i] for i in order[1]]
    for name in ("image", "text"):
        assert np.abs(getattr(known, name)[order[0]] - getattr(found, name)[order[1]]).max() < 1e-6


@pytest.mark.parametrize(("modality", "other"), [("image", "text"), ("text", "image")])
def test_one_modality_alone(run, tmp_path, modality, other):
    rows = [{"id": row["id"], modality: row[modality]} for row in corpus_rows(run)[:10]]
    corpus = write_corpus(tmp_path / "corpus", rows)
    extract(extract_options(run, corpus, tmp_path / "out", modalities=modality))
    found = open_features(str(tmp_path / "out"), ())
    assert getattr(found, f"{other}_length") == 0
    table, known = tables.read_table(found.tables), load_features(run.features)
    expected = np.stack([getattr(known, modality)[known.ids.index(row["id"])] for row in rows])
    assert np.abs(np.stack(table[modality].to_numpy()) - expected).max() < 1e-5
    encode(options.Encode(features=str(tmp_path / "out"), model=run.model, out=str(tmp_path / "codes")))
    codes = tables.read_table(tables.open_tables(str(tmp_path / "codes"), "codes"))
    whole = tables.read_table(tables.open_tables(run.codes, "codes"))
    by_id = dict(zip(whole["id"].to_pylist(), whole[f"{modality}_code"].to_pylist(), strict=True))
    assert codes[f"{modality}_code"].to_pylist() == [by_id[row["id"]] for row in rows]
    with pytest.raises(BadInput, match=f"'{other}' is missing"):
        open_features(str(tmp_path / "out"))


def test_the_same_command_again_finds_nothing_to_do_and_another_is_refused(run):
    again = {"actors": 2, "rows_per_unit": 100}
    result = extract(extract_options(run, run.corpus, run.features, **again))
    assert (result["pairs"], result["done_before"]) == (PAIRS, PAIRS)
    with pytest.raises(
        Mismatch, match=r"finished results with other settings is there \(captions: mean there, first here"
    ):
        extract(extract_options(run, run.corpus, run.features, captions="first", **again))


def test_a_corpus_that_has_grown_is_added_to_what_is_done(run, tmp_path):
    rows = corpus_rows(run)[:30]
    corpus, out = write_corpus(tmp_path / "corpus", rows[:20]), tmp_path / "out"
    extract(extract_options(run, corpus, out))
    before = {path.name: path.stat().st_mtime_ns for path in out.glob("part-*")}
    tables.write_table(f"{corpus}/a-new-part.parquet", pa.Table.from_pylist(rows[20:]))
    with pytest.raises(Mismatch, match=r"1 new files \(a-new-part.parquet\).*--extend"):
        extract(extract_options(run, corpus, out))
    assert load_features(str(out)).ids == [row["id"] for row in rows[:20]]
    result = extract(extract_options(run, corpus, out, extend=True))
    assert (result["pairs"], result["done_before"]) == (30, 20)
    assert load_features(str(out)).ids == [row["id"] for row in rows]
    assert before.items() <= {path.name: path.stat().st_mtime_ns for path in out.glob("part-*")}.items()
    assert verify(options.Verify(features=str(out)))["ids"] == 30
    tables.write_table(f"{corpus}/part-0.parquet", pa.Table.from_pylist(rows[:19]))
    with pytest.raises(Mismatch, match=r"part-0.parquet has changed"):
        extract(extract_options(run, corpus, out, extend=True))


def test_verification_names_what_is_lost(run, tmp_path):
    rows = corpus_rows(run)[:20]
    corpus, out = write_corpus(tmp_path / "corpus", rows), tmp_path / "out"
    extract(extract_options(run, corpus, out))
    assert verify(options.Verify(features=str(out)))["pairs"] == {"features": 20}
    tables.write_table(f"{corpus}/another.parquet", pa.Table.from_pylist([{**rows[0], "id": "never extracted"}]))
    with pytest.raises(XhashError, match=r"1 ids are missing in features, the first in .*another.parquet, row 0"):
        verify(options.Verify(features=str(out)))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"model": "ViT-B-33"}, "Did you mean 'ViT-B-32'"),
        ({"pretrained": "laion2b"}, "no such file, and no pretrained tag"),
        ({"corpus": "/nowhere/at/all"}, "no such file"),
    ],
)
def test_unknown_names_are_said_before_anything_is_computed(run, tmp_path, changed, message):
    given = {
        "corpus": run.corpus,
        "out": str(tmp_path / "out"),
        "model": "xhash-tiny",
        "pretrained": run.weights,
    }
    with pytest.raises(BadInput, match=message):
        extract(options.Extract(**{**given, **changed}))
