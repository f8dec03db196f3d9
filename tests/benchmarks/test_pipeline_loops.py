"""The loops that extraction and encoding are measured beside do the same work as ours."""

import itertools
from types import SimpleNamespace

import numpy as np
import torch

from xhash_ray.benchmarks import encoding, extraction, memory, training
from xhash_ray.core.bits import pack
from xhash_ray.features.clip import ClipEncoder, Preprocessor
from xhash_ray.features.embedding import Embedder
from xhash_ray.options.bench import BenchEncode, BenchExtract, BenchTraining
from xhash_ray.storage import tables


def test_synthetic_features_repeat_under_other_ids(tmp_path, monkeypatch):
    monkeypatch.setattr(training, "ROWS_PER_FILE", 10)
    monkeypatch.setattr(training, "DRAWN_FILES", 2)
    options = BenchTraining(pairs=35, image_length=4, text_length=3, out=str(tmp_path))
    table = tables.read_table(tables.open_tables(training.synthetic_features(options), "features"))
    assert len(set(table["id"].to_pylist())) == 35
    image = np.stack(table["image"].to_numpy())
    assert np.array_equal(image[20:35], image[:15])
    assert not np.array_equal(image[10:20], image[:10])


def test_the_bare_encoding_loop_reads_everything_and_its_parts_make_up_its_time(tmp_path, monkeypatch):
    monkeypatch.setattr(training, "ROWS_PER_FILE", 50)
    shape = BenchTraining(pairs=120, image_length=8, text_length=8, out=str(tmp_path))
    files = tables.open_tables(training.synthetic_features(shape), "features").files
    method = encoding.untrained(BenchEncode(image_length=8, text_length=8, bits=16), str(tmp_path / "model"))
    seen = []
    outputs = method.outputs
    method.outputs = lambda name, rows: seen.append((name, len(rows))) or outputs(name, rows)
    ticks = itertools.count()  # a clock that goes on by a second whenever it is looked at
    monkeypatch.setattr(encoding, "time", SimpleNamespace(perf_counter=lambda: float(next(ticks))))
    seconds = encoding.bare_loop(files, method)
    assert [sum(n for name, n in seen if name == which) for which in ("image", "text")] == [120, 120]
    of_both = dict.fromkeys(("float32", "product", "packing"), 2 * len(files))
    parts = {"bytes": len(files), "parquet": len(files), **of_both}
    assert seconds == {"all": 2 * sum(parts.values()) + 1, **parts}, "nothing is counted twice, nothing left out"


def test_signs_are_packed_as_codes_are():
    outputs = torch.tensor([[1.0, -1.0, 0.0, 2.0, -0.5, -3.0, 4.0, 5.0]])
    packed = np.packbits((outputs >= 0).numpy(), axis=1, bitorder="little")
    assert np.array_equal(packed, pack(outputs.numpy()))


def test_the_bare_extraction_loop_gives_the_features_that_ours_gives(tmp_path):
    options = BenchExtract(pairs=12, model="micro", batch_size=5, processes=0, threads=1)
    corpus = extraction.jpeg_corpus(options, str(tmp_path))
    model, weights = extraction.random_weights(options, str(tmp_path))
    bare = extraction.Bare(options, corpus, model, weights)
    assert bare.run() > 0
    encoder, rows = ClipEncoder(model, weights), bare.pairs
    preprocessor = Preprocessor(encoder.facts)
    pixels = np.stack([preprocessor.image(content) for content in rows.images])
    ours = Embedder(encoder, 5).embed(pixels, preprocessor.tokens(rows.texts), [1] * len(rows))
    images, tokens = zip(*(rows[row] for row in range(len(rows))), strict=True)
    with torch.inference_mode():
        theirs = bare.both(torch.stack(images), torch.stack(tokens))
    for mine, other in zip(ours, theirs, strict=True):
        assert np.abs(mine - other.astype(np.float32)).max() < 1e-3  # theirs are float16


def test_memory_that_falls_is_seen():
    with memory.fall_of_memory() as fall:
        blocks = []
        while fall.most_mb <= 50 and len(blocks) < 20:  # others may give memory back meanwhile
            blocks.append(np.ones(100_000_000, np.uint8))
            fall.look()
    assert fall.most_mb > 50
    assert blocks[-1][-1] == 1
