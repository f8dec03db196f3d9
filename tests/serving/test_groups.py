"""Groups of shards: merged, they answer what one scan answers, filters and ties included."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.index.test_shard import brute_force, code_table
from xhash_ray.core.hamming import distances_reference
from xhash_ray.errors import BadInput
from xhash_ray.index.build import assemble, partition
from xhash_ray.index.generations import Generation
from xhash_ray.index.segments import segment_name, write_segment
from xhash_ray.serving.answers import Kind, Query, merge_answers
from xhash_ray.serving.certificates import certain, least_distance
from xhash_ray.serving.groups import Group, shards_of_groups
from xhash_ray.storage.codes import to_array


def groups_of(table, shards: int, groups: int, folder) -> list[Group]:
    """An index of a table, loaded in groups."""
    segments = [
        write_segment(str(folder), segment_name("0a", number, shards), number, 1, assemble([part]))
        for number, part in enumerate(partition(table, shards))
    ]
    facts = {"shards": shards, "bits": 16, "segments": [vars(each) for each in segments], "tombstones": []}
    return [Group(Generation(str(folder), facts), numbers) for numbers in shards_of_groups(shards, groups)]


@settings(deadline=None, max_examples=40)
@given(
    st.sampled_from([1, 2, 4, 7]),
    st.integers(1, 4),
    st.integers(0, 40),
    st.integers(1, 45),
    st.sampled_from(["image", "text"]),
    st.sampled_from([None, "number >= 10"]),
    st.integers(0, 999),
)
def test_groups_merged_are_one_scan(tmp_path_factory, shards, groups, n, k, target, text, seed):
    table = code_table(n, seed)
    queries = np.random.default_rng(seed).integers(0, 4, (3, 2), dtype=np.uint8)
    loaded = groups_of(table, shards, groups, tmp_path_factory.mktemp("index"))
    kept = table.filter(np.asarray(table["number"]) >= 10) if text else table
    kind = Kind(target, k, text, ties=True)
    parts = [group.search(kind, [Query(query.tobytes()) for query in queries]).answers for group in loaded]
    numbers = dict(zip(kept["id"].to_pylist(), kept["number"].to_pylist(), strict=True))
    for row, query in enumerate(queries):
        merged = merge_answers([part[row] for part in parts], k)
        assert merged.hits == brute_force(kept, query, target, k)
        assert [each["number"] for each in merged.metadata] == [numbers[name] for _, name in merged.hits]
        if merged.hits:
            distances = distances_reference(to_array(kept[f"{target}_code"]), query[None])[0]
            assert merged.at_kth == (distances == merged.hits[-1][0]).sum()


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 40), st.integers(2, 5), st.integers(1, 30), st.integers(0, 999))
def test_the_prefix_that_is_certified_is_that_of_the_full_answer(tmp_path_factory, n, shards, k, seed):
    table = code_table(n, seed, values=256)
    query = np.random.default_rng(seed).integers(0, 256, 2, dtype=np.uint8)
    loaded = groups_of(table, shards, shards, tmp_path_factory.mktemp("index"))
    parts = [group.search(Kind("image", k), [Query(query.tobytes())]).answers[0] for group in loaded]
    full = merge_answers(parts, k).hits
    for missing in range(shards):
        bound = least_distance(loaded[missing].summaries["image"], query)
        assert all(distance >= bound for distance, _ in parts[missing].hits)
        short = merge_answers([part for number, part in enumerate(parts) if number != missing], k).hits
        proven = certain([distance for distance, _ in short], [bound])
        assert short[:proven] == full[:proven]


def test_a_far_shard_leaves_much_that_is_certain():
    assert certain([1, 2, 5, 9], []) == 4
    assert certain([1, 2, 5, 9], [6, 5]) == 2, "a code at the bound might have the smaller id"


def test_an_item_is_what_was_stored(tmp_path):
    table = code_table(20, 3)
    (group,) = groups_of(table, 3, 1, tmp_path)
    row = table.to_pylist()[7]
    assert group.item(row["id"]) == {
        "id": row["id"],
        "image_code": row["image_code"].hex(),
        "text_code": row["text_code"].hex(),
        "metadata": {"number": row["number"]},
    }
    assert group.item("nobody") is None


def test_filters_are_refused_with_a_reason_and_kept_when_they_are_good(tmp_path):
    (group,) = groups_of(code_table(20, 3), 2, 1, tmp_path)
    with pytest.raises(BadInput, match="Did you mean 'number'"):
        group.search(Kind("image", 3, "nmber = 1"), [Query(b"\0\0")])
    for low in range(40):
        group.search(Kind("image", 3, f"number >= {low}"), [Query(b"\0\0")])
    assert len(group.filters.values) == 8


def test_shards_are_dealt_evenly():
    assert shards_of_groups(7, 3) == [[0, 1, 2], [3, 4], [5, 6]]
    assert shards_of_groups(2, 5) == [[0], [1], [], [], []]
