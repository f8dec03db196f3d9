"""Searching shards: merged, they answer what one scan over everything answers, by (distance, id)."""

import hashlib

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xhash_ray.core.hamming import distances_reference
from xhash_ray.errors import BadInput, Mismatch
from xhash_ray.index.build import assemble, partition
from xhash_ray.index.shard import Hit, Shard, load_shard, merge_hits
from xhash_ray.storage import tables
from xhash_ray.storage.codes import from_array, to_array


def code_table(n: int, seed: int, values: int = 4) -> pa.Table:
    """Codes of 16 bits with many ties, ids in no order."""
    rng = np.random.default_rng(seed)
    image, text = (rng.integers(0, values, (n, 2), dtype=np.uint8) for _ in range(2))
    numbers = rng.permutation(n).tolist()
    return pa.table(
        {
            "id": pa.array([f"pair-{number}" for number in numbers], pa.string()),
            "image_code": from_array(image),
            "text_code": from_array(text),
            "number": pa.array(numbers, pa.int32()),
        }
    )


def shards_of(table: pa.Table, shards: int, folder) -> list[Shard]:
    """An index of a table, written and loaded."""
    loaded = []
    for number, part in enumerate(partition(table, shards)):
        facts = tables.write_table(f"{folder}/{number}.parquet", assemble([part]))
        loaded.append(load_shard(f"{folder}/{number}.parquet", number, facts.sha256))
    return loaded


def brute_force(table: pa.Table, query: np.ndarray, target: str, k: int) -> list[tuple[int, str]]:
    """All (distance, id), sorted by Python."""
    distances = distances_reference(to_array(table[f"{target}_code"]), query[None])[0].tolist()
    return sorted(zip(distances, table["id"].to_pylist(), strict=True))[:k]


@settings(deadline=None, max_examples=40)
@given(
    shards=st.sampled_from([1, 2, 4, 7]),
    n=st.integers(0, 40),
    k=st.integers(1, 45),
    target=st.sampled_from(["image", "text"]),
    seed=st.integers(0, 999),
)
def test_shards_merged_are_one_scan(tmp_path_factory, shards, n, k, target, seed):
    table = code_table(n, seed)
    queries = np.random.default_rng(seed).integers(0, 4, (3, 2), dtype=np.uint8)
    answers = [shard.search(queries, target, k) for shard in shards_of(table, shards, tmp_path_factory.mktemp("index"))]
    for row, query in enumerate(queries):
        merged = merge_hits([answer[row] for answer in answers], k)
        assert [(hit.distance, hit.id) for hit in merged] == brute_force(table, query, target, k)


@pytest.mark.parametrize("shards", [1, 3])
def test_a_hit_says_where_its_row_is(tmp_path, shards):
    table = code_table(20, 1)
    numbers = dict(zip(table["id"].to_pylist(), table["number"].to_pylist(), strict=True))
    for shard in shards_of(table, shards, tmp_path):
        (hits,) = shard.search(np.zeros((1, 2), np.uint8), "image", 20)
        assert {hit.shard for hit in hits} <= {shard.number}
        assert shard.rows([hit.row for hit in hits]) == [{"number": numbers[hit.id]} for hit in hits]


def test_every_stored_id_is_found_in_its_row_and_no_other(tmp_path):
    table = code_table(30, 2)
    for shard in shards_of(table, 3, tmp_path):
        names = shard.ids.to_pylist()
        assert [shard.find(name) for name in names] == list(range(len(names)))
        assert [shard.find(name) for name in ("", "pair-", "pair-99", "zzz")] == [None] * 4


def test_an_empty_shard_answers_nothing_and_finds_nothing(tmp_path):
    (shard,) = shards_of(code_table(0, 0), 1, tmp_path)
    assert shard.search(np.zeros((2, 2), np.uint8), "text", 5) == [[], []]
    assert shard.find("pair-1") is None
    assert shard.rows([]) == []


def test_a_shard_without_metadata_gives_empty_rows(tmp_path):
    (shard,) = shards_of(code_table(3, 0).drop_columns(["number"]), 1, tmp_path)
    assert shard.rows([2, 0]) == [{}, {}]


def test_an_unknown_target_is_refused(tmp_path):
    (shard,) = shards_of(code_table(3, 0), 1, tmp_path)
    with pytest.raises(BadInput, match="target 'audio'"):
        shard.search(np.zeros((1, 2), np.uint8), "audio", 1)


@pytest.mark.parametrize("k", [0, -1])
def test_less_than_one_hit_is_refused(tmp_path, k):
    (shard,) = shards_of(code_table(3, 0), 1, tmp_path)
    with pytest.raises(BadInput, match=f"k = {k}"):
        shard.search(np.zeros((1, 2), np.uint8), "image", k)
    with pytest.raises(BadInput, match=f"k = {k}"):
        merge_hits([[Hit(0, "a", 0, 0)]], k)


def test_merging_orders_by_distance_then_id():
    parts = [[Hit(1, "b", 0, 0), Hit(2, "a", 0, 1)], [], [Hit(1, "a", 1, 0), Hit(3, "c", 1, 1)]]
    assert [(hit.distance, hit.id) for hit in merge_hits(parts, 3)] == [(1, "a"), (1, "b"), (2, "a")]


def test_content_that_differs_from_the_manifest_is_refused(tmp_path):
    path = tmp_path / "shard.parquet"
    tables.write_table(str(path), code_table(3, 0))
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    tables.write_table(str(path), code_table(3, 1))
    with pytest.raises(Mismatch, match=r"shard\.parquet: its SHA-256 differs"):
        load_shard(str(path), 0, digest)


def test_a_missing_shard_is_named(tmp_path):
    with pytest.raises(BadInput, match=r"nothing\.parquet"):
        load_shard(str(tmp_path / "nothing.parquet"), 0)


def test_a_shard_that_is_no_parquet_is_refused(tmp_path):
    (tmp_path / "shard.parquet").write_bytes(b"PAR1 but no more")
    with pytest.raises(BadInput):
        load_shard(str(tmp_path / "shard.parquet"), 0)
