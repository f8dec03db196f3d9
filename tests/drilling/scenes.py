"""A small drill for tests: a generation, questions, and the answers that a sound endpoint would give."""

from __future__ import annotations

from collections.abc import Sequence

from xhash_ray.client.answers import Answer, Hit
from xhash_ray.drilling.oracle import Expected, Oracle, Truth
from xhash_ray.drilling.pairs import Pairs, draw
from xhash_ray.drilling.questions import Question, draw_questions

BITS, SHARDS, GENERATION, FINGERPRINT = 16, 4, 7, "f" * 64
VECTORS = {(0.25, -1.0): b"\x0f\xf0", (0.5, 2.0): b"\x00\x01"}


def pairs_of(count: int = 600) -> Pairs:
    """So few bits that ties are everywhere."""
    return draw(count, BITS, seed=3)


def oracle_of(pairs: Pairs, generation: int = GENERATION) -> Oracle:
    """One that knows one generation."""
    oracle = Oracle()
    oracle.learn(generation, Truth(pairs, SHARDS, FINGERPRINT, VECTORS))
    return oracle


def questions_of(pairs: Pairs, count: int = 120) -> list[Question]:
    """Of every kind, with every filter."""
    return draw_questions(pairs, pairs.ids[:10], list(VECTORS), count, seed=5)


def answer_of(
    pairs: Pairs, question: Question, right: Expected, missing: Sequence[int] = (), certain: int | None = None
) -> Answer:
    """The answer that says what is expected."""
    hits = tuple(
        Hit(name, distance, None, pairs.metadata(row))
        for (distance, name), row in zip(right.hits, right.rows, strict=True)
    )
    return Answer(
        hits=hits,
        kth_distance=right.hits[-1][0] if right.hits else None,
        at_kth=right.at_kth if question.ties else None,
        target=question.target,
        bits=BITS,
        generation=GENERATION,
        model_fingerprint=FINGERPRINT,
        shards=SHARDS,
        complete=not missing,
        missing_shards=tuple(missing),
        certain=len(hits) if certain is None else certain,
        timings_ms={},
    )
