"""Batches that fit: halved when memory runs out, whichever way that is said; the same features for every size."""

import itertools

import numpy as np
import pytest
import torch

from xhash_ray.errors import XhashError
from xhash_ray.features.embedding import Embedder, mean_per_owner

PIXELS = np.random.default_rng(0).integers(0, 256, (37, 3, 4, 4), np.uint8)
TOKENS = np.random.default_rng(1).integers(0, 99, (50, 6), np.int32)
SHORTAGES = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    torch.cuda.OutOfMemoryError("CUDA out of memory."),
    RuntimeError("[enforce fail at alloc_cpu.cpp:114] . DefaultCPUAllocator: can't allocate memory: you tried to"),
    RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 123 bytes."),
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    MemoryError(),
]


class Fake:
    """An encoder whose features are the first numbers of a row, and whose memory holds some rows only."""

    def __init__(self, holds: int = 10**9, error: BaseException | None = None, fixed_shapes: bool = False) -> None:
        self.holds, self.error, self.fixed_shapes = holds, error, fixed_shapes
        self.sizes: list[int] = []

    def image_features(self, rows: np.ndarray) -> np.ndarray:
        self.sizes.append(len(rows))
        if len(rows) > self.holds and self.error:
            raise self.error
        flat = rows.reshape(len(rows), -1)[:, :5].astype(np.float32) + 1
        return flat / np.linalg.norm(flat, axis=1, keepdims=True)

    text_features = image_features


IMAGE, TEXT = Fake().image_features(PIXELS), Fake().text_features(TOKENS)


@pytest.mark.parametrize("error", SHORTAGES)
def test_a_batch_that_does_not_fit_is_halved(error):
    encoder = Fake(5, error)
    embedder = Embedder(encoder, 32)
    image, text = embedder.embed(PIXELS, TOKENS, [1] * 50, mean=False)
    assert np.array_equal(image, IMAGE)
    assert np.array_equal(text, TEXT)
    assert embedder.batch_size == 4
    assert encoder.sizes == [32, 16, 8, *[4] * 9, 1, *[4] * 12, 2]


def test_the_smaller_size_stays():
    embedder = Embedder(Fake(5, MemoryError()), 32)
    embedder.embed(PIXELS, None, [])
    embedder.encoder.sizes.clear()
    embedder.embed(PIXELS[:8], None, [])
    assert embedder.encoder.sizes == [4, 4]


@pytest.mark.parametrize("fixed", [False, True])
def test_not_even_one_fits(fixed):
    encoder = Fake(0, MemoryError(), fixed)
    with pytest.raises(XhashError, match=r"one row at a time: out of memory\. Use a smaller model"):
        Embedder(encoder, 4).embed(PIXELS, None, [])
    assert encoder.sizes == [4, 2, 1]


@pytest.mark.parametrize("error", [RuntimeError("mat1 and mat2 shapes cannot be multiplied"), ValueError("no memory")])
def test_other_errors_are_not_swallowed(error):
    with pytest.raises(type(error), match=str(error)):
        Embedder(Fake(5, error), 32).embed(PIXELS, None, [])


def test_a_last_batch_is_tried_by_its_own_size():
    encoder = Fake(2, MemoryError())
    Embedder(encoder, 32).embed(PIXELS[:3], None, [])
    assert encoder.sizes == [3, 1, 1, 1]


def test_fixed_shapes_are_kept_and_results_cut():
    encoder = Fake(fixed_shapes=True)
    image, text = Embedder(encoder, 16).embed(PIXELS, TOKENS, [1] * 50, mean=False)
    assert set(encoder.sizes) == {16}
    assert np.array_equal(image, IMAGE)
    assert np.array_equal(text, TEXT)


def test_fixed_shapes_are_halved_from_their_full_size():
    encoder = Fake(8, MemoryError(), fixed_shapes=True)
    image, _ = Embedder(encoder, 32).embed(PIXELS[:3], None, [])
    assert encoder.sizes == [32, 16, 8]
    assert np.array_equal(image, IMAGE[:3])


@pytest.mark.parametrize("batch_size", [1, 7, 37, 64])
def test_every_batch_size_gives_the_same(batch_size):
    counts = [1, 3, 2] * 8 + [2]
    image, text = Embedder(Fake(), batch_size).embed(PIXELS[:25], TOKENS, counts)
    starts = np.cumsum([0, *counts])
    means = [TEXT[a:b].mean(axis=0) for a, b in itertools.pairwise(starts)]
    assert np.array_equal(image, IMAGE[:25])
    np.testing.assert_allclose(text, [mean / np.linalg.norm(mean) for mean in means], rtol=1e-6)


def test_one_modality_alone():
    assert Embedder(Fake(), 8).embed(None, TOKENS, [50])[0] is None
    assert Embedder(Fake(), 8).embed(PIXELS, None, [])[1] is None


def test_no_rows_at_all():
    image, text = Embedder(Fake(), 8).embed(PIXELS[:0], TOKENS[:0], [])
    assert len(image) == len(text) == 0


@pytest.mark.parametrize("counts", [[2, 0, 1], [2, 2], [1, 1]])
def test_means_of_nothing_are_refused(counts):
    with pytest.raises(ValueError, match="3 features of"):
        mean_per_owner(np.ones((3, 4), np.float32), counts)
