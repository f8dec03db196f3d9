"""What the line of DJSRH shares: a net per modality, moved together by SGD, its outputs relaxed to codes."""

import math
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import normalize

from xhash_ray.methods.base import Method, Shape, World
from xhash_ray.methods.blocks import RunningCentre, modal_similarity


class TwoNets(Method):
    """`image_net` and `text_net` over scaled features; a method's own `__init__` makes them.

    Attributes:
        continuation: Whether tanh(a h) approaches sign(h) as a = sqrt(epoch + 1) grows; otherwise a = 1.
        centre_image: Centres the image net's outputs, where a method makes one.
        centre_text: The same for texts.
    """

    continuation: ClassVar[bool] = True
    image_net: nn.Module
    text_net: nn.Module

    def __init__(self, shape: Shape, settings: Any) -> None:
        super().__init__(shape, settings)
        self.centre_image: RunningCentre | None = None  # here, not on the class: that would hide the module from torch
        self.centre_text: RunningCentre | None = None
        self.a = 1.0

    def start_epoch(self, epoch: int) -> None:
        """Continuation."""
        self.a = math.sqrt(epoch + 1) if self.continuation else 1.0

    def optimizer_of(self, phase: str) -> torch.optim.Optimizer:
        """SGD over everything."""
        s = self.settings
        return torch.optim.SGD(
            self.parameters(), lr=s.learning_rate, momentum=s.momentum, weight_decay=s.weight_decay, fused=True
        )

    def centre(self, bits: int, enabled: bool) -> None:
        """Makes both running centres; the layers before them then need no bias."""
        self.centre_image, self.centre_text = RunningCentre(bits, enabled), RunningCentre(bits, enabled)

    def modal_similarities(
        self, F_I: Float[Tensor, "n d_I"], F_T: Float[Tensor, "n d_T"]
    ) -> tuple[Float[Tensor, "n n"], Float[Tensor, "n n"]]:
        """S_I and S_T of features as they arrive: signed ones are centred first (scaling.py)."""
        S_I = modal_similarity(self.scale_image.for_similarity(F_I), bool(self.scale_image.signed))
        S_T = modal_similarity(self.scale_text.for_similarity(F_T), bool(self.scale_text.signed))
        return S_I, S_T

    def relaxed(self, h: Float[Tensor, "n bits"]) -> Float[Tensor, "n bits"]:
        """B of outputs: tanh(a h), rows normalised to length 1."""
        return normalize(torch.tanh(self.a * h))

    def image_outputs(self, image: Float[Tensor, "n d_I"], world: World | None = None) -> Float[Tensor, "n bits"]:
        """h of images; `world` while training."""
        h: Tensor = self.image_net(self.scale_image(image))
        return self.centre_image(h, world) if self.centre_image else h

    def text_outputs(self, text: Float[Tensor, "n d_T"], world: World | None = None) -> Float[Tensor, "n bits"]:
        """h of texts; `world` while training."""
        h: Tensor = self.text_net(self.scale_text(text))
        return self.centre_text(h, world) if self.centre_text else h
