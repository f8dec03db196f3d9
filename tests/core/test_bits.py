"""Packing signs into bytes: the layout is fixed, the inverse is exact, what is no number is refused."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from xhash_ray.core.bits import MAX_BITS, check_bits, pack, unpack
from xhash_ray.errors import BadInput

SIGNS = "+-------++-----+"
GOLDEN = [0x01, 0x83]


def outputs_of(signs: str) -> np.ndarray:
    """One row of hash outputs with the signs of a text of + and -."""
    return np.array([[1.0 if sign == "+" else -1.0 for sign in signs]], dtype=np.float32)


code_arrays = st.tuples(st.integers(0, 6), st.integers(1, 16)).flatmap(lambda shape: npst.arrays(np.uint8, shape))


def test_golden_bytes():
    assert pack(outputs_of(SIGNS)).tolist() == [GOLDEN]


def test_golden_bytes_unpack_to_the_signs():
    bits = unpack(np.array([GOLDEN], dtype=np.uint8))
    assert bits.dtype == bool
    assert "".join("+" if bit else "-" for bit in bits[0]) == SIGNS


@pytest.mark.parametrize("bit", range(16))
def test_bit_j_lies_in_byte_j_div_8_at_position_j_mod_8(bit):
    outputs = -np.ones((1, 16), dtype=np.float64)
    outputs[0, bit] = 1
    expected = [0, 0]
    expected[bit // 8] = 1 << (bit % 8)
    assert pack(outputs).tolist() == [expected]


@settings(deadline=None, max_examples=50)
@given(code_arrays)
def test_packing_the_unpacked_gives_the_code(codes):
    signs = np.where(unpack(codes), 1.0, -1.0)
    np.testing.assert_array_equal(pack(signs), codes)


@settings(deadline=None, max_examples=50)
@given(
    npst.arrays(
        np.float64,
        st.tuples(st.integers(0, 5), st.sampled_from([8, 16, 24, 64])),
        elements=st.floats(-1e6, 1e6),
    )
)
def test_unpacking_the_packed_gives_the_signs(outputs):
    packed = pack(outputs)
    assert packed.dtype == np.uint8
    assert packed.shape == (len(outputs), outputs.shape[1] // 8)
    np.testing.assert_array_equal(unpack(packed), outputs >= 0)


@pytest.mark.parametrize("zero", [0.0, -0.0])
def test_the_sign_of_zero_is_one(zero):
    assert pack(np.full((1, 8), zero)).tolist() == [[255]]


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64])
def test_every_float_type_packs_alike(kind):
    assert pack(outputs_of(SIGNS).astype(kind)).tolist() == [GOLDEN]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_no_number_is_named_by_its_row(value):
    outputs = np.ones((5, 8))
    outputs[3, 2] = outputs[4, 0] = value
    with pytest.raises(BadInput, match="row 3"):
        pack(outputs)


@pytest.mark.parametrize("bits", [8, 16, 24, 64, 128, MAX_BITS])
def test_good_code_lengths_are_returned(bits):
    assert check_bits(bits) == bits


@pytest.mark.parametrize("bits", [-8, 0, 1, 7, 12, 65, MAX_BITS + 8])
def test_bad_code_lengths_are_refused_with_the_number(bits):
    with pytest.raises(BadInput, match=f"{bits} bits"):
        check_bits(bits)


@pytest.mark.parametrize("bits", [0, 7, 20])
def test_outputs_of_a_bad_length_are_not_packed(bits):
    with pytest.raises(BadInput, match="code length"):
        pack(np.ones((2, bits)))
