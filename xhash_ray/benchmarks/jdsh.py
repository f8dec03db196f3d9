"""`xhash bench jdsh`: epochs of JDSH on one feature set, the way of the paper's public code beside ours.

The public loop is written out here as it takes its steps: two optimisers, batches of 32, 4,096 hidden units, S and the
loss on features in memory. It is timed, never used. Rounds alternate, so that a machine that drifts drifts for all.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import mse_loss, normalize

from xhash_ray import methods
from xhash_ray.learning.loop import Loop
from xhash_ray.learning.sources import Resident
from xhash_ray.methods.base import Shape, World
from xhash_ray.methods.jdsh import PUBLISHED
from xhash_ray.options.bench import BenchJdsh
from xhash_ray.progress import Progress
from xhash_ray.storage.features import load_features

PUBLIC_BATCH, PUBLIC_HIDDEN, PUBLIC_RATE = 32, 4096, 0.01
FAST = {"batch_size": 256, "learning_rate": 0.05}  # jobs/recipes/fast/jdsh.toml
SEED = 1


def bench_jdsh(options: BenchJdsh) -> dict[str, Any]:
    """Times epochs of the public loop, of JDSH with its defaults and with the fast setting, in turn.

    Returns:
        `pairs`, `bits`, `threads`, `rows`: loop, seconds of an epoch (median over rounds), pairs/s, and how many times
        the public loop's that is.

    Raises:
        BadInput: for features that cannot be read, or fewer pairs than a batch.
    """
    features = load_features(options.features)
    image, text = torch.from_numpy(features.image), torch.from_numpy(features.text)
    torch.set_num_threads(options.threads)
    same_size = {"batch_size": PUBLIC_BATCH, "hidden": PUBLIC_HIDDEN}
    loops: dict[str, Callable[[], float]] = {
        "public loop": lambda: public_epoch(image, text, options.bits),
        "xhash, the same sizes": lambda: our_epoch(image, text, options.bits, same_size),
        "xhash, defaults": lambda: our_epoch(image, text, options.bits, {}),
        "xhash, fast setting": lambda: our_epoch(image, text, options.bits, FAST),
    }
    seconds: dict[str, list[float]] = {name: [] for name in loops}
    progress = Progress("bench jdsh", 1 + options.rounds, "rounds")
    for number in range(1 + options.rounds):
        for name, epoch in loops.items():
            seconds[name].append(epoch())
        progress.say("warmed up" if number == 0 else f"round {number} of {options.rounds}")
    rows = table({name: statistics.median(each[1:]) for name, each in seconds.items()}, len(image))
    return {"pairs": len(image), "bits": options.bits, "threads": options.threads, "rows": rows}


def table(seconds: dict[str, float], pairs: int) -> list[dict[str, Any]]:
    """One row per loop; the first is what the others are compared with."""
    base = next(iter(seconds.values()))
    return [
        {
            "loop": name,
            "epoch_s": round(each, 3),
            "pairs_per_s": round(pairs / each, 1),
            "times_public": round(base / each, 2),
        }
        for name, each in seconds.items()
    ]


def our_epoch(image: Tensor, text: Tensor, bits: int, settings: dict[str, Any]) -> float:
    """Seconds of one epoch of `Loop`; fitting and the making of the nets are not timed, as in the public loop."""
    torch.manual_seed(SEED)
    method = methods.create("jdsh", Shape(bits, image.shape[1], text.shape[1]), {**settings, "epochs": 1})
    source = Resident(image, text, None, method.settings.batch_size, SEED, World())
    speeds: list[float] = []
    Loop(method, source, World(), SEED, lambda _, report: speeds.append(report["pairs_per_s"])).run()
    return len(image) / speeds[0]


def public_epoch(image: Tensor, text: Tensor, bits: int, epoch: int = 0) -> float:
    """Seconds of one epoch of the public loop."""
    torch.manual_seed(SEED)
    image = image * (math.sqrt(image.shape[1]) / image.norm(dim=1).mean())
    image_net = nn.Linear(image.shape[1], bits)
    text_net = nn.Sequential(nn.Linear(text.shape[1], PUBLIC_HIDDEN), nn.ReLU(), nn.Linear(PUBLIC_HIDDEN, bits))
    optimizers = [
        torch.optim.SGD(net.parameters(), lr=PUBLIC_RATE, momentum=0.9, weight_decay=5e-4)
        for net in (image_net, text_net)
    ]
    a, order = math.sqrt(epoch + 1), torch.randperm(len(image))
    started_s = time.perf_counter()
    for start in range(0, len(image) - PUBLIC_BATCH + 1, PUBLIC_BATCH):
        rows = order[start : start + PUBLIC_BATCH]
        F_I, F_T = image[rows], text[rows]
        for optimizer in optimizers:
            optimizer.zero_grad()
        S = public_similarity(F_I, F_T)
        public_loss(torch.tanh(a * image_net(F_I)), torch.tanh(a * text_net(F_T)), S).backward()
        for optimizer in optimizers:
            optimizer.step()
    return time.perf_counter() - started_s


def public_similarity(F_I: Float[Tensor, "n d_I"], F_T: Float[Tensor, "n d_T"]) -> Float[Tensor, "n n"]:
    """S with the constants of MIRFlickr-25K."""
    t = PUBLISHED["mirflickr"]
    F_I, F_T = normalize(F_I), normalize(F_T)
    S_I, S_T = 2 * F_I @ F_I.T - 1, 2 * F_T @ F_T.T - 1
    S_C = normalize(S_I) @ normalize(S_T).T
    S = 0.5 * S_I + 0.1 * S_T + 0.4 * (S_C + S_C.T) / 2
    apart, alike = (1 + 0.1 * torch.exp(-(S - t.lowest))) * S, (1 + 0.2 * torch.exp(S - t.highest)) * S
    return 1.4 * torch.where(t.left > S, apart, torch.where(t.right < S, alike, S))


def public_loss(code_I: Float[Tensor, "n bits"], code_T: Float[Tensor, "n bits"], S: Float[Tensor, "n n"]) -> Tensor:
    """The five terms."""
    B_I, B_T = normalize(code_I), normalize(code_T)
    inside = mse_loss(B_I @ B_I.T, S) + mse_loss(B_T @ B_T.T, S)
    across = mse_loss(B_I @ B_T.T, S) + mse_loss(B_T @ B_I.T, S)
    return 0.1 * inside + across - (B_I * B_T).sum(dim=1).mean()
