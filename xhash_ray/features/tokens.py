"""Captions to tokens: exactly open_clip's, without its 100 microseconds a caption where they can be saved.

Most of that time goes into repairing mis-decoded Unicode (ftfy) and HTML entities, and into splitting words by a
regular expression. Of a caption of printable ASCII without "&" there is nothing to repair, and what is left of
open_clip's work does not look across spaces: no alternative of its expression matches one, and cleaning maps
characters one by one. So such a caption's tokens are those of its words, one after the other, and words repeat.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from open_clip.tokenizer import SimpleTokenizer

WORDS_KEPT = 2**16
CAPTIONS_KEPT = 2**14
LONGEST_KEPT = 1024  # characters of a caption that is worth remembering


class Tokens:
    """A tokenizer of open_clip's that gives arrays.

    Args:
        tokenizer: From `open_clip.get_tokenizer`; CLIP's own is sped up, others are called as they are.
    """

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        self.context = int(tokenizer.context_length)
        self.plain = is_plain(tokenizer)
        self.words: dict[str, bytes] = {}
        self.remembered = lru_cache(CAPTIONS_KEPT)(self.row)
        if self.plain:
            self.first = np.int32(tokenizer.sot_token_id).tobytes()
            self.last = np.int32(tokenizer.eot_token_id).tobytes()
            tokenizer.cache = Bounded(tokenizer.cache)

    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        """Captions as int32 [n, context length]; longer ones are cut, as open_clip does."""
        if not len(texts):
            return np.empty((0, self.context), np.int32)
        if not self.plain:
            return np.asarray(self.tokenizer(list(texts)).numpy(), dtype=np.int32)
        rows = [self.remembered(text) if len(text) <= LONGEST_KEPT else self.row(text) for text in texts]
        return np.frombuffer(bytearray(b"".join(rows)), np.int32).reshape(-1, self.context)

    def row(self, text: str) -> bytes:
        """One caption's tokens between those for start and end, filled up with zeros: int32 [context length]."""
        if text.isascii() and text.isprintable() and "&" not in text:
            tokens = b"".join([self.words.get(word) or self.word(word) for word in text.split()])
        else:
            tokens = np.array(self.tokenizer.encode(text), np.int32).tobytes()
        return (self.first + tokens[: 4 * (self.context - 2)] + self.last).ljust(4 * self.context, b"\0")

    def word(self, word: str) -> bytes:
        """A word's tokens as int32, remembered."""
        if len(self.words) >= WORDS_KEPT:
            self.words.clear()
        self.words[word] = tokens = np.array(self.tokenizer.encode(word), np.int32).tobytes()
        return tokens


class Bounded(dict[str, str]):
    """open_clip's own memory of words, which would grow with the corpus: here it stops when it is full."""

    def __setitem__(self, key: str, value: str) -> None:
        if len(self) < WORDS_KEPT:
            super().__setitem__(key, value)


def is_plain(tokenizer: Any) -> bool:
    """Whether it is CLIP's own tokenizer, nothing about it changed: no words left out, no further special tokens."""
    return type(tokenizer) is SimpleTokenizer and tokenizer.reduction_fn is None and len(tokenizer.all_special_ids) == 2
