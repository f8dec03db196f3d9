"""Training of a small image-text model from scratch, for demonstrations and small corpora.

An open_clip architecture learns with open_clip's own `ClipLoss` (Radford et al., "Learning Transferable Visual
Models From Natural Language Supervision", ICML 2021). Images are decoded once and kept in memory; large corpora
deserve a published model instead.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import open_clip
import torch
from open_clip.loss import ClipLoss

from xhash_ray.errors import BadInput
from xhash_ray.features.checkpoints import resolve_architecture
from xhash_ray.features.clip import EncoderFacts, Preprocessor

PIXELS_LIMIT_BYTES = 2 * 1024**3  # of decoded images; 174,000 of 64 x 64 pixels
LOGIT_SCALE_LIMIT = math.log(100)  # CLIP's own: beyond it training becomes unstable
BETAS = (0.9, 0.98)  # CLIP's for the convolutional models

OnEpoch = Callable[[int, dict[str, float]], None]


@dataclass(frozen=True)
class PretrainingSettings:
    """How to train; the defaults suit some thousands of small pictures on two cores.

    Attributes:
        epochs: Passes over the pairs; 16 of 3,750 pairs take about a minute on two cores.
        batch_size: Each pair is told from this many; with fewer, colour alone tells them apart.
        learning_rate: Peak; twice as much learns slower here, as does half.
        weight_decay: Of matrices and kernels; strong, as thousands of pictures are soon learned by heart.
        warmup_steps: To the peak; Adam's estimates are poor before.
        seed: Of initial weights, order, augmentation and choice of captions.
        threads: Results repeat exactly for the same seed and number of threads.
        shift: Random shift in every direction, as a share of the side; keeps "left" and "right" true.
        brightness: Random change of exposure, as a share; colours keep their names.
        flip: Mirrors half the images. Off, as it makes "left" and "right" false.
    """

    epochs: int = 16
    batch_size: int = 128
    learning_rate: float = 2e-3
    weight_decay: float = 3.0
    warmup_steps: int = 60
    seed: int = 0
    threads: int = 2
    shift: float = 0.09
    brightness: float = 0.1
    flip: bool = False


@dataclass(frozen=True)
class _Pairs:
    """A corpus in memory.

    Attributes:
        pixels: uint8 [n, 3, height, width].
        tokens: int64 [captions, context length], captions of a pair in a row.
        first: int64 [n], row of each pair's first caption.
        captions: int64 [n], how many captions each pair has.
        mean: float32 [1, 3, 1, 1], of the pixels as the model expects them.
        std: Likewise.
    """

    pixels: torch.Tensor
    tokens: torch.Tensor
    first: torch.Tensor
    captions: torch.Tensor
    mean: torch.Tensor
    std: torch.Tensor


def pretrain(
    images: Sequence[bytes],
    texts: Sequence[str | Sequence[str]],
    model_name: str,
    settings: PretrainingSettings,
    on_epoch: OnEpoch | None = None,
) -> torch.nn.Module:
    """An open_clip model trained from random weights on pairs of images and texts, in eval mode.

    Args:
        images: Encoded, in any format, mode and size; prepared as extraction prepares them.
        texts: As many; of several captions of an image each epoch draws one.
        model_name: An architecture as `resolve_architecture` takes it, such as "xhash-tiny".
        settings: See there. Equal settings and threads give equal weights on one machine.
        on_epoch: Called after each epoch with its number from 0 and its loss, logit scale and learning rate.

    Raises:
        BadInput: for lengths that differ, fewer than two pairs, an image that cannot be decoded, an unknown
            architecture, more pixels than PIXELS_LIMIT_BYTES, and a loss that is no longer finite.
    """
    _check(images, texts, settings)
    with _reproducible(settings.seed, settings.threads):
        name = resolve_architecture(model_name)
        model: Any = open_clip.create_model(name)
        _wake_residual_branches(model)
        facts = EncoderFacts(name, "", "", 0, open_clip.get_model_preprocess_cfg(model))
        pairs = _prepare(images, texts, facts)
        # Convolutions on CPUs are about twice as fast with the channels innermost.
        model = model.to(memory_format=torch.channels_last).train()
        _train(model, pairs, settings, on_epoch)
        return model.to(memory_format=torch.contiguous_format).eval()


def _check(images: Sequence[bytes], texts: Sequence[Any], settings: PretrainingSettings) -> None:
    """Refuses what cannot be trained on, before anything is decoded."""
    if len(images) != len(texts) or len(images) < 2:
        found = f"{len(images)} images and {len(texts)} texts"
        raise BadInput("pretraining", found, "Give two or more images, and texts for each")
    if any(not text for text in texts):
        raise BadInput("pretraining", "a pair without any text", "Leave such pairs out")
    if settings.epochs < 1 or settings.batch_size < 2:
        found = f"epochs {settings.epochs}, batch_size {settings.batch_size}"
        raise BadInput("settings of pretraining", found, "Give at least 1 epoch and batches of at least 2")


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


def _wake_residual_branches(model: torch.nn.Module) -> None:
    """Starts ResNet blocks at full strength, where open_clip starts them at zero.

    Zero suits deep networks and long training; one block a stage spends most of a short training on waking up.
    """
    for name, parameter in model.named_parameters():
        if name.endswith("bn3.weight"):
            torch.nn.init.ones_(parameter)


def _prepare(images: Sequence[bytes], texts: Sequence[str | Sequence[str]], facts: EncoderFacts) -> _Pairs:
    """Decodes and tokenises a whole corpus."""
    preprocessor, shape = Preprocessor(facts), facts.image_shape
    size_bytes = len(images) * math.prod(shape)
    if size_bytes > PIXELS_LIMIT_BYTES:
        found = f"{size_bytes:,} bytes of pixels, more than {PIXELS_LIMIT_BYTES:,}"
        raise BadInput(f"{len(images):,} images in memory", found, "Train on a part, or use a published model")
    pixels = torch.empty((len(images), *shape), dtype=torch.uint8)
    for row, image in enumerate(images):
        pixels[row] = _decoded(row, image, preprocessor)
    captions = [[text] if isinstance(text, str) else list(text) for text in texts]
    counts = torch.tensor([len(each) for each in captions])
    tokens = torch.from_numpy(preprocessor.tokens([text for each in captions for text in each])).long()
    mean, std = (torch.tensor(facts.preprocessing[key]).reshape(1, 3, 1, 1) for key in ("mean", "std"))
    return _Pairs(pixels, tokens, counts.cumsum(0) - counts, counts, mean, std)


def _decoded(row: int, image: bytes, preprocessor: Preprocessor) -> torch.Tensor:
    """One image as uint8 [3, height, width]."""
    try:
        return torch.from_numpy(preprocessor.image(image).copy())
    except ValueError as error:
        raise BadInput(f"image {row} of the training pairs", str(error), "Leave it out, or repair it") from None


def _optimizer(model: torch.nn.Module, settings: PretrainingSettings) -> torch.optim.AdamW:
    """AdamW that decays matrices and kernels, not embeddings of rare words, gains, biases or the logit scale."""
    decayed: list[torch.Tensor] = []
    kept: list[torch.Tensor] = []
    for name, parameter in model.named_parameters():
        (decayed if parameter.ndim >= 2 and "embedding" not in name else kept).append(parameter)
    groups = [{"params": decayed, "weight_decay": settings.weight_decay}, {"params": kept, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=settings.learning_rate, betas=BETAS, fused=True)


def _schedule(optimizer: torch.optim.Optimizer, warmup: int, total: int) -> torch.optim.lr_scheduler.LambdaLR:
    """Linear warm-up, then half a cosine down to zero."""

    def factor(step: int) -> float:
        return min((step + 1) / max(1, warmup), 0.5 * (1 + math.cos(math.pi * step / total)))

    return torch.optim.lr_scheduler.LambdaLR(optimizer, factor)


def _train(
    model: Any,
    pairs: _Pairs,
    settings: PretrainingSettings,
    on_epoch: OnEpoch | None,
) -> None:
    """Runs all epochs; the last, incomplete batch of an epoch is left out, as its loss is not comparable."""
    generator = torch.Generator().manual_seed(settings.seed)
    size = min(settings.batch_size, len(pairs.pixels))
    steps = len(pairs.pixels) // size
    optimizer = _optimizer(model, settings)
    schedule = _schedule(optimizer, settings.warmup_steps, steps * settings.epochs)
    for epoch in range(settings.epochs):
        order = torch.randperm(len(pairs.pixels), generator=generator)[: steps * size].split(size)
        losses = [_step(model, pairs, rows, settings, generator, optimizer, schedule) for rows in order]
        facts = {"loss": sum(losses) / steps, "logit_scale": math.exp(model.logit_scale.item())}
        if not math.isfinite(facts["loss"]):
            raise BadInput("pretraining", f"loss {facts['loss']} in epoch {epoch}", "Lower learning_rate")
        if on_epoch is not None:
            on_epoch(epoch, {**facts, "learning_rate": float(schedule.get_last_lr()[0])})


def _step(
    model: Any,
    pairs: _Pairs,
    rows: torch.Tensor,
    settings: PretrainingSettings,
    generator: torch.Generator,
    optimizer: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.LambdaLR,
) -> float:
    """One step on the pairs `rows`; its loss."""
    chosen = (torch.rand(len(rows), generator=generator) * pairs.captions[rows]).long()
    tokens = pairs.tokens[pairs.first[rows] + chosen]
    pixels = (augmented(pairs.pixels[rows], settings, generator) - pairs.mean) / pairs.std
    image, text, scale = model(pixels.contiguous(memory_format=torch.channels_last), tokens)
    loss = ClipLoss()(image, text, scale)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    schedule.step()
    with torch.no_grad():
        model.logit_scale.clamp_(0, LOGIT_SCALE_LIMIT)
    return float(loss.item())


def augmented(pixels: torch.Tensor, settings: PretrainingSettings, generator: torch.Generator) -> torch.Tensor:
    """Shifted (the border repeats), re-exposed, perhaps mirrored: uint8 [b, 3, h, w] -> float32, as many, 0..1."""
    count, _, height, width = pixels.shape
    reach = round(settings.shift * height)
    padded = torch.nn.functional.pad(pixels.float(), (reach,) * 4, mode="replicate") if reach else pixels.float()
    corners = torch.randint(2 * reach + 1, (count, 2), generator=generator).tolist()
    shifted = torch.stack([padded[row, :, y : y + height, x : x + width] for row, (y, x) in enumerate(corners)])
    if settings.flip:
        mirrored = torch.rand(count, generator=generator) < 0.5
        shifted[mirrored] = shifted[mirrored].flip(-1)
    exposure = 1 + settings.brightness * (2 * torch.rand((count, 1, 1, 1), generator=generator) - 1)
    return (shifted * (exposure / 255)).clamp(max=1)
