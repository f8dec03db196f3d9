"""Arrays to features in batches that fit: a batch that does not is halved, and stays so."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
import torch

from xhash_ray.errors import XhashError

# What PyTorch's CPU allocator, cuBLAS and cuDNN say in a plain RuntimeError when they get no memory.
NO_MEMORY = ("can't allocate memory", "not enough memory", "out of memory", "alloc_failed")


class Encoder(Protocol):
    """What gives features: `clip.ClipEncoder`, for one."""

    def image_features(self, pixels: np.ndarray) -> np.ndarray:
        """uint8 [n, 3, height, width] -> float32 [n, d], rows of length 1."""

    def text_features(self, tokens: np.ndarray) -> np.ndarray:
        """int32 [n, context length] -> float32 [n, d], rows of length 1."""


class Embedder:
    """Embeds in batches, and remembers the size that worked.

    Args:
        encoder: Where `fixed_shapes` is true of it, a last, smaller batch is filled up with copies of its first
            row and the result cut, as a compiled model would compile itself anew for another shape.
        batch_size: To begin with.

    Attributes:
        batch_size: The largest that fitted so far.
    """

    def __init__(self, encoder: Encoder, batch_size: int) -> None:
        self.encoder, self.batch_size = encoder, batch_size
        self.fixed_shapes = bool(getattr(encoder, "fixed_shapes", False))

    def embed(
        self, pixels: np.ndarray | None, tokens: np.ndarray | None, counts: Sequence[int], mean: bool = True
    ) -> tuple[np.ndarray | None, np.ndarray | None]:
        """Features of prepared pairs; None for what is not given.

        Args:
            pixels: uint8 [n, 3, height, width].
            tokens: int32 [captions, context length], captions of a pair in a row.
            counts: Captions of each pair.
            mean: Gives one feature a pair, the normalised mean of its captions' features; else one a caption.

        Returns:
            float32 [n, d] of images, float32 [n, d] or [captions, d] of texts; rows of length 1.

        Raises:
            XhashError: when not even one fits into memory.
        """
        image = None if pixels is None else self.features(self.encoder.image_features, pixels)
        text = None if tokens is None else self.features(self.encoder.text_features, tokens)
        return image, mean_per_owner(text, counts) if mean and text is not None else text

    def features(self, function: Callable[[np.ndarray], np.ndarray], rows: np.ndarray) -> np.ndarray:
        """One function's features of all rows, batch after batch: float32 [n, d]; [0, 0] of no rows."""
        made, start = [], 0
        while start < len(rows):
            batch = rows[start : start + self.batch_size]
            tried = self.filled(batch)
            try:
                made.append(function(tried)[: len(batch)])
                start += len(batch)
                continue
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
            self.shrink(len(tried))  # not above, where the error still holds what filled the memory
        return np.concatenate(made) if made else np.empty((0, 0), np.float32)

    def filled(self, batch: np.ndarray) -> np.ndarray:
        """A batch of full size, where shapes have to stay the same."""
        if not self.fixed_shapes or len(batch) == self.batch_size:
            return batch
        return np.concatenate([batch, np.repeat(batch[:1], self.batch_size - len(batch), axis=0)])

    def shrink(self, failed: int) -> None:
        """Halves the batch that did not fit.

        Raises:
            XhashError: when it was a single row.
        """
        if failed <= 1:
            do = "Use a smaller model, precision bf16, or a machine with more memory; close what else uses it"
            raise XhashError("embedding one row at a time", "out of memory", do)
        self.batch_size = failed // 2
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def is_out_of_memory(error: Exception) -> bool:
    """Whether an error says that memory was short, on a GPU or off it."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return any(phrase in str(error).lower() for phrase in NO_MEMORY)


def mean_per_owner(features: np.ndarray, counts: Sequence[int]) -> np.ndarray:
    """Averages several captions' features per pair and normalises: [sum(counts), d] -> [len(counts), d].

    Raises:
        ValueError: for an owner of nothing, or other counts than features.
    """
    if sum(counts) != len(features) or any(count < 1 for count in counts):
        raise ValueError(f"{len(features)} features of {len(counts)} pairs, {sum(counts)} captions in all")
    if not len(features):
        return features
    starts = np.cumsum([0, *counts[:-1]])
    sums = np.add.reduceat(features, starts, axis=0)
    lengths = np.linalg.norm(sums, axis=1, keepdims=True)
    return np.asarray(sums / np.maximum(lengths, 1e-12), dtype=np.float32)
