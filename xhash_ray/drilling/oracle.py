"""The oracle: what every generation must answer, by brute force in numpy over the codes that the drill drew itself.

It shares nothing with the endpoint: no kernel, no index file, no shard assignment, no filter parser.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np

from xhash_ray.drilling.pairs import Pairs, shards_of
from xhash_ray.drilling.questions import FILTERS, Question


class Expected(NamedTuple):
    """A right answer.

    Attributes:
        hits: (distance, id), at most k, by (distance, id).
        rows: Of the hits among the generation's pairs.
        at_kth: How many codes lie at the last hit's distance; None without hits.
    """

    hits: list[tuple[int, str]]
    rows: list[int]
    at_kth: int | None


class Truth:
    """One generation.

    Args:
        pairs: That it holds.
        shards: It is dealt to.
        fingerprint: Of its model.
        vector_codes: Of every vector that is asked with, by that model.
    """

    def __init__(
        self, pairs: Pairs, shards: int, fingerprint: str, vector_codes: Mapping[tuple[float, ...], bytes]
    ) -> None:
        self.pairs, self.shards, self.fingerprint, self.vector_codes = pairs, shards, fingerprint, vector_codes
        self.owners = shards_of(pairs.ids, shards)
        self.rows = {name: row for row, name in enumerate(pairs.ids)}
        self.passing = {text: holds(pairs) for text, holds in FILTERS.items()}
        self.words = {modality: words_of(codes) for modality, codes in pairs.codes.items()}

    def code(self, question: Question) -> np.ndarray:
        """uint8 [bits / 8], what the question means in this generation."""
        if question.code:
            return np.frombuffer(bytes.fromhex(question.code), np.uint8)
        if question.id:
            code: np.ndarray = self.pairs.codes["image"][self.rows[question.id]]
            return code
        return np.frombuffer(self.vector_codes[question.vector], np.uint8)

    def answer(self, question: Question, missing: Iterable[int] = ()) -> Expected:
        """What must be answered, by those shards that are not missing.

        Ids ascend with the row, so a stable sort by distance orders by (distance, id).
        """
        shown = np.ones(len(self.owners), dtype=bool)
        for shard in missing:
            shown &= self.owners != shard
        if question.filter is not None:
            shown &= self.passing[question.filter]
        rows = np.flatnonzero(shown)
        differing = self.words[question.target][rows] ^ words_of(self.code(question)[None])
        distances = np.bitwise_count(differing).sum(axis=1, dtype=np.int64)
        first = np.argsort(distances, kind="stable")[: question.k]
        hits = [(int(distances[place]), self.pairs.ids[rows[place]]) for place in first]
        at_kth = int((distances == hits[-1][0]).sum()) if hits else None
        return Expected(hits, rows[first].tolist(), at_kth)


def words_of(codes: np.ndarray) -> np.ndarray:
    """Codes in words of 64 bits, the last one filled up with zeros: uint64 [n, words]."""
    padded = np.zeros((len(codes), -(-codes.shape[1] // 8) * 8), np.uint8)
    padded[:, : codes.shape[1]] = codes
    return padded.view(np.uint64)


class Oracle:
    """All generations of a drill; threads may share it."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.truths: dict[int, Truth] = {}
        self.known: dict[tuple[int, int, frozenset[int]], Expected] = {}

    def learn(self, generation: int, truth: Truth) -> None:
        """What a generation will be, told before anybody can see it."""
        with self.lock:
            self.truths[generation] = truth

    def truth(self, generation: int) -> Truth | None:
        """A generation; None for one that must never be served."""
        with self.lock:
            return self.truths.get(generation)

    def answer(self, generation: int, question: Question, missing: Iterable[int] = ()) -> Expected:
        """`Truth.answer`, computed once."""
        key = (generation, question.number, frozenset(missing))
        with self.lock:
            truth, known = self.truths[generation], self.known.get(key)
        if known is None:
            known = truth.answer(question, key[2])
            with self.lock:
                self.known[key] = known
        return known
