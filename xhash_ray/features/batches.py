"""Preparing and embedding many pairs at once: the work of extraction, without a cluster."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from xhash_ray.features.clip import ClipEncoder, Preprocessor, mean_per_owner


@dataclass(frozen=True)
class Prepared:
    """Pairs ready for the model.

    Attributes:
        kept: Positions of the pairs that could be prepared, ascending.
        pixels: uint8 [kept, 3, height, width].
        tokens: int32 [captions, context length], captions of a pair in a row.
        captions: How many captions each kept pair has.
        errors: Why the others could not, by position.
    """

    kept: list[int]
    pixels: np.ndarray
    tokens: np.ndarray
    captions: list[int]
    errors: dict[int, str]


def prepare(images: Sequence[bytes], texts: Sequence[Sequence[str]], preprocessor: Preprocessor) -> Prepared:
    """Decodes, resizes and tokenises; one bad image costs only itself."""
    decoded: dict[int, np.ndarray] = {}
    errors: dict[int, str] = {}
    for position, content in enumerate(images):
        try:
            decoded[position] = preprocessor.image(content)
        except ValueError as error:
            errors[position] = str(error)
    kept = sorted(decoded)
    if not kept:
        return Prepared([], np.empty((0, 3, 0, 0), np.uint8), np.empty((0, 0), np.int32), [], errors)
    captions = [text for position in kept for text in texts[position]]
    pixels = np.stack([decoded[position] for position in kept])
    return Prepared(kept, pixels, preprocessor.tokens(captions), [len(texts[p]) for p in kept], errors)


def embed(
    pixels: np.ndarray, tokens: np.ndarray, captions: Sequence[int], encoder: ClipEncoder, batch_size: int
) -> tuple[np.ndarray, np.ndarray]:
    """Features of prepared pairs, in batches: float32 [n, d] of images and of texts, rows of length 1.

    Several captions of a pair give the normalised mean of their features.
    """
    image = [encoder.image_features(pixels[i : i + batch_size]) for i in range(0, len(pixels), batch_size)]
    text = [encoder.text_features(tokens[i : i + batch_size]) for i in range(0, len(tokens), batch_size)]
    return np.concatenate(image), mean_per_owner(np.concatenate(text), captions)
