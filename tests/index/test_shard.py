"""Searching shards: merged, they answer what one scan over everything answers, by (distance, id)."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from xhash_ray.core import hamming
from xhash_ray.core.hamming import distances_reference
from xhash_ray.errors import BadInput, Mismatch
from xhash_ray.index import naming
from xhash_ray.index.build import assemble, partition
from xhash_ray.index.generations import Generation
from xhash_ray.index.segments import segment_name, write_segment
from xhash_ray.index.shard import Hit, Shard, load_shard, merge_hits
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
    """An index of a table, written and loaded; every shard in two segments."""
    segments = []
    for number, part in enumerate(partition(table, shards)):
        for run, half in (("a", part.slice(0, len(part) // 2)), ("b", part.slice(len(part) // 2))):
            if len(half):
                name = segment_name(run, number, shards)
                segments.append(write_segment(str(folder), name, number, 1, assemble([half])))
    facts = {"shards": shards, "bits": 16, "segments": [vars(each) for each in segments], "tombstones": []}
    return [load_shard(Generation(str(folder), facts), number) for number in range(shards)]


def brute_force(table: pa.Table, query: np.ndarray, target: str, k: int) -> list[tuple[int, str]]:
    """All (distance, id), sorted by Python."""
    distances = distances_reference(to_array(table[f"{target}_code"]), query[None])[0].tolist()
    return sorted(zip(distances, table["id"].to_pylist(), strict=True))[:k]


cases = given(
    shards=st.sampled_from([1, 2, 4, 7]),
    n=st.integers(0, 40),
    k=st.integers(1, 45),
    target=st.sampled_from(["image", "text"]),
    seed=st.integers(0, 999),
)


@pytest.fixture(params=["compiled", "plain"])
def way(request):
    """Both ways to name hits."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hamming, "FEW_PAIRS", 0 if request.param == "compiled" else 10**12)
        yield request.param


@settings(
    deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@cases
def test_ids_of_any_bytes_break_ties_the_same_way(tmp_path_factory, way, shards, n, k, target, seed):
    table, rng = code_table(n, seed), np.random.default_rng(seed)
    letters = ["a", "b", "ab", "é", "日", "\x7f", "\U0001f600", ""]
    names = [f"{''.join(rng.choice(letters, 3))}{number}" for number in range(n)]
    table = table.set_column(0, "id", pa.array(names, pa.string()))
    segments = shards_of(table, shards, tmp_path_factory.mktemp("index"))
    whole = Shard(0, tuple(segment for shard in segments for segment in shard.segments))
    queries = rng.integers(0, 4, (3, 2), dtype=np.uint8)
    for query, hits in zip(queries, whole.search(queries, target, k), strict=True):
        assert [(hit.distance, hit.id) for hit in hits] == brute_force(table, query, target, k)


@settings(deadline=None, max_examples=40)
@cases
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
        names = [name for segment in shard.segments for name in segment.table["id"].to_pylist()]
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


def test_a_code_is_the_one_that_was_stored(tmp_path):
    table = code_table(20, 3)
    stored = dict(zip(table["id"].to_pylist(), to_array(table["text_code"]).tolist(), strict=True))
    for shard in shards_of(table, 2, tmp_path):
        for name in [name for segment in shard.segments for name in segment.table["id"].to_pylist()]:
            assert shard.code(shard.find(name), "text").tolist() == stored[name]


def test_codes_have_memory_of_their_own_and_ids_stay_on_disk(tmp_path):
    (shard,) = shards_of(code_table(2000, 4), 1, tmp_path)
    for segment in shard.segments:
        assert segment.codes["image"].base is None or segment.codes["image"].base.base is None
        assert segment.codes["image"].flags.writeable, "read from the file, not mapped"
        assert segment.table.column_names == ["id", "number"]


def test_content_that_is_not_what_the_generation_says_is_named(tmp_path):
    facts = write_segment(str(tmp_path), "segments/a.arrow", 0, 1, assemble([code_table(3, 0)]))
    generation = Generation(str(tmp_path), {"segments": [vars(facts)], "tombstones": []})
    path = tmp_path / facts.name
    whole = path.read_bytes()
    place = whole.index(to_array(assemble([code_table(3, 0)])["text_code"]).tobytes())
    path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
    with pytest.raises(Mismatch, match=r"SHA-256 of the text codes in segments/a\.arrow"):
        load_shard(generation, 0)
    assert load_shard(generation, 0, modalities=["image"]).segments[0].codes.keys() == {"image"}
    path.write_bytes(whole[:-1])
    with pytest.raises(Mismatch, match=rf"segments/a\.arrow has {len(whole) - 1:,} bytes instead of {len(whole):,}"):
        load_shard(generation, 0)
    path.unlink()
    with pytest.raises(BadInput, match=r"segments/a\.arrow is missing"):
        load_shard(generation, 0)


@pytest.mark.parametrize("many", [0, 10**9])
def test_ids_are_asked_for_ahead_and_answers_stay_the_same(tmp_path, monkeypatch, many):
    monkeypatch.setattr(naming, "MANY_ID_BYTES", many)
    table = code_table(3000, 5)
    queries = np.random.default_rng(5).integers(0, 4, (9, 2), dtype=np.uint8)
    (shard,) = shards_of(table, 1, tmp_path)
    assert shard.naming.are_many == (many == 0)
    for k in (1, 10, 3000):
        for query, hits in zip(queries, shard.search(queries, "image", k), strict=True):
            assert [(hit.distance, hit.id) for hit in hits] == brute_force(table, query, "image", k)
