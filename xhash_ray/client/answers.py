"""What the endpoint answers, as values.

Fields that this client does not know are passed over, so a newer endpoint is understood; what an older one does not
send is None where a default says so. Readers raise KeyError, TypeError, ValueError or AttributeError for anything else.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class Hit:
    """A pair that was found.

    Attributes:
        id: Of the pair.
        distance: Differing bits.
        score: Where the answer was rescored: higher is nearer.
        metadata: What is stored with the pair, where it was asked for.
    """

    id: str
    distance: int
    score: float | None = None
    metadata: dict[str, Any] | None = None


@dataclass(frozen=True, kw_only=True)
class Answer:
    """The nearest pairs, nearest first.

    Attributes:
        hits: By (distance, id), or by score where rescored.
        kth_distance: Of the last pair that was looked at; None without hits.
        at_kth: How many codes lie at that distance, where ties were asked for.
        target: Modality searched, "image" or "text".
        bits: Code length.
        generation: Of the index.
        model_fingerprint: Of the hash functions.
        shards: How many the index has.
        complete: Whether every shard has answered.
        missing_shards: Those that have not.
        certain: So many first hits are those of a complete answer, whatever is missing.
        timings_ms: Where the endpoint spent its time, in milliseconds.
    """

    hits: tuple[Hit, ...]
    kth_distance: int | None
    at_kth: int | None = None
    target: str
    bits: int
    generation: int
    model_fingerprint: str
    shards: int
    complete: bool
    missing_shards: tuple[int, ...]
    certain: int
    timings_ms: dict[str, float]


@dataclass(frozen=True)
class Item:
    """A stored pair.

    Attributes:
        id: Of the pair.
        image_code: Hexadecimal.
        text_code: Hexadecimal.
        metadata: What is stored with it.
    """

    id: str
    image_code: str
    text_code: str
    metadata: dict[str, Any]


@dataclass(frozen=True)
class Encoded:
    """A query's code.

    Attributes:
        code: Hexadecimal.
        bits: Code length.
        model_fingerprint: Of the hash functions that made it.
    """

    code: str
    bits: int
    model_fingerprint: str


def known(kind: type[T], content: Mapping[str, Any], **instead: Any) -> T:
    """A value of a kind from the fields of an answer that it knows."""
    names = {field.name for field in fields(kind)}  # type: ignore[arg-type]
    return kind(**{name: value for name, value in content.items() if name in names} | instead)


def answer(content: Any) -> Answer:
    """A search's answer."""
    hits = tuple(hit(each) for each in content["hits"])
    return known(Answer, content, hits=hits, missing_shards=tuple(content["missing_shards"]))


def hit(content: Any) -> Hit:
    """One hit; spelt out, because an answer may have ten thousand."""
    return Hit(content["id"], content["distance"], content.get("score"), content.get("metadata"))


def batch(content: Any) -> list[Answer]:
    """The answers to several queries."""
    return [answer(each) for each in content["answers"]]


def item(content: Any) -> Item:
    """A stored pair."""
    return known(Item, content)


def encoded(content: Any) -> Encoded:
    """A query's code."""
    return known(Encoded, content)


def facts(content: Any) -> dict[str, Any]:
    """Whatever the endpoint says, as it says it."""
    return dict(content.items())


def alive(content: Any) -> bool:
    """Whether this is an endpoint's sign of life."""
    return bool(content["status"] == "ok")
