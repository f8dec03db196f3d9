"""What is wrong with an index is named; what is right is exported."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from pyarrow import feather

from tests.index.samples import SHARDS
from xhash_ray.errors import BadInput, Mismatch, XhashError
from xhash_ray.index import generations, life
from xhash_ray.index.export import export
from xhash_ray.index.segments import write_segment
from xhash_ray.index.verify import verify
from xhash_ray.options import (
    IndexDelete,
    IndexExport,
    IndexVerify,
)
from xhash_ray.storage import tables
from xhash_ray.storage.codes import to_array


def test_ids_out_of_order_are_named(index):
    made = generations.current(index)
    facts = made.segments[0]
    table = feather.read_table(f"{index}/{facts.name}")
    mixed = table.take([1, 0, *range(2, len(table))])
    written = write_segment(index, facts.name, facts.shard, 1, mixed)
    path = Path(index) / generations.name_of(1)
    changed = json.loads(path.read_text())
    changed["segments"][0] = vars(written)
    path.write_text(json.dumps(changed))
    with pytest.raises(XhashError, match="in row 1 is out of order"):
        verify(IndexVerify(index=index))


def test_every_damage_is_named(index):
    made = generations.current(index)
    first, second, third = (Path(index) / facts.name for facts in made.segments)
    first.write_bytes(first.read_bytes()[:-7])
    second.unlink()
    content = bytearray(third.read_bytes())
    content[len(content) // 2] ^= 4
    third.write_bytes(content)
    (weights,) = (Path(index) / made.facts["model"]).glob("*.safetensors")
    weights.write_bytes(b"x")
    with pytest.raises(XhashError) as error:
        verify(IndexVerify(index=index))
    for name in (first, second, third, weights):
        assert name.name in error.value.found
    assert "is missing" in error.value.found


def test_counts_and_statistics_are_counted_again(index):
    path = Path(index) / generations.name_of(1)
    facts = json.loads(path.read_text())
    for change, found in [
        (lambda f: f.update(rows=41), "40 live rows in the segments, 41 in the generation"),
        (lambda f: f["segments"][0]["ones"]["image"].__setitem__(0, 0), "image codes' bits are not distributed"),
        (lambda f: f["segments"][0].update(shard=2), "belongs to shard 0"),
        (lambda f: f["segments"][1].update(rows=5), "instead of 5"),
        (lambda f: f.update(bits=24), "image codes of 16 bits instead of 24"),
    ]:
        changed = json.loads(json.dumps(facts))
        change(changed)
        path.write_text(json.dumps(changed))
        with pytest.raises(XhashError, match=found):
            verify(IndexVerify(index=index))


@pytest.mark.parametrize("version", [1, 3, None])
def test_another_format_is_refused(index, version):
    path = Path(index) / generations.name_of(1)
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format_version": version}))
    with pytest.raises(Mismatch, match=f"format version {version} in generations/00000001.json"):
        verify(IndexVerify(index=index))


def test_a_folder_without_generations_is_no_index(tmp_path):
    with pytest.raises(BadInput, match="no generation"):
        generations.current(str(tmp_path))
    (tmp_path / "manifest.json").write_text("{}")
    with pytest.raises(Mismatch, match="format version 1"):
        generations.current(str(tmp_path))


def test_what_is_exported_is_what_is_there(tmp_path, index):
    life.delete(IndexDelete(index=index, ids=("pair-1",)))
    found = export(IndexExport(index=index, out=str(tmp_path / "parquet"), format="parquet"))
    rows = tables.read_table(tables.open_tables(found["out"], "codes"))
    assert (found["rows"], len(rows), len(found["files"])) == (39, 39, SHARDS)
    faiss = pytest.importorskip("faiss", reason="faiss is in the bench extra")
    found = export(IndexExport(index=index, out=str(tmp_path / "faiss")))
    loaded = faiss.read_index_binary(f"{found['out']}/text.faiss")
    names = Path(found["out"], "ids.txt").read_text().split("\n")[:-1]
    stored = dict(zip(rows["id"].to_pylist(), to_array(rows["text_code"]).tolist(), strict=True))
    assert len(names) == loaded.ntotal == 39
    assert faiss.vector_to_array(loaded.xb).reshape(39, 2).tolist() == [stored[name] for name in names]
    with pytest.raises(BadInput, match="something is there"):
        export(IndexExport(index=index, out=str(tmp_path / "faiss")))
