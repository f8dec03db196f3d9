"""What is asked during a drill: by code, vector and id, with and without filters and counts of ties."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from xhash_ray.drilling.pairs import MODALITIES, Pairs

HITS = (1, 5, 20, 100)


def colour_is(pairs: Pairs, *wanted: str | None) -> np.ndarray:
    """bool [n]."""
    return np.array([colour in wanted for colour in pairs.colours], dtype=bool)


# As the endpoint is asked, and the same in numpy. A missing colour passes no comparison, nor its negation.
FILTERS: Mapping[str, Callable[[Pairs], np.ndarray]] = {
    "year >= 2015": lambda pairs: pairs.years >= 2015,
    'colour = "red" and year < 2010': lambda pairs: colour_is(pairs, "red") & (pairs.years < 2010),
    "not exists(colour)": lambda pairs: colour_is(pairs, None),
    'not colour in ["red", "blue"] or year = 2003': lambda pairs: (
        ~colour_is(pairs, "red", "blue", None) | (pairs.years == 2003)
    ),
    "year > 2030": lambda pairs: pairs.years > 2030,  # nothing passes
}


@dataclass(frozen=True)
class Question:
    """One search.

    Attributes:
        number: Of the question; everything known of it is filed under this.
        code: Hexadecimal, "" where it is asked by something else.
        vector: Of the image side, empty likewise.
        id: Of a stored pair, "" likewise.
        target: Modality searched.
        k: Hits wanted.
        filter: A key of FILTERS, None for none.
        ties: Whether codes at the k-th distance are counted.
    """

    number: int
    code: str = ""
    vector: tuple[float, ...] = ()
    id: str = ""
    target: str = "text"
    k: int = 10
    filter: str | None = None
    ties: bool = False

    def arguments(self) -> dict[str, Any]:
        """For `Client.search`."""
        asked: dict[str, Any] = {"target": self.target, "k": self.k, "ties": self.ties}
        if self.filter is not None:
            asked["filter"] = self.filter
        if self.code:
            return {**asked, "code": self.code}
        if self.id:
            return {**asked, "id": self.id, "source": "image"}
        return {**asked, "vector": list(self.vector), "source": "image"}


def draw_questions(
    pairs: Pairs, kept_ids: Sequence[str], vectors: Sequence[tuple[float, ...]], count: int, seed: int
) -> list[Question]:
    """Half of them by code, a quarter by vector, a quarter by id.

    Args:
        pairs: Whose codes, with a few bits flipped, are asked for.
        kept_ids: Of pairs that no change deletes.
        vectors: Whose codes are known for every model of the drill.
        count: Of questions.
        seed: Of all that is drawn.
    """
    rng = np.random.default_rng(seed)
    filters, made = [None, None, *FILTERS], list[Question]()
    for number in range(count):
        what: dict[str, Any] = {
            "target": MODALITIES[int(rng.integers(2))],
            "k": HITS[int(rng.integers(len(HITS)))],
            "filter": filters[int(rng.integers(len(filters)))],
            "ties": bool(rng.random() < 0.4),
        }
        row = int(rng.integers(len(pairs)))
        ways: list[dict[str, Any]] = [
            {"code": near(rng, pairs.codes["image"][row])},
            {"vector": vectors[number % len(vectors)]},
            {"code": near(rng, pairs.codes["text"][row])},
            {"id": kept_ids[number % len(kept_ids)]},
        ]
        made.append(Question(number, **ways[number % len(ways)], **what))
    return made


def near(rng: np.random.Generator, code: np.ndarray) -> str:
    """A code some bits away, in hexadecimal."""
    flips = np.packbits(rng.random(len(code) * 8) < 0.03, bitorder="little")
    return bytes(code ^ flips).hex()
