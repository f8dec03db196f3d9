"""`xhash bench hashing`: microseconds a pair that each method's hash functions take, both modalities, beside JDSH's.

What a code costs to make decides what a corpus of billions costs to encode, so it belongs beside what a code is worth.
The functions are prepared on random features and not trained: their time does not depend on their weights. Rounds
alternate, so that a machine that drifts drifts for all.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from typing import Any

import torch

from xhash_ray import methods
from xhash_ray.errors import BadInput
from xhash_ray.methods.base import Method, Shape, TrainingPairs
from xhash_ray.options.bench import BenchHashing
from xhash_ray.progress import Progress

BASE = "jdsh"
FITTED = 4096  # pairs that functions are prepared on: as many as a kernel's centres at most
CLASSES, SEED = 10, 1


def bench_hashing(options: BenchHashing) -> dict[str, Any]:
    """Times the hash functions of some methods in turn.

    Returns:
        `pairs`, `bits`, `image_length`, `text_length`, `threads`, `rows`: method, microseconds a pair (median over
        rounds), and how many times JDSH's that is.

    Raises:
        BadInput: for numbers below 1.
        BadOption: for an unknown method.
    """
    lengths = {"image": options.image_length, "text": options.text_length}
    if min(options.pairs, options.batch_size, options.rounds, options.threads, *lengths.values()) < 1:
        raise BadInput("bench hashing", "less than one pair, number, round or thread", "Give at least one of each")
    torch.set_num_threads(options.threads)
    progress = Progress("bench hashing")
    generator = torch.Generator().manual_seed(SEED)
    features = {each: torch.randn(max(options.pairs, FITTED), d, generator=generator) for each, d in lengths.items()}
    names = dict.fromkeys([BASE, *methods.named(options.methods)])
    made = {name: prepared(name, options.bits, features) for name in names}
    progress.say(f"{len(made)} methods prepared")
    asked = {name: rows[: options.pairs].split(options.batch_size) for name, rows in features.items()}
    seconds: dict[str, list[float]] = {name: [] for name in made}
    for number in range(1 + options.rounds):
        for name, method in made.items():
            seconds[name].append(sum(timed(method, each, batches) for each, batches in asked.items()))
        progress.say("warmed up" if number == 0 else f"round {number} of {options.rounds}")
    medians = {name: statistics.median(each[1:]) for name, each in seconds.items()}
    known = {"pairs": options.pairs, "bits": options.bits, "threads": options.threads}
    return {**known, **{f"{name}_length": d for name, d in lengths.items()}, "rows": table(medians, options.pairs)}


def prepared(name: str, bits: int, features: dict[str, torch.Tensor]) -> Method:
    """A method with defaults that has seen its training pairs, as far as its functions' shapes depend on them."""
    image, text = (features[each][:FITTED] for each in ("image", "text"))
    labels = torch.nn.functional.one_hot(torch.arange(FITTED) % CLASSES, CLASSES).float()
    torch.manual_seed(SEED)
    method = methods.create(name, Shape(bits, image.shape[1], text.shape[1], CLASSES), {})
    method.prepare(TrainingPairs(image, text, labels if method.supervised else None, FITTED), SEED)
    return method.eval()


def timed(method: Method, modality: str, batches: Sequence[torch.Tensor]) -> float:
    """Seconds in which a modality's batches become codes."""
    started_s = time.perf_counter()
    for batch in batches:
        method.encode(modality, batch)
    return time.perf_counter() - started_s


def table(seconds: dict[str, float], pairs: int) -> list[dict[str, Any]]:
    """One row per method, the cheapest first."""
    return [
        {"method": name, "us_per_pair": round(each / pairs * 1e6, 2), "times_jdsh": round(each / seconds[BASE], 2)}
        for name, each in sorted(seconds.items(), key=lambda item: item[1])
    ]
