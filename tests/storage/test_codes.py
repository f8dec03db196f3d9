"""Codes at rest: bytes go in and come out, however a table was cut; a missing code is refused."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xhash_ray.core.bits import pack
from xhash_ray.errors import BadInput, Mismatch
from xhash_ray.storage import tables, writing
from xhash_ray.storage.codes import from_array, open_codes, to_array


def random_codes(n: int, width: int, seed: int = 0) -> np.ndarray:
    """Every bit a coin toss."""
    return np.random.default_rng(seed).integers(0, 256, (n, width), dtype=np.uint8)


def code_table(n: int = 4, width: int = 8, **columns: object) -> pa.Table:
    """A table of the format."""
    content = {
        "id": pa.array([f"pair-{row}" for row in range(n)], pa.string()),
        "image_code": from_array(random_codes(n, width, 1)),
        "text_code": from_array(random_codes(n, width, 2)),
    }
    return pa.table({name: column for name, column in (content | columns).items() if column is not None})


def stored(folder, table: pa.Table) -> str:
    """The table as one file."""
    tables.write_table(f"{folder}/codes.parquet", table)
    return f"{folder}/codes.parquet"


def test_golden_bytes():
    signs = np.array([[1, -1, -1, -1, -1, -1, -1, -1, 1, 1, -1, -1, -1, -1, -1, 1]], dtype=np.float32)
    column = from_array(pack(signs))
    assert column.type == pa.binary(2)
    assert column.to_pylist() == [b"\x01\x83"]


@settings(deadline=None, max_examples=50)
@given(n=st.integers(0, 20), width=st.integers(1, 16), seed=st.integers(0, 99), data=st.data())
def test_codes_survive_the_format_however_they_are_cut(n, width, seed, data):
    codes = random_codes(n, width, seed)
    cuts = sorted(data.draw(st.lists(st.integers(0, n), max_size=3)))
    column = from_array(codes)
    slices = [column[start:stop] for start, stop in zip([0, *cuts], [*cuts, n], strict=True)]
    np.testing.assert_array_equal(to_array(pa.chunked_array(slices)), codes)
    for start, part in zip([0, *cuts], slices, strict=True):
        np.testing.assert_array_equal(to_array(part), codes[start : start + len(part)])


def test_codes_survive_a_file(tmp_path):
    found = open_codes(stored(tmp_path, code_table(50, 16)))
    table = tables.read_table(found.tables)
    np.testing.assert_array_equal(to_array(table["image_code"]), random_codes(50, 16, 1))
    np.testing.assert_array_equal(to_array(table["text_code"][10:20]), random_codes(50, 16, 2)[10:20])


def test_views_that_are_not_contiguous_are_stored_by_value():
    codes = random_codes(10, 16)
    np.testing.assert_array_equal(to_array(from_array(codes[::2, 4:12])), codes[::2, 4:12])


@pytest.mark.parametrize("column", [pa.chunked_array([], pa.binary(8)), pa.array([], pa.binary(8))])
def test_no_codes_keep_their_width(column):
    codes = to_array(column)
    assert (codes.shape, codes.dtype) == ((0, 8), np.uint8)


@pytest.mark.parametrize("chunked", [False, True])
def test_a_missing_code_is_refused(chunked):
    column = pa.array([b"12345678", None], pa.binary(8))
    with pytest.raises(BadInput, match="a code is missing"):
        to_array(pa.chunked_array([column]) if chunked else column)


def test_a_missing_code_outside_the_slice_does_not_matter():
    column = pa.array([b"12345678", None, b"abcdefgh"], pa.binary(8))
    assert to_array(column.slice(2)).tobytes() == b"abcdefgh"


def test_what_is_known_before_reading(tmp_path):
    labels = pa.array([[0]] * 4, pa.list_(pa.int32()))
    table = code_table(4, 8, labels=labels, caption=["a"] * 4, split=["b"] * 4)
    facts = {"model_fingerprint": "f" * 64, "classes": ["cat", "dog"]}
    writing.commit(str(tmp_path), [tables.write_table(f"{tmp_path}/part.parquet", table)], facts)
    found = open_codes(str(tmp_path))
    assert (found.bits, found.fingerprint, found.classes) == (64, "f" * 64, ("cat", "dog"))
    assert found.metadata_columns == ("caption", "split")


def test_without_manifest_the_model_is_unknown(tmp_path):
    found = open_codes(stored(tmp_path, code_table()))
    assert (found.fingerprint, found.classes, found.metadata_columns) == (None, (), ())


def test_codes_of_two_lengths_are_refused(tmp_path):
    table = code_table(4, 8, text_code=from_array(random_codes(4, 16)))
    with pytest.raises(Mismatch, match="64 and 128 bits"):
        open_codes(stored(tmp_path, table))


@pytest.mark.parametrize("column", ["id", "image_code", "text_code"])
def test_a_missing_column_is_named(tmp_path, column):
    with pytest.raises(BadInput, match=f"column '{column}' is missing"):
        open_codes(stored(tmp_path, code_table(**{column: None})))


@pytest.mark.parametrize("values", [pa.array([b"12345678"] * 4), pa.array(["12345678"] * 4), pa.array([1, 2, 3, 4])])
def test_a_code_column_of_another_type_is_refused_with_its_type(tmp_path, values):
    with pytest.raises(BadInput, match=f"column 'image_code' is {values.type}"):
        open_codes(stored(tmp_path, code_table(4, image_code=values)))
