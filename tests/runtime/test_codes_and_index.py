"""Encoding and index building on Ray: one code per pair, one answer for any number of shards."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
import torch

from xhash_ray import options
from xhash_ray.core.hamming import distances_reference
from xhash_ray.core.shards import id_hash
from xhash_ray.errors import BadInput, BadOption, Mismatch, XhashError
from xhash_ray.index import generations, life
from xhash_ray.index.shard import load_shard, merge_hits
from xhash_ray.index.verify import verify
from xhash_ray.methods.artefacts import to_method
from xhash_ray.runtime.encoding import encode
from xhash_ray.runtime.indexing import build_index
from xhash_ray.storage import tables, writing
from xhash_ray.storage import uri as places
from xhash_ray.storage.artefact import read_artefact
from xhash_ray.storage.codes import open_codes, to_array
from xhash_ray.storage.features import load_features


def codes_of(run) -> pa.Table:
    return tables.read_table(open_codes(run.codes).tables)


def test_codes_are_those_of_the_model(run):
    features, table = load_features(run.features), codes_of(run)
    method = to_method(read_artefact(run.model))
    assert table["id"].to_pylist() == features.ids
    for name in ("image", "text"):
        expected = method.encode(name, torch.from_numpy(getattr(features, name)))
        assert np.array_equal(to_array(table[f"{name}_code"]), expected)
    assert {"labels", "split", "caption"} <= set(table.column_names)


def test_features_of_another_length_are_refused(run, tmp_path):
    table = pa.table(
        {
            "id": ["a"],
            "image": pa.FixedSizeListArray.from_arrays(pa.array(np.ones(5, np.float32)), 5),
            "text": pa.FixedSizeListArray.from_arrays(pa.array(np.ones(5, np.float32)), 5),
        }
    )
    tables.write_table(str(tmp_path / "features.parquet"), table)
    with pytest.raises(Mismatch, match="features of 5 and 5 numbers"):
        encode(options.Encode(features=str(tmp_path / "features.parquet"), model=run.model, out=str(tmp_path / "out")))


def test_codes_of_another_model_are_refused(run, tmp_path):
    folder = tmp_path / "codes"
    folder.mkdir()
    writing.commit(
        str(folder),
        [tables.write_table(str(folder / "a.parquet"), codes_of(run))],
        {"model_fingerprint": "f" * 64},
    )
    with pytest.raises(Mismatch, match="is made by model ffffffffffff"):
        build_index(options.IndexBuild(codes=str(folder), model=run.model, out=str(tmp_path / "index")))


@pytest.mark.parametrize("shards", [1, 4, 7])
@pytest.mark.parametrize("target", ["image", "text"])
def test_any_number_of_shards_answers_like_brute_force(run, tmp_path, shards, target):
    out = str(tmp_path / "index")
    build_index(options.IndexBuild(codes=run.codes, model=run.model, out=out, shards=shards))
    made = generations.current(out)
    loaded = [load_shard(made, number) for number in range(shards)]
    table = codes_of(run)
    queries = to_array(table["text_code" if target == "image" else "image_code"])[:20]
    distances = distances_reference(to_array(table[f"{target}_code"]), queries)
    ids = table["id"].to_pylist()
    parts = [shard.search(queries, target, 30) for shard in loaded]
    for row, line in enumerate(distances):
        expected = sorted(zip(line.tolist(), ids, strict=True))[:30]
        found = merge_hits([part[row] for part in parts], 30)
        assert [(hit.distance, hit.id) for hit in found] == expected


def test_an_id_in_two_code_files_is_named(run, tmp_path):
    folder = tmp_path / "codes"
    folder.mkdir()
    files = [tables.write_table(str(folder / f"{name}.parquet"), codes_of(run).slice(0, 3)) for name in "ab"]
    fingerprint = open_codes(run.codes).fingerprint
    writing.commit(str(folder), files, {"model_fingerprint": fingerprint})
    with pytest.raises(BadInput, match="occurs twice"):
        build_index(options.IndexBuild(codes=str(folder), model=run.model, out=str(tmp_path / "index")))
    assert generations.numbers(str(tmp_path / "index")) == []


def test_a_flipped_byte_in_a_shard_is_named(run, tmp_path):
    out = tmp_path / "index"
    build_index(options.IndexBuild(codes=run.codes, model=run.model, out=str(out), shards=2))
    made = generations.current(str(out))
    path = out / next(facts.name for facts in made.segments if facts.shard == 1)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))
    with pytest.raises(Mismatch, match="00001-of-00002"):
        load_shard(made, 1)
    with pytest.raises(XhashError, match=r"the SHA-256 of segments/.*-00001-of-00002"):
        verify(options.IndexVerify(index=str(out)))


def test_an_index_lives_on_an_object_store(run, s3_endpoint, tmp_path, monkeypatch):
    monkeypatch.setenv("XHASH_CACHE", str(tmp_path / "cache"))
    out = "s3://xhash/lives/index"
    build_index(options.IndexBuild(codes=run.codes, model=run.model, out=out, shards=2, where="id%4=0"))
    life.add(options.IndexAdd(index=out, codes=run.codes, where="id%4=1"))
    taken = places.join(out, generations.name_of(2))
    content = places.read_bytes(taken)
    assert not places.create_bytes(taken, b"{}"), "of two writers the second is told"
    assert places.read_bytes(taken) == content
    names = [name for name in codes_of(run)["id"].to_pylist() if id_hash([name])[0] % 4 == 0]
    life.delete(options.IndexDelete(index=out, ids=tuple(names)))
    with pytest.raises(BadInput, match="an index is there"):
        build_index(options.IndexBuild(codes=run.codes, model=run.model, out=out))
    rows = life.compact(options.IndexCompact(index=out, keep=1))["rows"]
    assert verify(options.IndexVerify(index=out))["rows"] == rows
    assert generations.numbers(out) == [4]
    build_index(options.IndexBuild(codes=run.codes, model=run.model, out=out, shards=3, overwrite=True))
    assert generations.current(out).rows == len(codes_of(run))
    assert life.rollback(options.IndexRollback(index=out, to=4))["rows"] == rows
    verify(options.IndexVerify(index=out))


def test_codes_that_do_not_pass_the_gates_are_not_published(run, tmp_path):
    out = str(tmp_path / "index")
    gates = {"max_imbalance": 0.01, "min_distinct": 1.01}
    with pytest.raises(BadInput, match=r"max_imbalance is 0\.\d+, allowed at most 0\.010; min_distinct is"):
        build_index(options.IndexBuild(codes=run.codes, model=run.model, out=out, gates=gates))
    assert generations.numbers(out) == []
    assert not list((tmp_path / "index").rglob("*.arrow")), "what was refused is not left behind"
    with pytest.raises(BadOption, match="Did you mean 'min_distinct'"):
        build_index(options.IndexBuild(codes=run.codes, model=run.model, out=out, gates={"min_distinc": 1}))
    found = build_index(options.IndexBuild(codes=run.codes, model=run.model, out=out, gates={"max_imbalance": 0.5}))
    assert set(found["gates"]) == {
        "max_imbalance", "min_entropy", "max_correlation", "min_distinct", "min_pair_recall",
    }  # fmt: skip
