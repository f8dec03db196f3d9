"""Preparing many pairs at once. Imports little: processes that prepare start in half a second."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from xhash_ray.features.decoding import Decoder
from xhash_ray.features.faults import Fault

Tokenizer = Callable[[Sequence[str]], np.ndarray]


@dataclass(frozen=True)
class Prepared:
    """Pairs, images or texts ready for the model.

    Attributes:
        kept: Positions of those that could be prepared, ascending.
        pixels: uint8 [kept, 3, height, width]; None when there are no images.
        tokens: int32 [captions, context length], captions of a pair in a row; None when there are no texts.
        counts: How many captions each kept pair has; [] when there are no texts.
        errors: Why the others could not, by position.
    """

    kept: list[int]
    pixels: np.ndarray | None
    tokens: np.ndarray | None
    counts: list[int]
    errors: dict[int, Fault]


def prepare(
    images: Sequence[bytes], captions: Sequence[Sequence[str]], decoder: Decoder | None, tokenizer: Tokenizer | None
) -> Prepared:
    """Decodes and tokenises at the same time; one bad image costs only itself.

    Args:
        images: Encoded, b"" where one is missing; [] for texts alone.
        captions: Of each pair, at least one; [] for images alone.
        decoder: Of the images; None is allowed where there are none.
        tokenizer: `tokens.Tokens`, likewise.

    Raises:
        ValueError: for other numbers of images than of texts, where both are given, and for a lacking decoder or
            tokenizer.
        XhashError: when no decoder can be started.
    """
    if images and captions and len(images) != len(captions):
        raise ValueError(f"{len(images)} images and {len(captions)} texts")
    if (images and decoder is None) or (captions and tokenizer is None):
        raise ValueError("images without a decoder, or captions without a tokenizer")
    decoding = decoder.begin(images) if images and decoder else None
    counts = [len(each) for each in captions]
    tokens = tokenizer([text for each in captions for text in each]) if captions and tokenizer else None
    if decoding is None:
        return Prepared(list(range(len(captions))), None, tokens, counts, {})
    decoded = decoding.finish()
    if tokens is not None and decoded.errors:
        tokens = tokens[np.repeat([i not in decoded.errors for i in range(len(counts))], counts)]
        counts = [counts[i] for i in decoded.kept]
    return Prepared(decoded.kept, decoded.pixels, tokens, counts, decoded.errors)
