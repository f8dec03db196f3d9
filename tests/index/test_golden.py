"""The format, byte by byte: an index that was written once and lies beside this file is read for ever.

Five pairs of 16 bits in two shards; its second generation deletes one. See xhash_ray/index/README.md.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pyarrow.feather

from xhash_ray.core.shards import id_hash
from xhash_ray.index import generations
from xhash_ray.index.shard import load_shard, merge_hits

GOLDEN = Path(__file__).parent / "golden"
IMAGE = {"a": "0183", "b": "0000", "f": "ffff", "g": "0ff0", "é": "8001"}


def test_any_arrow_reader_reads_the_rows():
    """Without this project: plain JSON, plain Arrow."""
    facts = json.loads((GOLDEN / "generations" / "00000001.json").read_text())
    assert (facts["format_version"], facts["bit_order"], facts["bits"], facts["shards"]) == (2, "little", 16, 2)
    found = {}
    for entry in facts["segments"]:
        content = (GOLDEN / entry["name"]).read_bytes()
        assert hashlib.sha256(content).hexdigest() == entry["sha256"]
        table = pyarrow.feather.read_table(GOLDEN / entry["name"])
        ids = table["id"].to_pylist()
        assert ids == sorted(ids, key=str.encode)
        for name, image, text in zip(ids, table["image_code"].to_pylist(), table["text_code"].to_pylist(), strict=True):
            assert (int(id_hash([name])[0]) >> 32) * 2 >> 32 == entry["shard"]
            assert bytes(255 - byte for byte in image) == text
            found[name] = image.hex()
    assert found == IMAGE


def test_one_bits_are_counted_from_the_least_significant_of_the_first_byte():
    segments = generations.read(str(GOLDEN), 1).segments
    ones = np.sum([facts.ones["image"] for facts in segments], axis=0)
    words = [int.from_bytes(bytes.fromhex(code), "little") for code in IMAGE.values()]
    assert ones.tolist() == [sum(word >> bit & 1 for word in words) for bit in range(16)]


def test_the_second_generation_lacks_the_deleted_pair():
    for number, expected in ((1, ["a", "b", "é"]), (2, ["a", "g", "é"])):
        made = generations.read(str(GOLDEN), number)
        shards = [load_shard(made, shard) for shard in range(made.shards)]
        query = np.array([[0x00, 0x01]], np.uint8)
        hits = merge_hits([shard.search(query, "image", 3)[0] for shard in shards], 3)
        assert sorted(hit.id for hit in hits) == expected
    assert generations.current(str(GOLDEN)).rows == 4
