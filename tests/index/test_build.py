"""Building an index: a shard's rows depend on the pairs alone, not on how they were delivered."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xhash_ray.core.shards import shard_of
from xhash_ray.errors import BadInput
from xhash_ray.index.build import (
    Build,
    assemble,
    done_before,
    partition,
    parts_of,
    plan_cuts,
    read_done,
    run_of,
    write_assembled,
    write_cut,
)
from xhash_ray.index.segments import open_segment
from xhash_ray.storage import tables
from xhash_ray.storage.codes import from_array

NAMES = ["b", "a", "Z", "é", "z", "写", "\U0001f600", "", "aa", "A", "\uffff"]


def code_table(ids: list[str], seed: int = 0) -> pa.Table:
    """Codes of 16 bits with a caption that names the id."""
    codes = np.random.default_rng(seed).integers(0, 256, (len(ids), 2), dtype=np.uint8)
    return pa.table(
        {
            "id": pa.array(ids, pa.string()),
            "image_code": from_array(codes),
            "text_code": from_array(255 - codes),
            "caption": pa.array([f"caption of {name}" for name in ids], pa.string()),
        }
    )


@settings(deadline=None, max_examples=40)
@given(st.lists(st.text(max_size=5), unique=True, max_size=25), st.sampled_from([1, 2, 4, 7]))
def test_a_partition_holds_every_row_once_in_its_shard(ids, shards):
    parts = partition(code_table(ids), shards)
    assert len(parts) == shards
    for shard, part in enumerate(parts):
        assert part.schema == code_table([]).schema
        assert set(shard_of(part["id"].to_pylist(), shards)) <= {shard}
    assert sorted(name for part in parts for name in part["id"].to_pylist()) == sorted(ids)


@settings(deadline=None, max_examples=40)
@given(st.permutations(range(12)), st.integers(1, 4), st.integers(0, 12))
def test_a_shard_does_not_depend_on_how_its_rows_arrive(order, parts, cut):
    table = code_table([f"pair-{number}" for number in range(12)])
    mixed = table.take(list(order))
    delivered = [mixed.slice(0, cut), *[mixed.slice(12, 0)] * (parts - 1), mixed.slice(cut)]
    assert assemble(delivered).equals(assemble([table]))


def test_rows_are_in_python_string_order_and_stay_whole():
    table = assemble([code_table(NAMES[:4], 1), code_table(NAMES[4:], 2)])
    assert table["id"].to_pylist() == sorted(NAMES)
    assert table["caption"].to_pylist() == [f"caption of {name}" for name in sorted(NAMES)]
    image = np.frombuffer(b"".join(table["image_code"].to_pylist()), np.uint8)
    text = np.frombuffer(b"".join(table["text_code"].to_pylist()), np.uint8)
    np.testing.assert_array_equal(image, 255 - text)


@pytest.mark.parametrize("ids", [[], ["only"]])
def test_small_shards_assemble(ids):
    assert assemble([code_table(ids), code_table([])])["id"].to_pylist() == ids


def test_an_id_twice_across_parts_is_named():
    with pytest.raises(BadInput, match=r"id 'pair-2' occurs twice \(1 such rows"):
        assemble([code_table(["pair-1", "pair-2"]), code_table(["pair-3", "pair-2"])])


def test_an_id_twice_in_one_part_is_named():
    with pytest.raises(BadInput, match=r"id 'a' occurs twice \(3 such rows"):
        assemble([code_table(["a", "b", "a", "c", "a", "b"])])


def test_the_same_id_always_meets_itself_in_one_shard():
    first, second = (partition(code_table(["pair-1", name]), 4) for name in ("pair-2", "pair-3"))
    shard = int(shard_of(["pair-1"], 4)[0])
    with pytest.raises(BadInput, match="'pair-1' occurs twice"):
        assemble([first[shard], second[shard]])


def test_cuts_gather_row_groups_in_order_and_none_is_lost():
    groups = [("a", 0, 5), ("a", 1, 5), ("b", 0, 1), ("c", 0, 30), ("d", 0, 2), ("d", 1, 2)]
    cuts = plan_cuts(groups, 10)
    assert [(cut.number, cut.sources, cut.rows) for cut in cuts] == [
        (0, (("a", (0, 1)),), 10),
        (1, (("b", (0,)), ("c", (0,))), 31),
        (2, (("d", (0, 1)),), 4),
    ]
    assert plan_cuts([], 10) == []


@pytest.mark.parametrize(
    ("rows", "shards", "parts"), [(0, 4, 1), (40, 4, 1), (41, 4, 2), (80, 4, 2), (81, 4, 3), (10**9, 1, 10**8)]
)
def test_a_shard_has_as_many_segments_as_its_rows_need(rows, shards, parts):
    assert parts_of(rows, shards, segment_rows=10) == parts


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 5), st.integers(1, 4), st.integers(1, 7), st.integers(0, 60), st.integers(0, 99))
def test_segments_hold_every_row_once_in_its_shard_however_it_was_cut(tmp_path_factory, shards, parts, files, n, seed):
    folder = tmp_path_factory.mktemp("build")
    table = code_table([f"pair-{number}" for number in np.random.default_rng(seed).permutation(n)])
    sources = []
    for number in range(files):
        mine = table.slice(n * number // files, n * (number + 1) // files - n * number // files)
        tables.write_table(f"{folder}/{number}.parquet", mine)
        sources += [(f"{folder}/{number}.parquet", 0, len(mine))]
    build = Build(f"{folder}/index", "0a", 1, shards, parts, None)
    cuts = plan_cuts(sources, 10)
    for cut in cuts:
        assert write_cut(build, cut) == cut.rows
    written = [write_assembled(build, number, cuts) for number in range(build.segments)] if cuts else []
    assert [read_done(build, number) for number in range(len(written))] == written
    rows = []
    for facts in filter(None, written):
        opened = open_segment(build.out, facts)
        ids = opened.table["id"].to_pylist()
        assert ids == sorted(ids)
        assert set(shard_of(ids, shards)) == {facts.shard}
        rows += zip(ids, map(bytes, opened.codes["image"]), map(bytes, opened.codes["text"]), strict=True)
    expected = zip(*(table[name].to_pylist() for name in ("id", "image_code", "text_code")), strict=True)
    assert sorted(rows) == sorted(expected)
    assert done_before(build) >= {cut.name for cut in cuts}


def test_a_row_without_an_id_is_refused(tmp_path):
    table = code_table(["a", "b"]).set_column(0, "id", pa.array(["a", None], pa.string()))
    tables.write_table(f"{tmp_path}/a.parquet", table)
    build = Build(f"{tmp_path}/index", "0a", 1, 1, 1, None)
    with pytest.raises(BadInput, match="1 rows without an id"):
        write_cut(build, *plan_cuts([(f"{tmp_path}/a.parquet", 0, 2)], 10))
    with pytest.raises(BadInput, match="1 rows without an id"):
        assemble([table])


def test_a_run_is_named_by_everything_that_decides_its_result():
    assert run_of({"a": 1, "b": [2]}) == run_of({"b": [2], "a": 1})
    assert run_of({"a": 1}) != run_of({"a": 2})
    assert len(run_of({})) == 8


def test_ids_of_any_text_type_become_plain_strings():
    table = code_table(["b", "a"])
    large = table.set_column(0, "id", table["id"].cast(pa.large_string()))
    assert [part.schema.field("id").type for part in partition(large, 2)] == [pa.string()] * 2
