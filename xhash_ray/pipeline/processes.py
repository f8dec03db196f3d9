"""What a worker process keeps from one unit to the next: its decoder, its tokenizer."""

from __future__ import annotations

import functools
import json

from xhash_ray.features.clip import EncoderFacts, Preprocessor
from xhash_ray.features.decoding import Decoder
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
    return Preprocessor(EncoderFacts(**json.loads(facts))).tokenizer
