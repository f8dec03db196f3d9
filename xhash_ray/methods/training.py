"""The training loop: one for all methods, one process or many.

The order of pairs is a function of (seed, epoch) alone, and a global batch is cut by rank: W workers take the
same steps on the same batches as one process.
"""

import math
import time
from collections.abc import Callable, Iterator

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from xhash_ray.errors import BadInput, XhashError
from xhash_ray.methods.base import Batch, Method, World

OnEpoch = Callable[[int, dict[str, float]], None]


def batches(n: int, batch_size: int, world: World, seed: int, epoch: int) -> Iterator[Int64[Tensor, " rows"]]:
    """This worker's row numbers of each global batch of an epoch; the last, partial batch is left out."""
    generator = torch.Generator().manual_seed(seed * 1_000_003 + epoch)
    order = torch.randperm(n, generator=generator)
    for start in range(0, n - batch_size + 1, batch_size):
        yield world.own(order[start : start + batch_size])


def check_batches(n: int, batch_size: int, workers: int) -> None:
    """Raises BadInput when there are fewer pairs than a batch, or a batch cannot be shared evenly."""
    if n < batch_size:
        raise BadInput(
            "training",
            f"{n} pairs for batches of {batch_size}",
            "Give more pairs or --set settings.batch_size",
        )
    if batch_size % workers:
        found = f"a batch of {batch_size} pairs for {workers} workers"
        raise BadInput("training", found, "Make settings.batch_size a multiple of --workers")


def fit(
    method: Method,
    image: Float[Tensor, "n d_i"],
    text: Float[Tensor, "n d_t"],
    world: World,
    seed: int,
    on_epoch: OnEpoch,
) -> None:
    """Trains a method in place.

    Args:
        method: Freshly created, with the same weights on every worker.
        image: float32 [n, d_i], all training rows.
        text: float32 [n, d_t], row i paired with row i of image.
        world: Who shares the batches.
        seed: Decides the order of pairs and whatever the method draws.
        on_epoch: Called with the epoch, from 0, and its mean terms, `loss` and `pairs_per_s`.

    Raises:
        BadInput: for fewer pairs than a batch.
        XhashError: when the loss stops being a number.
    """
    settings = method.settings
    check_batches(len(image), settings.batch_size, world.size)
    method.prepare(image, text, seed)
    optimizers = {phase: method.optimizer_of(phase) for phase in method.phases}
    for epoch in range(settings.epochs):
        method.train()
        method.start_epoch(epoch)
        started_s = time.perf_counter()
        sums: dict[str, Tensor] = {}
        steps = 0
        for rows in batches(len(image), settings.batch_size, world, seed, epoch):
            batch = Batch(image[rows], text[rows])
            for phase, optimizer in optimizers.items():
                add(sums, step(method, batch, phase, optimizer, world))
            steps += 1
        means = world.mean(torch.stack(list(sums.values())) / steps).tolist() if sums else []
        pairs_per_s = steps * settings.batch_size / (time.perf_counter() - started_s)
        on_epoch(epoch, report(dict(zip(sums, means, strict=True)), pairs_per_s))
    method.eval()


def step(method: Method, batch: Batch, phase: str, optimizer: torch.optim.Optimizer, world: World) -> dict[str, Tensor]:
    """One gradient step of one phase; returns its terms."""
    optimizer.zero_grad(set_to_none=True)
    terms = method(batch, phase, world)
    torch.stack(list(terms.values())).sum().backward()
    world.average_gradients(method)
    optimizer.step()
    return {name: value.detach() for name, value in terms.items()}


def add(sums: dict[str, Tensor], terms: dict[str, Tensor]) -> None:
    """Adds terms to running sums, on their device."""
    for name, value in terms.items():
        sums[name] = sums[name] + value if name in sums else value


def report(means: dict[str, float], pairs_per_s: float) -> dict[str, float]:
    """Mean terms of an epoch with their sum and the speed.

    Raises:
        XhashError: when a term is not a number.
    """
    loss = sum(means.values(), 0.0)
    if not math.isfinite(loss):
        raise XhashError("training", f"the loss is {loss}", "Lower settings.learning_rate or check the features")
    return {"loss": loss, **means, "pairs_per_s": pairs_per_s}
