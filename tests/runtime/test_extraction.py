"""Extraction on Ray: what CLIP gives, for every pair exactly once, and bad input said clearly."""

from __future__ import annotations

import io

import numpy as np
import open_clip
import pyarrow as pa
import pytest
import torch
from PIL import Image

from xhash_ray import options
from xhash_ray.errors import BadInput
from xhash_ray.features.checkpoints import resolve_architecture
from xhash_ray.runtime.extraction import extract
from xhash_ray.storage import tables
from xhash_ray.storage.features import load_features, open_features
from xhash_ray.storage.writing import REJECTS


def corpus_rows(run) -> list[dict]:
    return tables.read_table(tables.open_tables(run.corpus, "corpus")).to_pylist()


def write_corpus(folder, rows) -> str:
    tables.write_table(str(folder / "part-0.parquet"), pa.Table.from_pylist(rows))
    return str(folder)


def extract_options(run, corpus, out, **more):
    return options.Extract(
        corpus=corpus,
        out=str(out),
        model="xhash-tiny",
        pretrained=run.weights,
        actors=1,
        dtype="float32",
        **more,
    )


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


def test_undecodable_images_and_missing_texts_are_rejected_with_reasons(run, tmp_path):
    rows = [{"id": row["id"], "image": row["image"], "text": row["text"]} for row in corpus_rows(run)[:20]]
    rows[3]["image"] = b"no image at all"
    rows[5]["image"] = rows[5]["image"][: len(rows[5]["image"]) // 2]
    rows[7]["text"] = "  "
    corpus = write_corpus(tmp_path / "corpus", rows)
    result = extract(extract_options(run, corpus, tmp_path / "out", max_rejects=0.5))
    assert (result["pairs"], result["rejected"]) == (17, 3)
    (place,) = (tmp_path / "out" / REJECTS).glob("*/unit-000000.parquet")
    rejects = tables.read_file(str(place)).to_pylist()
    assert {row["id"] for row in rejects} == {rows[3]["id"], rows[5]["id"], rows[7]["id"]}
    assert any("text is missing" in row["reason"] for row in rejects)
    assert any("cannot be decoded" in row["reason"] for row in rejects)
    assert load_features(str(tmp_path / "out")).ids == [row["id"] for i, row in enumerate(rows) if i not in (3, 5, 7)]


def test_too_many_rejects_fail_and_leave_nothing_committed(run, tmp_path):
    rows = [{"id": str(i), "image": b"broken", "text": "x"} for i in range(4)]
    corpus = write_corpus(tmp_path / "corpus", rows)
    with pytest.raises(BadInput, match=r"4 of 4 pairs are unusable.*cannot be decoded"):
        extract(extract_options(run, corpus, tmp_path / "out"))
    assert not (tmp_path / "out" / tables.MANIFEST).exists()


def test_an_id_that_occurs_twice_is_named_before_anything_is_computed(run, tmp_path):
    rows = corpus_rows(run)[:5]
    rows[4]["id"] = rows[0]["id"]
    corpus = write_corpus(tmp_path / "corpus", rows)
    with pytest.raises(BadInput, match=f"id '{rows[0]['id']}' occurs 2 times"):
        extract(extract_options(run, corpus, tmp_path / "out"))
    assert not list(tmp_path.glob("out/*.parquet"))


def test_several_captions_give_the_mean_feature(run, tmp_path):
    first, second = corpus_rows(run)[:2]
    rows = [{"id": "both", "image": first["image"], "text": [first["text"], second["text"]]}]
    extract(extract_options(run, write_corpus(tmp_path / "corpus", rows), tmp_path / "out"))
    features = load_features(run.features)
    known = {name: row for name, row in zip(features.ids, features.text, strict=True)}
    mean = known[first["id"]] + known[second["id"]]
    found = load_features(str(tmp_path / "out")).text[0]
    assert np.abs(found - mean / np.linalg.norm(mean)).max() < 1e-5


def test_finished_features_are_not_replaced_unasked(run):
    with pytest.raises(BadInput, match="finished results are there"):
        extract(extract_options(run, run.corpus, run.features))


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
