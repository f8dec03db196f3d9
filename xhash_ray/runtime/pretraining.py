"""A small CLIP trained from a corpus: brings the corpus' pairs to the training loop of features/pretraining.py."""

from __future__ import annotations

from typing import Any

import numpy as np
import safetensors.torch

from xhash_ray.config import build
from xhash_ray.corpus.pairs import Pair
from xhash_ray.corpus.sources import Source, open_corpus
from xhash_ray.errors import BadInput
from xhash_ray.features.checkpoints import resolve_architecture, weights_digest
from xhash_ray.features.pretraining import PretrainingSettings, pretrain
from xhash_ray.options import Pretrain
from xhash_ray.progress import Progress
from xhash_ray.storage import uri as places
from xhash_ray.storage.where import Where, metadata_keeps, parse_where

ROWS_PER_PART = 4096


def pretrain_clip(options: Pretrain) -> dict[str, Any]:
    """Trains a CLIP from scratch and writes its weights as safetensors.

    Returns:
        `out`, `model`, `weights_sha256`, `pairs`, `loss`, `seconds`.

    Raises:
        BadInput: for a corpus without usable pairs, or an --out that is no .safetensors file.
    """
    out = places.normalise(options.out)
    if not out.endswith(".safetensors"):
        raise BadInput(f"--out {options.out}", "not a .safetensors file", "Name one: weights are never pickled")
    settings = build(PretrainingSettings, {"seed": options.seed, **options.settings}, "settings of pretrain")
    name = resolve_architecture(options.model)
    source = open_corpus(options.corpus, options.columns)
    pairs = usable_pairs(source, parse_where(options.where))
    progress = Progress("pretrain", settings.epochs, "epochs")
    progress.say(f"{name} from scratch on {len(pairs):,} pairs, {settings.epochs} epochs")
    last: dict[str, float] = {}

    def on_epoch(epoch: int, terms: dict[str, float]) -> None:
        last.update(terms)
        progress.done = epoch + 1
        if progress.done % max(1, settings.epochs // 5) == 0 or progress.done == settings.epochs:
            progress.say(f"epoch {progress.done} of {settings.epochs}: loss {terms['loss']:.4f}")

    model = pretrain([pair.image for pair in pairs], [pair.texts for pair in pairs], name, settings, on_epoch)
    weights = {key: value.contiguous() for key, value in model.state_dict().items()}
    places.write_bytes(out, safetensors.torch.save(weights))
    return {
        "out": out,
        "model": options.model,
        "weights_sha256": weights_digest(model),
        "pairs": len(pairs),
        "loss": round(last["loss"], 4),
        "seconds": round(progress.seconds, 1),
        "pairs_per_s": round(len(pairs) * settings.epochs / progress.seconds, 1),
    }


def usable_pairs(source: Source, where: Where | None) -> list[Pair]:
    """The corpus' pairs that satisfy a condition; rejects are left out.

    Raises:
        BadInput: when there are none.
    """
    pairs = [row for part in source.parts(ROWS_PER_PART) for row in source.read(part) if isinstance(row, Pair)]
    if where is not None and pairs:
        keeps = metadata_keeps(where, [pair.id for pair in pairs], [pair.metadata for pair in pairs])
        pairs = [pairs[int(row)] for row in np.flatnonzero(keeps)]
    if not pairs:
        raise BadInput(f"corpus at {source.uri}", "no usable pairs", "Check the corpus, --columns and --where")
    return pairs
