"""Gates before a generation is published: codes that cannot retrieve are refused, with the figures.

Measured on a sample of the codes of each modality (and across them), so that a gate costs seconds at any size. Two of
them need held-out pairs with their features: how much of what the features find do the codes find?
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8

from xhash_ray.core.hamming import histogram
from xhash_ray.errors import BadInput, BadOption, nearest
from xhash_ray.index.health import SAMPLE, health_of
from xhash_ray.index.segments import MODALITIES, SegmentFacts, open_segment

ASKED = 500
NEIGHBOURS, AMONG = 10, 100


@dataclass(frozen=True)
class Gates:
    """Thresholds; None: not asked for.

    Attributes:
        max_imbalance: Of the most uneven bit, |share of ones - 1/2|; 0.5 is a stuck bit.
        min_entropy: Mean entropy of the bits, 0 to 1.
        max_correlation: Of the two most alike bits, |correlation|; 1 is a duplicate bit.
        min_distinct: Share of distinct codes.
        min_pair_recall: Share of sampled pairs of which the one modality's code finds the other's among the first 10 of
            the sample, expected over ties; the worse direction counts.
        min_image_to_text_recall: Held-out pairs: of the 10 texts nearest to an image by cosine of the features, the
            share among the first 100 by code, expected over ties.
        min_text_to_image_recall: The same with images for texts.
    """

    max_imbalance: float | None = None
    min_entropy: float | None = None
    max_correlation: float | None = None
    min_distinct: float | None = None
    min_pair_recall: float | None = None
    min_image_to_text_recall: float | None = None
    min_text_to_image_recall: float | None = None

    @property
    def need_held_out(self) -> list[str]:
        """Those that are asked for and cannot be measured on codes alone."""
        names = ("min_image_to_text_recall", "min_text_to_image_recall")
        return [name for name in names if getattr(self, name) is not None]


@dataclass(frozen=True)
class HeldOut:
    """Pairs that no training saw.

    Attributes:
        image: float [n, d], features of images.
        text: float [n, d], of their texts, in the same space.
        image_codes: uint8 [n, bits / 8].
        text_codes: uint8 [n, bits / 8].
    """

    image: Float[np.ndarray, "n _"]
    text: Float[np.ndarray, "n _"]
    image_codes: UInt8[np.ndarray, "n bytes"]
    text_codes: UInt8[np.ndarray, "n bytes"]

    def recalls(self) -> dict[str, float]:
        """The figures of the gates that need held-out pairs.

        Raises:
            BadInput: for too few pairs, or modalities whose features are not of one space.
        """
        if self.image.shape[1] != self.text.shape[1]:
            found = f"image features of {self.image.shape[1]} numbers, text features of {self.text.shape[1]}"
            raise BadInput("recall of held-out pairs", found, "Cosines need one space: leave these gates out")
        if len(self.image) < 2 * AMONG:
            raise BadInput("recall of held-out pairs", f"{len(self.image)} pairs", f"Give {2 * AMONG} or more")
        to_text = feature_recall(self.image[:ASKED], self.text, self.image_codes[:ASKED], self.text_codes)
        to_image = feature_recall(self.text[:ASKED], self.image, self.text_codes[:ASKED], self.image_codes)
        return {"min_image_to_text_recall": to_text, "min_text_to_image_recall": to_image}


def parse_gates(given: Mapping[str, Any]) -> Gates:
    """Gates from a recipe.

    Raises:
        BadOption: for an unknown one, or a threshold that is no number.
    """
    known = [field.name for field in fields(Gates)]
    for name, value in given.items():
        if name not in known:
            raise BadOption(f"gates.{name}", "no such gate", nearest(name, known))
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise BadOption(f"gates.{name}", f"'{value}' is no number", "Give a threshold")
    return Gates(**{name: float(value) for name, value in given.items()})


def measure(image: UInt8[np.ndarray, "n bytes"], text: UInt8[np.ndarray, "n bytes"]) -> dict[str, float]:
    """The figures that gates ask for, of a sample of pairs; the worse modality counts."""
    each = [of_modality(codes) for codes in (image, text)]
    worst = {
        name: (max if name.startswith("max") else min)(found[name] for found in each) for name in each[0]
    }  # fmt: skip
    asked = slice(0, ASKED)
    recall = min(pair_recall(image[asked], text), pair_recall(text[asked], image))
    return {**worst, "min_pair_recall": recall}


def of_modality(codes: UInt8[np.ndarray, "n bytes"]) -> dict[str, float]:
    """Balance, entropy, correlation and distinctness of one modality's codes."""
    found = health_of(codes[:SAMPLE])
    return {
        "max_imbalance": found.imbalance,
        "min_entropy": found.entropy,
        "max_correlation": found.correlation,
        "min_distinct": found.distinct,
    }


def pair_recall(queries: UInt8[np.ndarray, "q bytes"], database: UInt8[np.ndarray, "n bytes"], k: int = 10) -> float:
    """Share of queries whose own pair, row for row, is among the first k, expected over the order of ties."""
    counts = histogram(database, queries)
    own = np.bitwise_count(queries ^ database[: len(queries)]).sum(axis=1, dtype=np.int64)
    tied = counts[np.arange(len(own)), own]
    nearer = counts.cumsum(axis=1)[np.arange(len(own)), own] - tied
    return float(np.clip((k - nearer) / tied, 0, 1).mean())


def feature_recall(
    queries: Float[np.ndarray, "q d"],
    database: Float[np.ndarray, "n d"],
    query_codes: UInt8[np.ndarray, "q bytes"],
    codes: UInt8[np.ndarray, "n bytes"],
) -> float:
    """Of the NEIGHBOURS nearest by cosine, the share among the first AMONG by Hamming distance, expected over ties."""
    units = [each / np.maximum(np.linalg.norm(each, axis=1, keepdims=True), 1e-12) for each in (queries, database)]
    wanted = np.argsort(-(units[0] @ units[1].T), axis=1, kind="stable")[:, :NEIGHBOURS]
    counts = histogram(codes, query_codes)
    own = np.bitwise_count(query_codes[:, None] ^ codes[wanted]).sum(axis=2, dtype=np.int64)
    tied = np.take_along_axis(counts, own, axis=1)
    nearer = np.take_along_axis(counts.cumsum(axis=1), own, axis=1) - tied
    return float(np.clip((AMONG - nearer) / tied, 0, 1).mean())


def check(gates: Gates, found: Mapping[str, float], index: str) -> None:
    """Raises BadInput with the figures of every gate that is not passed."""
    failed = []
    for field in fields(Gates):
        threshold = getattr(gates, field.name)
        if threshold is None:
            continue
        value, upper = found[field.name], field.name.startswith("max")
        if (value > threshold) if upper else (value < threshold):
            failed.append(f"{field.name} is {value:.3f}, allowed {'at most' if upper else 'at least'} {threshold:.3f}")
    if failed:
        raise BadInput(f"publishing the index at {index}", "; ".join(failed), "Train again, or move the gates")


def pass_gates(
    gates: Gates, uri: str, segments: Sequence[SegmentFacts], held_out: HeldOut | None = None
) -> dict[str, float]:
    """The figures of an index about to be published: of its largest segment, whose rows are a random sample.

    Raises:
        BadInput: when a gate is not passed.
    """
    largest = open_segment(uri, max(segments, key=lambda facts: facts.rows))
    found = measure(*(largest.codes[modality][:SAMPLE] for modality in MODALITIES))
    found |= held_out.recalls() if held_out else {}
    check(gates, found, uri)
    return {name: round(value, 4) for name, value in found.items()}
