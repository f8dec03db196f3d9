"""Questions to groups of shards, their answers, and how several answers become one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple


class Kind(NamedTuple):
    """What queries must have in common to share a scan.

    Attributes:
        target: "image" or "text".
        k: Codes wanted, at least 1: the hits, or the candidates that are rescored.
        filter: See `filters`; None for all rows.
        ties: Whether codes at the k-th distance are counted.
        metadata: Whether hits come with their metadata.
        rescore: What orders the candidates: "outputs" of the hash function, or stored "features"; None for distance.
        keep: Hits wanted of rescored candidates; k where it is None.
        columns: Where there is a filter, the columns of the whole index (a schema, serialised): a group may lack some.
    """

    target: str
    k: int
    filter: str | None = None
    ties: bool = False
    metadata: bool = True
    rescore: str | None = None
    keep: int | None = None
    columns: bytes | None = None


class Query(NamedTuple):
    """What is known of a query.

    Attributes:
        code: uint8 [bits / 8].
        outputs: float32 [bits], the hash function's outputs whose signs the code is; None for a mere code.
        feature: float32 [d], what the hash function was given; likewise.
    """

    code: bytes
    outputs: bytes | None = None
    feature: bytes | None = None


class Answer(NamedTuple):
    """A group's answer to one query, by (distance, id).

    Attributes:
        hits: (distance, id), at most k.
        metadata: Of each hit; empty where it was not asked for.
        at_kth: How many codes lie at the last hit's distance; None where nobody asked.
        scores: Of each hit, higher is nearer; empty where nobody asked.
    """

    hits: list[tuple[int, str]]
    metadata: list[dict[str, Any]]
    at_kth: int | None
    scores: Sequence[float] = ()


class Scanned(NamedTuple):
    """A group's answers to queries that shared a scan.

    Attributes:
        answers: One per query, in their order.
        scan_s: Time that finding and ordering the hits took, in seconds.
        fetch_s: Time that fetching their metadata took.
    """

    answers: list[Answer]
    scan_s: float
    fetch_s: float


def merge_answers(parts: Sequence[Answer], k: int) -> Answer:
    """One query's answer over several groups, by (distance, id)."""
    if len(parts) == 1:
        return parts[0]
    whole = sorted((hit, place, number) for number, part in enumerate(parts) for place, hit in enumerate(part.hits))[:k]
    hits = [hit for hit, _, _ in whole]
    metadata = [parts[number].metadata[place] for _, place, number in whole if parts[number].metadata]
    scores = [parts[number].scores[place] for _, place, number in whole if parts[number].scores]
    if any(part.at_kth is None for part in parts) or not hits:
        return Answer(hits, metadata, None, scores)
    return Answer(hits, metadata, sum(count_at(part, hits[-1][0]) for part in parts), scores)


def count_at(part: Answer, kth: int) -> int:
    """How many of a group's codes lie at the k-th distance of all: its last is counted, what is nearer is listed."""
    if part.hits and part.hits[-1][0] == kth:
        return part.at_kth or 0
    return sum(distance == kth for distance, _ in part.hits)


def rescored(candidates: Answer, keep: int) -> Answer:
    """The best of the candidates by (score, distance, id); the same for any number of groups, as the candidates are."""
    order = sorted(range(len(candidates.hits)), key=lambda place: (-candidates.scores[place], candidates.hits[place]))
    kept = order[:keep]
    metadata = [candidates.metadata[place] for place in kept] if candidates.metadata else []
    scores = [candidates.scores[place] for place in kept]
    return Answer([candidates.hits[place] for place in kept], metadata, candidates.at_kth, scores)
