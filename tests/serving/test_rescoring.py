"""Rescoring through the endpoint: the same for any number of groups, and what a plain loop over candidates gives."""

import asyncio

import numpy as np
import pyarrow as pa
import pytest

from tests.index.samples import rows_of
from tests.serving.test_http import Encoder
from xhash_ray.core.hamming import distances_reference
from xhash_ray.errors import BadInput
from xhash_ray.index import generations
from xhash_ray.index.build import assemble, partition
from xhash_ray.index.segments import segment_name, write_segment
from xhash_ray.serving.answers import Answer, rescored
from xhash_ray.serving.backends import GroupServer, InProcess
from xhash_ray.serving.gateway import Gateway
from xhash_ray.serving.keys import Keys
from xhash_ray.serving.requests import SearchRequest
from xhash_ray.serving.router import Router
from xhash_ray.storage.codes import to_array

ROWS = 50


def with_features(rows: pa.Table) -> pa.Table:
    """Rows with eight numbers per side."""
    rng = np.random.default_rng(3)
    for side in ("image", "text"):
        features = rng.standard_normal((len(rows), 8)).astype(np.float16)
        column = pa.FixedSizeListArray.from_arrays(pa.array(features.reshape(-1)), 8)
        rows = rows.append_column(f"{side}_feature", column)
    return rows


def gateway_of(folder, rows: pa.Table, shards: int, groups: int, fingerprint: str) -> Gateway:
    """An endpoint over rows."""
    segments = [
        write_segment(str(folder), segment_name("0a", number, shards), number, 1, assemble([part]))
        for number, part in enumerate(partition(rows, shards))
    ]
    known = {"bits": 16, "method": "jdsh", "model_fingerprint": fingerprint, "model": "none", "shards": shards}
    generations.commit(str(folder), None, "build", segments, [], len(rows), known)
    backends = [InProcess(GroupServer(str(folder), part, groups)) for part in range(groups)]
    gateway = Gateway(Router(str(folder), backends), Encoder(), Keys(None))
    asyncio.run(gateway.activate(None))
    return gateway


def answered(gateway: Gateway, **query):
    """A search's hits."""
    return asyncio.run(gateway.search(SearchRequest(**query)))


def plain(rows: pa.Table, code: np.ndarray, scores: np.ndarray, candidates: int, k: int) -> list[str]:
    """The first candidates by (distance, id), then by (score, distance, id), by Python's sort."""
    distances = distances_reference(to_array(rows["text_code"]), code[None])[0].tolist()
    everything = sorted(zip(distances, rows["id"].to_pylist(), scores.tolist(), strict=True))[:candidates]
    return [name for _, _, name in sorted((-score, distance, name) for distance, name, score in everything)][:k]


@pytest.mark.parametrize(("shards", "groups"), [(1, 1), (4, 2), (7, 3)])
def test_by_outputs_it_is_a_loop_over_the_candidates(tmp_path, model, shards, groups):
    rows, outputs = rows_of(0, ROWS), np.random.default_rng(5).standard_normal(16).astype(np.float32)
    gateway = gateway_of(tmp_path, rows, shards, groups, model.fingerprint)
    bits = np.unpackbits(to_array(rows["text_code"]), axis=1, bitorder="little").astype(np.float32) * 2 - 1
    answer = answered(gateway, vector=outputs.tolist(), k=7, rescore="outputs", candidates=30)
    code = np.array([1, 2], np.uint8)  # what the fake encoder makes of every vector
    assert [hit["id"] for hit in answer["hits"]] == plain(rows, code, bits @ outputs, 30, 7)
    assert [hit["score"] for hit in answer["hits"]] == sorted((hit["score"] for hit in answer["hits"]), reverse=True)
    assert answer["kth_distance"] >= max(hit["distance"] for hit in answer["hits"])
    assert answer["certain"] == 7
    plainly = answered(gateway, vector=outputs.tolist(), k=7)
    assert "score" not in plainly["hits"][0]


@pytest.mark.parametrize(("shards", "groups"), [(1, 1), (4, 3)])
def test_by_features_a_stored_pair_is_nearest_to_what_its_feature_is(tmp_path, model, shards, groups):
    rows = with_features(rows_of(0, ROWS))
    gateway = gateway_of(tmp_path, rows, shards, groups, model.fingerprint)
    assert gateway.facts()["rescores"] == ["outputs", "features"]
    (query,) = asyncio.run(gateway.search_batch([SearchRequest(text="0102", k=5, rescore="features", target="text")]))
    feature = np.unpackbits(np.array([1, 2], np.uint8), bitorder="little")[:8].astype(np.float32) * 2 - 1
    stored = np.stack(rows["text_feature"].to_pylist()).astype(np.float32)
    cosines = stored @ feature / np.linalg.norm(stored, axis=1) / np.linalg.norm(feature)
    expected = plain(rows, np.array([1, 2], np.uint8), np.round(cosines, 6), 50, 5)
    assert [hit["id"] for hit in query["hits"]] == expected
    assert "text_feature" not in query["hits"][0]["metadata"]
    assert len(answered(gateway, id="pair-3", k=4, rescore="features")["hits"]) == 4


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ({"code": "0102", "rescore": "outputs"}, "nothing but its bits is known"),
        ({"text": "0102", "rescore": "features"}, "the index has no features"),
        ({"id": "pair-3", "rescore": "features"}, "the index has no features"),
        ({"text": "0102", "rescore": "outputs", "candidates": 3}, "at least k"),
        ({"text": "0102", "candidates": 30}, "only with rescore"),
    ],
)
def test_what_cannot_be_rescored_is_said(tmp_path, model, query, message):
    gateway = gateway_of(tmp_path, rows_of(0, ROWS), 2, 2, model.fingerprint)
    with pytest.raises(BadInput, match=message):
        answered(gateway, **query)


def test_equal_scores_keep_the_order_of_distance_and_id():
    candidates = Answer([(1, "b"), (1, "c"), (2, "a")], [{}, {"n": 1}, {}], None, [0.5, 0.5, 0.5])
    assert rescored(candidates, 2).hits == [(1, "b"), (1, "c")]
    assert rescored(candidates._replace(scores=[0, 1, 2]), 2) == Answer(
        [(2, "a"), (1, "c")], [{}, {"n": 1}], None, [2, 1]
    )


@pytest.mark.parametrize("query", [{"code": "0102", "k": 12}, {"code": "0003", "k": 50, "filter": "number < 20"}])
def test_resharding_changes_no_answer(tmp_path, model, query):
    rows, found = rows_of(0, ROWS), []
    for shards, groups in ((1, 1), (2, 1), (4, 4), (7, 2)):
        gateway = gateway_of(tmp_path / f"{shards}", rows, shards, groups, model.fingerprint)
        found.append(answered(gateway, ties=True, **query))
    for answer in found[1:]:
        assert answer["hits"] == found[0]["hits"]
        assert answer["at_kth"] == found[0]["at_kth"]
