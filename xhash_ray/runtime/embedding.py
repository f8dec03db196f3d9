"""The actor that holds the model. A file of its own: it imports what takes seconds, and only some need it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pyarrow as pa
import torch

from xhash_ray.features.clip import ClipEncoder
from xhash_ray.features.embedding import Embedder
from xhash_ray.options.corpus import CorpusWork
from xhash_ray.pipeline.committing import Embedded
from xhash_ray.pipeline.extracting import embed_unit
from xhash_ray.pipeline.preparing import Ready, Recipe
from xhash_ray.pipeline.processes import tokens_for
from xhash_ray.runtime import attempts

Hashed = Callable[[pa.Table], pa.Table]


class Embedding:
    """The actor that holds the model."""

    def __init__(
        self, recipe: Recipe, options: CorpusWork, threads: int, on_gpu: bool, hashed: Hashed, tries: Any
    ) -> None:
        torch.set_num_threads(threads)
        facts = recipe.encoder
        device = "cuda" if on_gpu else "cpu"
        encoder = ClipEncoder(
            facts.model, facts.pretrained, device, options.precision, facts.as_json(), compile=options.compile
        )
        self.recipe, self.hashed, self.tries = recipe, hashed, tries
        self.encoder, self.batch_size = encoder, options.batch_size

    def __call__(self, ready: Ready) -> list[Embedded]:
        """One unit; with smaller batches where it has died of too large ones."""
        with attempts.attempt(self.tries, ready.loaded.unit.number) as halvings:
            embedder = Embedder(self.encoder, max(1, self.batch_size >> halvings))
            tokens = tokens_for(self.recipe.encoder)
            return [embed_unit(ready, self.recipe, embedder, tokens, self.hashed)]
