"""A corpus with 1% of every kind of bad item gives exactly the expected rejects, and every good pair."""

from __future__ import annotations

import io
import random

import pyarrow as pa
import pytest
from PIL import Image

from tests.runtime.test_extraction import corpus_rows, extract_options, rejects_of, write_corpus
from xhash_ray.runtime.extraction import extract
from xhash_ray.storage import tables
from xhash_ray.storage.features import load_features

pytestmark = pytest.mark.faults
PAIRS, SHARE = 1000, 0.01


def large_png() -> bytes:
    """A picture of 81 million pixels in a few kB."""
    written = io.BytesIO()
    Image.new("1", (9000, 9000)).save(written, "PNG")
    return written.getvalue()


def corrupt_png(content: bytes) -> bytes:
    """The picture as PNG, a byte of its compressed pixels changed."""
    written = io.BytesIO()
    Image.open(io.BytesIO(content)).convert("RGB").save(written, "PNG")
    spoilt = bytearray(written.getvalue())
    start = spoilt.index(b"IDAT") + 4
    for place in range(start + 10, start + 60):
        spoilt[place] ^= 0xFF
    return bytes(spoilt)


def bad(row: dict, kind: str) -> dict:
    """A row spoilt in one way."""
    changes = {
        "missing id": {"id": None},
        "missing text": {"text": " \n"},
        "missing image": {"image": b""},
        "wrong type": {"image": b"<html>404 Not Found</html>"},
        "undecodable": {"image": corrupt_png(row["image"])},
        "truncated": {"image": row["image"][: len(row["image"]) * 2 // 3]},
        "oversized": {"image": large_png()},
    }
    return {**row, **changes[kind]}


KINDS = ("missing id", "missing text", "missing image", "wrong type", "undecodable", "truncated", "oversized")


@pytest.fixture(scope="module")
def spoilt(run) -> tuple[list[dict], dict[int, str]]:
    """Rows, and the kind of each that is bad."""
    known = corpus_rows(run)
    rows = [{"id": f"p{i:04d}", **{k: known[i % len(known)][k] for k in ("image", "text")}} for i in range(PAIRS)]
    chosen = random.Random(5).sample(range(PAIRS), int(SHARE * PAIRS) * len(KINDS))
    kinds = {row: KINDS[place % len(KINDS)] for place, row in enumerate(chosen)}
    return [bad(row, kinds[i]) if i in kinds else row for i, row in enumerate(rows)], kinds


def test_exactly_the_bad_items_are_put_aside(run, spoilt, tmp_path):
    rows, kinds = spoilt
    corpus = write_corpus(tmp_path / "corpus", rows)
    result = extract(extract_options(run, corpus, tmp_path / "out", max_rejects=0.1, rows_per_unit=128))
    found = {row["row"]: row for row in rejects_of(tmp_path / "out")}
    assert {row: reject["kind"] for row, reject in found.items()} == kinds
    assert all(reject["id"] == (rows[row]["id"] or "") for row, reject in found.items())
    assert all(reject["source"].endswith("part-0.parquet") and reject["reason"] for reject in found.values())
    assert load_features(str(tmp_path / "out")).ids == [row["id"] for i, row in enumerate(rows) if i not in kinds]
    counts = {name.split(": ")[1]: count for name, count in result["rejected_by"].items()}
    assert counts == dict.fromkeys(KINDS, int(SHARE * PAIRS))


def test_neighbours_of_bad_items_get_the_features_they_get_without_them(run, spoilt, tmp_path):
    rows, kinds = spoilt
    good = [row for i, row in enumerate(rows) if i not in kinds]
    corpus = write_corpus(tmp_path / "corpus", good)
    extract(extract_options(run, corpus, tmp_path / "good", rows_per_unit=128))
    extract(
        extract_options(run, write_corpus(tmp_path / "c2", rows), tmp_path / "out", max_rejects=0.1, rows_per_unit=128)
    )
    alone, among = (load_features(str(tmp_path / name)) for name in ("good", "out"))
    assert alone.ids == among.ids
    assert abs(alone.image - among.image).max() < 1e-6
    assert abs(alone.text - among.text).max() < 1e-6


def test_rejects_are_a_data_set_that_any_reader_of_parquet_opens(run, spoilt, tmp_path):
    rows = [spoilt[0][0], bad(spoilt[0][1], "truncated")]
    extract(extract_options(run, write_corpus(tmp_path / "corpus", rows), tmp_path / "out", max_rejects=0.6))
    found = tables.open_tables(str(tmp_path / "out" / "_rejects"), "rejects")
    assert found.schema.names == ["id", "source", "row", "stage", "kind", "reason"]
    assert found.schema.field("row").type == pa.int64()
