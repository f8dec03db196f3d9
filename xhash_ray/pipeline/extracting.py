"""The middle stages of extraction: prepare (decode, tokenise) and embed (the model)."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from xhash_ray.corpus.pairs import Pair, Reject
from xhash_ray.features.batches import prepare
from xhash_ray.features.clip import EncoderFacts
from xhash_ray.features.decoding import Decoder
from xhash_ray.features.embedding import Embedder
from xhash_ray.features.tokens import Tokens
from xhash_ray.pipeline.caption_policy import counted, row_ids
from xhash_ray.pipeline.committing import Embedded
from xhash_ray.pipeline.loading import Loaded
from xhash_ray.storage.features import from_matrix

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
        tokens: int32 [captions, context length], captions of a pair in a row; None without texts.
        counts: Captions of each pair.
        columns: What travels along: one row per pair, or per caption where each counts.
    """

    loaded: Loaded
    pixels: np.ndarray | None
    tokens: np.ndarray | None
    counts: list[int]
    columns: pa.Table


def make_ready(loaded: Loaded, recipe: Recipe, decoder: Decoder, tokens: Tokens) -> Ready:
    """Decodes and tokenises a unit; one bad image costs only itself."""
    began_s = time.perf_counter()
    pairs = loaded.pairs
    images = [pair.image for pair in pairs] if "image" in recipe.modalities else []
    texts = [counted(pair.id, pair.texts, recipe.captions, recipe.seed) for pair in pairs]
    found = prepare(images, texts if "text" in recipe.modalities else [], decoder, tokens)
    faults = [
        Reject(pairs[place].id, loaded.source, pairs[place].row, "prepare", fault.kind, fault.reason)
        for place, fault in sorted(found.errors.items())
    ]
    kept = [(pairs[place], texts[place]) for place in found.kept]
    columns = travelling(kept, recipe)
    seconds = loaded.seconds | {"prepare": time.perf_counter() - began_s}
    rest = Loaded(loaded.unit, loaded.source, [], loaded.rejects + faults, loaded.bytes_read, seconds)
    return Ready(rest, found.pixels, found.tokens, found.counts, columns)


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


def embed_unit(ready: Ready, recipe: Recipe, embedder: Embedder, hashed: Callable[[pa.Table], pa.Table]) -> Embedded:
    """Features of a unit, and what `hashed` makes of them: codes, or nothing further."""
    began_s = time.perf_counter()
    table = ready.columns
    if table.num_rows:
        each = recipe.captions == "each"
        image, text = embedder.embed(ready.pixels, ready.tokens, ready.counts, mean=not each)
        if image is not None and each and text is not None:
            image = np.repeat(image, ready.counts, axis=0)
        for name, features in (("text", text), ("image", image)):
            if features is not None:
                table = table.add_column(1, name, from_matrix(features.astype(np.dtype(recipe.dtype))))
        table = hashed(table)
    seconds = ready.loaded.seconds | {"embed": time.perf_counter() - began_s}
    loaded = ready.loaded
    return Embedded(Loaded(loaded.unit, loaded.source, [], loaded.rejects, loaded.bytes_read, seconds), table)
