"""The verdict on one answer: exact, incomplete with a certificate that holds, or wrong and why."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from xhash_ray.client.answers import Answer
from xhash_ray.drilling.oracle import Expected, Oracle, Truth
from xhash_ray.drilling.questions import Question

EXACT, INCOMPLETE, WRONG, ERROR = "exact", "incomplete", "wrong", "error"


class Verdict(NamedTuple):
    """What an answer is.

    Attributes:
        outcome: EXACT, INCOMPLETE or WRONG.
        why: The first thing that is wrong with it, "" where nothing is.
    """

    outcome: str
    why: str = ""


def judge(oracle: Oracle, question: Question, answer: Answer) -> Verdict:
    """Compares an answer with what a scan over everything says.

    Exact means: hits, their order, their number, their metadata, the k-th distance and the count of ties are those of
    the generation that the answer names. Incomplete means: all this is so over the shards that are not named missing,
    and the first `certain` hits are those of the whole generation.
    """
    truth = oracle.truth(answer.generation)
    if truth is None:
        return Verdict(WRONG, f"names generation {answer.generation}, which must not be served")
    found = next(frame_faults(truth, question, answer), "")
    if found:
        return Verdict(WRONG, found)
    here = oracle.answer(answer.generation, question, answer.missing_shards)
    found = next(content_faults(truth, question, answer, here), "")
    if not found and not answer.complete:
        found = next(certificate_faults(answer, oracle.answer(answer.generation, question)), "")
    if found:
        return Verdict(WRONG, found)
    return Verdict(EXACT if answer.complete else INCOMPLETE)


def frame_faults(truth: Truth, question: Question, answer: Answer) -> Iterator[str]:
    """What an answer says of itself."""
    if answer.model_fingerprint != truth.fingerprint:
        yield "names another model than its generation's"
    if answer.shards != truth.shards:
        yield f"says {answer.shards} shards instead of {truth.shards}"
    if answer.target != question.target:
        yield f"searched {answer.target} instead of {question.target}"
    if not set(answer.missing_shards) <= set(range(truth.shards)):
        yield f"misses shards that there are not: {answer.missing_shards}"
    if answer.complete and answer.missing_shards:
        yield "says complete and names missing shards"
    if not answer.complete and not answer.missing_shards:
        yield "says incomplete and names no missing shard"


def content_faults(truth: Truth, question: Question, answer: Answer, right: Expected) -> Iterator[str]:
    """Hits and what is said of them, against the scan of the shards that answered."""
    hits = [(hit.distance, hit.id) for hit in answer.hits]
    if hits != right.hits:
        yield difference(hits, right.hits)
    if answer.kth_distance != (right.hits[-1][0] if right.hits else None):
        yield f"k-th distance {answer.kth_distance}"
    if question.ties and (answer.at_kth or 0) != (right.at_kth or 0):
        yield f"{answer.at_kth} ties instead of {right.at_kth}"
    for hit, row in zip(answer.hits, right.rows, strict=True):
        if hit.metadata != truth.pairs.metadata(row):
            yield f"metadata {hit.metadata} of {hit.id}"


def difference(found: list[tuple[int, str]], right: list[tuple[int, str]]) -> str:
    """The first place at which two lists of hits part."""
    if len(found) != len(right):
        return f"{len(found)} hits instead of {len(right)}"
    if sorted(found) == right:
        return "hits in another order than (distance, id)"
    place = next(place for place, (one, other) in enumerate(zip(found, right, strict=True)) if one != other)
    return f"hit {place + 1} is {found[place]} instead of {right[place]}"


def certificate_faults(answer: Answer, whole: Expected) -> Iterator[str]:
    """What an incomplete answer vouches for, against the scan of everything."""
    if not 0 <= answer.certain <= len(answer.hits):
        yield f"certain of {answer.certain} of {len(answer.hits)} hits"
    sure, right = [(hit.distance, hit.id) for hit in answer.hits[: answer.certain]], whole.hits[: answer.certain]
    if sure != right:
        yield f"not certain at all among the first {answer.certain}: {difference(sure, right)}"
