"""What a worker process keeps from one unit to the next: its decoder, its tokenizer."""

from __future__ import annotations

import functools
import json
from typing import TYPE_CHECKING

from xhash_ray.features.decoding import Decoder
from xhash_ray.features.facts import EncoderFacts
from xhash_ray.pipeline.loading import Loaded
from xhash_ray.pipeline.preparing import Ready, Recipe, make_ready

if TYPE_CHECKING:
    from xhash_ray.features.tokens import Tokens


def decoder_for(facts: EncoderFacts, timeout_s: float) -> Decoder:
    """This process' decoder: a process of its own, which takes a moment to start."""
    return kept_decoder(json.dumps(facts.preprocessing, sort_keys=True), timeout_s)


@functools.lru_cache(maxsize=1)
def kept_decoder(preprocessing: str, timeout_s: float) -> Decoder:
    """A decoder, by what it does."""
    return Decoder(json.loads(preprocessing), timeout_s)


def tokens_for(facts: EncoderFacts) -> Tokens:
    """This process' tokenizer, which takes a while to build."""
    return kept_tokens(json.dumps(facts.as_json(), sort_keys=True))


@functools.lru_cache(maxsize=1)
def kept_tokens(facts: str) -> Tokens:
    """A tokenizer, by the encoder it is for."""
    from xhash_ray.features.clip import Preprocessor  # here: it takes seconds, and some processes only decode

    return Preprocessor(EncoderFacts(**json.loads(facts))).tokenizer


def prepared(loaded: Loaded, recipe: Recipe, timeout_s: float, tokenise: bool) -> list[Ready]:
    """One unit, decoded in a task by the process that it keeps for that.

    Args:
        loaded: The unit.
        recipe: What is wanted.
        timeout_s: For one image.
        tokenise: Here, beside the decoder, so that a fast model need not wait; else where the model is, which saves
            this process seconds of start.
    """
    decoder = decoder_for(recipe.encoder, timeout_s) if "image" in recipe.modalities else None
    return [make_ready(loaded, recipe, decoder, tokens_for(recipe.encoder) if tokenise else None)]
