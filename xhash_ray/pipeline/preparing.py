"""The second stage: pairs are decoded and tokenised, so that the model can take them. Imports little."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from xhash_ray.corpus.pairs import Pair, Reject
from xhash_ray.features.batches import Tokenizer, prepare
from xhash_ray.features.decoding import Decoder
from xhash_ray.features.facts import EncoderFacts
from xhash_ray.pipeline.caption_policy import counted, row_ids
from xhash_ray.pipeline.loading import Loaded

OWN_COLUMNS = ("id", "image", "text", "labels", "caption")  # metadata of these names does not travel


@dataclass(frozen=True)
class Recipe:
    """What the stages know, whichever process they run in.

    Attributes:
        encoder: Of the features.
        modalities: What is extracted: "image", "text" or both.
        captions: A policy, see `caption_policy`.
        seed: Of what captions are drawn.
        dtype: "float16" or "float32": the features'.
        classes: Names of the label numbers.
        metadata: Columns that travel along.
    """

    encoder: EncoderFacts
    modalities: tuple[str, ...]
    captions: str
    seed: int
    dtype: str
    classes: tuple[str, ...]
    metadata: pa.Schema


@dataclass(frozen=True)
class Ready:
    """A unit that the model can take.

    Attributes:
        loaded: The unit without its pairs, with all rejects so far.
        pixels: uint8 [pairs, 3, height, width]; None without images.
        tokens: int32 [captions, context length], captions of a pair in a row; None without texts, or where whoever
            holds the model tokenises.
        captions: The captions themselves, where they are not tokenised yet.
        counts: Captions of each pair.
        columns: What travels along: one row per pair, or per caption where each counts.
    """

    loaded: Loaded
    pixels: np.ndarray | None
    tokens: np.ndarray | None
    captions: list[str]
    counts: list[int]
    columns: pa.Table


def make_ready(loaded: Loaded, recipe: Recipe, decoder: Decoder | None, tokens: Tokenizer | None) -> Ready:
    """Decodes and tokenises a unit; one bad image costs only itself.

    Args:
        loaded: The unit.
        recipe: What is wanted.
        decoder: Of its images; None where there are none.
        tokens: Tokenizes beside the decoder; None leaves captions as they are.
    """
    began_s = time.perf_counter()
    pairs = loaded.pairs
    images = [pair.image for pair in pairs] if "image" in recipe.modalities else []
    texts = [counted(pair.id, pair.texts, recipe.captions, recipe.seed) for pair in pairs]
    found = prepare(images, texts if tokens and "text" in recipe.modalities else [], decoder, tokens)
    faults = [
        Reject(pairs[place].id, loaded.source, pairs[place].row, "prepare", fault.kind, fault.reason)
        for place, fault in sorted(found.errors.items())
    ]
    usable = [place for place in range(len(pairs)) if place not in found.errors]
    kept = [(pairs[place], texts[place]) for place in usable]
    columns = travelling(kept, recipe)
    waiting = [] if tokens else [text for _, captions in kept for text in captions]
    seconds = loaded.seconds | {"prepare": time.perf_counter() - began_s}
    rest = Loaded(loaded.unit, loaded.source, [], loaded.rejects + faults, loaded.bytes_read, seconds)
    return Ready(rest, found.pixels, found.tokens, waiting, [len(captions) for _, captions in kept], columns)


def travelling(kept: Sequence[tuple[Pair, Sequence[str]]], recipe: Recipe) -> pa.Table:
    """What travels along with the features: ids, labels as numbers, the caption, metadata."""
    counts = [len(texts) if recipe.captions == "each" else 1 for _, texts in kept]
    ids = [name for pair, texts in kept for name in row_ids(pair.id, len(texts), recipe.captions)]
    owners = [pair for (pair, texts), count in zip(kept, counts, strict=True) for _ in range(max(1, count))]
    columns: dict[str, pa.Array] = {"id": pa.array(ids, pa.string())}
    if recipe.classes:
        number = {name: i for i, name in enumerate(recipe.classes)}
        labels = [[number[name] for name in pair.labels] for pair in owners]
        columns["labels"] = pa.array(labels, pa.list_(pa.int32()))
    if "text" in recipe.modalities:
        captions = [text for _, texts in kept for text in (texts if recipe.captions == "each" else texts[:1])]
        columns["caption"] = pa.array(captions, pa.string())
    for entry in recipe.metadata:
        if entry.name not in OWN_COLUMNS:
            columns[entry.name] = metadata_column([pair.metadata.get(entry.name) for pair in owners], entry.type)
    return pa.table(columns)


def metadata_column(values: list[Any], kind: pa.DataType) -> pa.Array:
    """Loose values as a column of the type that the survey found; where that is text, whatever they are as text."""
    if pa.types.is_string(kind):
        return pa.array([None if value is None else str(value) for value in values], kind)
    return pa.array(values, kind)
