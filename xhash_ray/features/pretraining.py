"""Training of a small image-text model from scratch, for demonstrations and small corpora.

The model is an open_clip architecture trained with open_clip's own `ClipLoss` (Radford et al.,
"Learning Transferable Visual Models From Natural Language Supervision", ICML 2021).  Images are
decoded once and kept in memory as uint8; large corpora deserve a published model instead.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
from open_clip.loss import ClipLoss
from PIL import Image, UnidentifiedImageError
from torch.nn import functional

from xhash_ray.errors import BadInput

ARCHITECTURES = Path(__file__).parent / "architectures"
PIXELS_LIMIT_BYTES = 2 * 1024**3
# CLIP never multiplies its cosines by more than 100; beyond it training becomes unstable.
LOGIT_SCALE_LIMIT = math.log(100)


@dataclass(frozen=True)
class PretrainingSettings:
    """How to train; the defaults suit some thousands of small pictures on two cores."""

    epochs: int = 30
    batch_size: int = 128
    learning_rate: float = 2e-3
    weight_decay: float = 0.1
    warmup_steps: int = 60
    seed: int = 0
    threads: int = 2
    flip: bool = False
    shift: float = 0.06
    scale: float = 0.1
    brightness: float = 0.1
    gray: float = 0.3


def register_architectures() -> None:
    """Makes the architectures of this package, such as "xhash-tiny", known to open_clip, once."""
    known = set(open_clip.list_models())
    if any(path.stem not in known for path in ARCHITECTURES.glob("*.json")):
        open_clip.add_model_config(ARCHITECTURES)


@contextmanager
def _reproducible(seed: int, threads: int) -> Iterator[None]:
    """Seeds PyTorch and fixes its threads for the time of a training, and puts both back."""
    threads_before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            yield
    finally:
        torch.set_num_threads(threads_before)


def _split_preprocess(preprocess: Any) -> tuple[list[Any], Any]:
    t = list(preprocess.transforms)
    return t[:-2], t[-1]


def _decode(images, steps, size):
    out = torch.empty((len(images), 3, size, size), dtype=torch.uint8)
    for row, encoded in enumerate(images):
        image = Image.open(io.BytesIO(encoded))
        for step in steps:
            image = step(image)
        out[row] = torch.from_numpy(np.array(image)).permute(2, 0, 1)
    return out


def _augment(pixels, settings, generator):
    count = len(pixels)
    draw = torch.rand((count, 5), generator=generator) * 2 - 1
    zoom = 1 + settings.scale * draw[:, 0]
    theta = torch.zeros(count, 2, 3)
    theta[:, 0, 0] = zoom * (torch.where(draw[:, 3] < 0, -1.0, 1.0) if settings.flip else 1.0)
    theta[:, 1, 1] = zoom
    theta[:, :, 2] = 2 * settings.shift * draw[:, 1:3]
    grid = functional.affine_grid(theta, list(pixels.shape), align_corners=False)
    pixels = functional.grid_sample(pixels, grid, padding_mode="border", align_corners=False)
    grey = torch.rand(count, generator=generator) < settings.gray
    pixels[grey] = pixels[grey].mean(1, keepdim=True)
    return (pixels * (1 + settings.brightness * draw[:, 4, None, None, None])).clamp(0, 1)


def pretrain(images, texts, model_name, settings, on_epoch=None, tweak=None):
    register_architectures()
    with _reproducible(settings.seed, settings.threads):
        model, _, preprocess = open_clip.create_model_and_transforms(model_name)
        tokenizer = open_clip.get_tokenizer(model_name)
        steps, normalise = _split_preprocess(preprocess)
        pixels = _decode(images, steps, 64)
        flat = [[t] if isinstance(t, str) else list(t) for t in texts]
        starts = torch.tensor([0] + [len(t) for t in flat]).cumsum(0)
        tokens = tokenizer([c for t in flat for c in t])
        n = len(pixels)
        counts = starts[1:] - starts[:-1]
        [torch.nn.init.ones_(p) for k,p in model.named_parameters() if k.endswith("bn3.weight")]
        model = model.to(memory_format=torch.channels_last)
        decay = [p for k, p in model.named_parameters() if p.ndim >= 2 and "embedding" not in k]
        rest = [p for k, p in model.named_parameters() if not (p.ndim >= 2 and "embedding" not in k)]
        opt = torch.optim.AdamW(
            [{"params": decay, "weight_decay": settings.weight_decay}, {"params": rest, "weight_decay": 0.0}],
            lr=settings.learning_rate,
            betas=(0.9, 0.98),
            fused=True,
        )
        g = torch.Generator().manual_seed(settings.seed)
        spe = n // settings.batch_size
        total = spe * settings.epochs
        loss_fn = ClipLoss()
        step = 0
        model.train()
        for epoch in range(settings.epochs):
            order = torch.randperm(n, generator=g)
            cap = starts[:-1] + (torch.rand(n, generator=g) * counts).long()
            s = 0.0
            for b in range(spe):
                rows = order[b * settings.batch_size : (b + 1) * settings.batch_size]
                lr = settings.learning_rate * min(
                    (step + 1) / settings.warmup_steps, 0.5 * (1 + math.cos(math.pi * step / total))
                )
                for gr in opt.param_groups:
                    gr["lr"] = lr
                x = normalise(_augment(pixels[rows].float() / 255, settings, g)).contiguous(
                    memory_format=torch.channels_last
                )
                tk = tokens[cap[rows]]
                tk = tk[:, : int(tk.argmax(1).max()) + 1] if tweak and "trim" in tweak else tk
                fi, ft, ls = model(x, tk)
                loss = loss_fn(fi, ft, ls)
                opt.zero_grad()
                loss.backward()
                opt.step()
                with torch.no_grad():
                    model.logit_scale.clamp_(0, LOGIT_SCALE_LIMIT)
                s += loss.item()
                step += 1
            if on_epoch:
                on_epoch(epoch, {"loss": s / spe, "logit_scale": float(model.logit_scale.exp())})
        return model.eval()
