"""Building an index: a shard's rows depend on the pairs alone, not on how they were delivered."""

import json

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xhash_ray.core.shards import shard_of
from xhash_ray.errors import BadInput, Mismatch
from xhash_ray.index.build import assemble, partition
from xhash_ray.index.manifest import MANIFEST, read_manifest, shard_name, write_manifest
from xhash_ray.storage.codes import from_array
from xhash_ray.storage.tables import FileFacts

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


def facts(name: str, rows: int) -> FileFacts:
    """A file that is only told of."""
    return FileFacts(name, rows, 100, "0" * 64)


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


def test_a_manifest_comes_back(tmp_path):
    shards = [facts(shard_name(number, 2, "0a"), rows) for number, rows in enumerate((5, 7))]
    made = write_manifest(
        str(tmp_path), shards, {"bits": 64, "method": "jdsh", "model_fingerprint": "f" * 64, "model": "model-0a"}
    )
    read = read_manifest(str(tmp_path))
    assert read == made
    assert (read.bits, read.rows, read.facts["bit_order"]) == (64, 12, "little")
    assert read.model_uri == f"{tmp_path}/model-0a"
    assert read.shard_uris == [
        f"{tmp_path}/shard-00000-of-00002-0a.parquet",
        f"{tmp_path}/shard-00001-of-00002-0a.parquet",
    ]
    assert [entry["sha256"] for entry in read.facts["shards"]] == ["0" * 64] * 2


@pytest.mark.parametrize("version", [0, 2, None])
def test_a_manifest_of_another_version_is_refused(tmp_path, version):
    write_manifest(str(tmp_path), [facts("a", 1)], {"bits": 64})
    path = tmp_path / MANIFEST
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format_version": version}))
    with pytest.raises(Mismatch, match=f"format version {version}"):
        read_manifest(str(tmp_path))


def test_a_folder_without_manifest_is_no_index(tmp_path):
    with pytest.raises(BadInput, match=f"no {MANIFEST}"):
        read_manifest(str(tmp_path))


def test_shard_names_sort_in_order():
    names = [shard_name(number, 12, "0a") for number in range(12)]
    assert names == sorted(names)


def test_a_replaced_index_is_whole_until_the_new_one_is_committed(tmp_path):
    base = {"bits": 64, "method": "jdsh", "model_fingerprint": "f" * 64}
    for run in ("0a", "0b"):
        names = [shard_name(number, 2, run) for number in range(2)]
        for name in [*names, f"model-{run}/model.json"]:
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).write_text("{}")
        if run == "0b":
            assert {path.name for path in tmp_path.glob("shard-*-0a.parquet")} == set(before)
        write_manifest(str(tmp_path), [facts(name, 5) for name in names], {**base, "model": f"model-{run}"})
        before = names
    assert sorted(path.name for path in tmp_path.iterdir()) == ["manifest.json", "model-0b", *before]
