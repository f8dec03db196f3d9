"""The third stage: the model. What it gives is stored as it is, or hashed first."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import pyarrow as pa

from xhash_ray.features.batches import Tokenizer
from xhash_ray.features.embedding import Embedder
from xhash_ray.pipeline.committing import Embedded
from xhash_ray.pipeline.loading import Loaded
from xhash_ray.pipeline.preparing import Ready, Recipe
from xhash_ray.storage.features import from_matrix


def embed_unit(
    ready: Ready, recipe: Recipe, embedder: Embedder, tokens: Tokenizer, hashed: Callable[[pa.Table], pa.Table]
) -> Embedded:
    """Features of a unit, and what `hashed` makes of them: codes, or nothing further."""
    began_s = time.perf_counter()
    table = ready.columns
    waiting = ready.captions and ready.tokens is None and "text" in recipe.modalities
    prepared = tokens(ready.captions) if waiting else ready.tokens
    if table.num_rows:
        each = recipe.captions == "each"
        image, text = embedder.embed(ready.pixels, prepared, ready.counts, mean=not each)
        if image is not None and each and text is not None:
            image = np.repeat(image, ready.counts, axis=0)
        for name, features in (("text", text), ("image", image)):
            if features is not None:
                table = table.add_column(1, name, from_matrix(features.astype(np.dtype(recipe.dtype))))
        table = hashed(table)
    seconds = ready.loaded.seconds | {"embed": time.perf_counter() - began_s}
    loaded = ready.loaded
    return Embedded(Loaded(loaded.unit, loaded.source, [], loaded.rejects, loaded.bytes_read, seconds), table)
