"""What workers of one training exchange: rows with gradients, and gradients. The only torch.distributed here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from xhash_ray.methods.base import World


class GatherRows(torch.autograd.Function):
    """All workers' rows; backwards, each worker's rows receive the sum of what every worker wants of them."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> Tensor:
        """[n, d] -> [workers * n, d] in the order of ranks."""
        ctx.n = rows.shape[0]
        gathered = [torch.empty_like(rows) for _ in range(dist.get_world_size())]
        dist.all_gather(gathered, rows.contiguous())
        return torch.cat(gathered)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        """Sums over workers, then takes this worker's part."""
        total = gradients[0].contiguous()
        dist.all_reduce(total)
        start = dist.get_rank() * ctx.n
        return total[start : start + ctx.n]


class DistributedWorld(World):
    """The workers of the current torch.distributed process group.

    Each computes its rows of a batch similarity matrix against all columns and the mean over its rows. The mean of
    the workers' gradients is then the gradient of the global batch.
    """

    def __init__(self) -> None:
        self.rank, self.size = dist.get_rank(), dist.get_world_size()

    def gather(self, rows: Tensor) -> Tensor:
        """Every worker's rows, with gradients."""
        gathered: Tensor = GatherRows.apply(rows)
        return gathered

    def mean(self, values: Tensor) -> Tensor:
        """The mean over workers."""
        total = values.clone()
        dist.all_reduce(total)
        return total / self.size

    def average_gradients(self, parameters: Sequence[nn.Parameter]) -> None:
        """One exchange of all gradients; parameters that no term touched take no part."""
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        if not gradients:
            return
        flat = torch.cat([gradient.reshape(-1) for gradient in gradients])
        dist.all_reduce(flat)
        flat /= self.size
        parts = flat.split([gradient.numel() for gradient in gradients])
        for gradient, part in zip(gradients, parts, strict=True):
            gradient.copy_(part.view_as(gradient))


def current_world() -> World:
    """The process group's world, or a world of one."""
    return DistributedWorld() if dist.is_initialized() and dist.get_world_size() > 1 else World()
