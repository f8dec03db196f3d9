"""On tensors the answers are those of the definition; on a GPU too, where there is one."""

import inspect

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.core.test_hamming import KINDS, random_codes
from xhash_ray.core import tensors
from xhash_ray.core.hamming import search_reference
from xhash_ray.errors import BadInput, Mismatch

DEVICES = [
    "cpu",
    pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")),
]


def assert_same_answer(codes: np.ndarray, queries: np.ndarray, k: int, device: str) -> None:
    """Entry by entry."""
    hits = tensors.search(torch.from_numpy(codes).to(device), torch.from_numpy(queries).to(device), k)
    slow = search_reference(codes, queries, k)
    np.testing.assert_array_equal(hits.distances.cpu().numpy(), slow.distances)
    np.testing.assert_array_equal(hits.rows.cpu().numpy(), slow.rows)


@pytest.mark.parametrize("device", DEVICES)
@settings(deadline=None, max_examples=50)
@given(
    kind=st.sampled_from(KINDS),
    seed=st.integers(0, 2**32 - 1),
    n=st.integers(0, 200),
    queries=st.integers(0, 4),
    width=st.sampled_from([1, 3, 8, 16, 32, 128]),
    k=st.integers(1, 210),
    piece=st.sampled_from([64, 4096, 2**20]),
)
def test_tensors_give_what_the_definition_gives(device, kind, seed, n, queries, width, k, piece):
    rng = np.random.default_rng(seed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tensors, "PIECE_NUMBERS", piece)
        assert_same_answer(kind(rng, n, width), random_codes(rng, queries, width), k, device)


def test_what_are_no_codes_is_refused():
    search, codes = inspect.unwrap(tensors.search), torch.zeros(2, 8, dtype=torch.uint8)
    with pytest.raises(BadInput, match=r"codes: torch.int64 \[2, 8\]"):
        search(codes.long(), codes, 1)
    with pytest.raises(Mismatch, match="64 bits, queries of 32 bits"):
        search(codes, codes[:, :4], 1)
    with pytest.raises(BadInput, match="k = 0"):
        search(codes, codes, 0)
