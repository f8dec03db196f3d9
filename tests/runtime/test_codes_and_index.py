"""Encoding and index building on Ray: one code per pair, one answer for any number of shards."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
import torch
from pyarrow import feather

from xhash_ray import options
from xhash_ray.core.bits import unpack
from xhash_ray.core.hamming import distances_reference
from xhash_ray.core.shards import id_hash
from xhash_ray.errors import BadInput, BadOption, Mismatch, XhashError
from xhash_ray.index import build as plans
from xhash_ray.index import generations, life
from xhash_ray.index.shard import load_shard, merge_hits
from xhash_ray.index.verify import verify
from xhash_ray.methods.artefacts import to_method
from xhash_ray.runtime import indexing
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
    content[content.index(to_array(feather.read_table(path)["text_code"]).tobytes())] ^= 1
    path.write_bytes(bytes(content))
    with pytest.raises(Mismatch, match=r"text codes in segments/.*00001-of-00002"):
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


class Stopped(BaseException):
    """Where a build is stopped."""


@pytest.mark.parametrize("answers", [0, 1, 3, 6, 7])
def test_a_build_that_was_stopped_goes_on_and_gives_the_same_index(run, tmp_path, monkeypatch, answers, capsys):
    monkeypatch.setattr(plans, "CUT_ROWS", 100)
    monkeypatch.setattr(plans, "SEGMENT_ROWS", 50)
    codes = str(tmp_path / "codes")
    rows = codes_of(run)
    files = [tables.write_table(f"{codes}/{n}.parquet", rows.slice(n * 65, 65)) for n in range(4)]
    writing.commit(codes, files, {"model_fingerprint": open_codes(run.codes).fingerprint})
    asked = options.IndexBuild(codes=codes, model=run.model, out=str(tmp_path / "index"), shards=3)
    each_unit, left, done = indexing.each_unit, [answers], []

    def stopping(units, do):
        for answer in each_unit(units, do):
            if left[0] == 0:
                raise Stopped
            left[0] -= 1
            yield answer

    def counting(units, do):
        done.append(len(units))
        return each_unit(units, do)

    monkeypatch.setattr(indexing, "each_unit", stopping)
    with pytest.raises(Stopped):
        build_index(asked)
    assert generations.numbers(asked.out) == []
    monkeypatch.setattr(indexing, "each_unit", counting)
    capsys.readouterr()
    made = build_index(asked)
    assert "going on" in capsys.readouterr().err
    assert sum(done) < 2 + 6, "what was finished is not done again"
    whole = build_index(replace(asked, out=str(tmp_path / "whole")))
    assert made["segments"] == whole["segments"] == 6
    digests = [[facts.sha256 for facts in generations.current(each["out"]).segments] for each in (made, whole)]
    assert digests[0] == digests[1]
    assert not places.exists(f"{asked.out}/building") or not places.list_files(f"{asked.out}/building", ("",))
    verify(options.IndexVerify(index=asked.out))


def test_other_codes_do_not_go_on_with_what_earlier_ones_left(run, tmp_path):
    codes = [open_codes(run.codes), open_codes(run.codes)]
    asked = options.IndexBuild(codes=run.codes, model=run.model, out="/out", shards=3)
    same = [indexing.plan(asked, "/out", 1, each)[0].run for each in codes]
    assert same[0] == same[1]
    changed = replace(codes[0].tables, facts={**codes[0].tables.facts})
    changed.facts["files"] = [{**entry, "sha256": "0" * 64} for entry in changed.facts["files"]]
    others = [
        indexing.plan(asked, "/out", 1, replace(codes[0], tables=changed)),
        indexing.plan(asked, "/out", 2, codes[0]),
        indexing.plan(asked, "/other", 1, codes[0]),
        indexing.plan(replace(asked, shards=4), "/out", 1, codes[0]),
        indexing.plan(replace(asked, where="id%2=0"), "/out", 1, codes[0]),
    ]
    assert len({same[0], *(build.run for build, _ in others)}) == 6


def test_recall_of_held_out_pairs_is_a_gate(run, tmp_path):
    out = str(tmp_path / "index")
    asked = options.IndexBuild(codes=run.codes, model=run.model, out=out, gates={"min_text_to_image_recall": 0.99})
    with pytest.raises(BadOption, match="Give their features with --held-out"):
        build_index(asked)
    with pytest.raises(BadInput, match=r"min_text_to_image_recall is 0\.\d+, allowed at least 0\.990"):
        build_index(replace(asked, held_out=run.features))
    found = build_index(replace(asked, held_out=run.features, gates={"min_text_to_image_recall": 0.1}))["gates"]
    assert 0.1 < found["min_text_to_image_recall"] < 0.99
    assert 0 < found["min_image_to_text_recall"] < 1


def test_features_that_were_kept_rescore_what_is_found(run, tmp_path):
    codes, out = str(tmp_path / "codes"), str(tmp_path / "index")
    encode(options.Encode(features=run.features, model=run.model, out=codes, keep_features=True))
    build_index(options.IndexBuild(codes=codes, model=run.model, out=out, shards=2))
    features, made = load_features(run.features), generations.current(out)
    query, stored = features.text[0], dict(zip(features.ids, features.image, strict=True))
    for shard in (load_shard(made, 0), load_shard(made, 1)):
        (hits,) = shard.search(np.zeros((1, made.bits // 8), np.uint8), "image", 20)
        found = shard.cosines([hit.row for hit in hits], "image", query)
        expected = [stored[hit.id] @ query / np.linalg.norm(stored[hit.id]) / np.linalg.norm(query) for hit in hits]
        np.testing.assert_allclose(found, expected, atol=2e-3)
        assert "image_feature" not in shard.rows([hits[0].row])[0]
        outputs = np.random.default_rng(1).standard_normal(made.bits)
        bits = np.stack([unpack(shard.code(hit.row, "image")[None])[0] for hit in hits]) * 2.0 - 1
        agreements = shard.agreements([hit.row for hit in hits], "image", outputs)
        np.testing.assert_allclose(agreements, bits @ outputs, rtol=1e-4, atol=1e-4)
    plain = str(tmp_path / "plain")
    build_index(options.IndexBuild(codes=run.codes, model=run.model, out=plain, shards=1))
    with pytest.raises(BadInput, match="the index has no features"):
        load_shard(generations.current(plain), 0).cosines([0], "image", query)
