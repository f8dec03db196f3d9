"""open_clip behind two calls: `Preprocessor` (CPU: bytes and strings to arrays) and `ClipEncoder` (the model).

They are apart so that decoding and tokenising can run beside the model instead of before it. Together they give
what `open_clip.create_model_and_transforms`, `encode_image` and `encode_text` give on the same input.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import open_clip
import torch
from torch.nn.functional import normalize

from xhash_ray.errors import BadInput
from xhash_ray.features.checkpoints import (
    DIGEST_KEY,
    require_digest,
    resolve_architecture,
    resolve_weights,
    weights_digest,
)
from xhash_ray.features.decoding import planes
from xhash_ray.features.facts import EncoderFacts
from xhash_ray.features.faults import fault_of, unfit
from xhash_ray.features.framing import Framing, decode_one
from xhash_ray.features.tokens import Tokens


class Preprocessor:
    """Encoded images to uint8 arrays, captions to tokens. Needs no weights.

    Args:
        facts: Of the encoder the arrays are for.
    """

    def __init__(self, facts: EncoderFacts) -> None:
        name = resolve_architecture(facts.model, facts.architecture)
        self.framing = Framing(facts.preprocessing)
        self.tokenizer = Tokens(open_clip.get_tokenizer(name))

    def image(self, content: bytes) -> np.ndarray:
        """One encoded image as uint8 [3, height, width], resized and cropped as the model wants it.

        Raises:
            ValueError: when it cannot be decoded, or is larger than PIXEL_LIMIT.
        """
        fault = unfit(content)
        try:
            if fault is None:
                return planes(decode_one(content, self.framing), self.framing)
        except Exception as error:  # Pillow's readers let through whatever their formats run into
            fault = fault_of(error, content)
        known = fault.reason.startswith("image of")
        raise ValueError(fault.reason if known else f"image cannot be decoded: {fault.reason}")

    def tokens(self, texts: Sequence[str]) -> np.ndarray:
        """Captions as int32 [n, context length]; longer ones are cut, as open_clip does."""
        return self.tokenizer(texts)


class ClipEncoder:
    """A CLIP model that gives unit-length features.

    Args:
        model: Architecture name or .json file.
        pretrained: Tag, file or URI of the weights.
        device: "cpu", "cuda", "cuda:1".
        precision: open_clip's: "fp32", "bf16", "fp16".
        stored: Facts that the weights must agree with, when the encoder is loaded to serve a stored model.
        compile: Compiles the model for the shapes it is given, minutes for each that is new; results then differ in
            the last digits. `Embedder` keeps batches of one size.

    Attributes:
        fixed_shapes: Whether batches of another size are dear.

    Raises:
        BadInput: for an unknown architecture or unusable weights.
        Mismatch: when the weights are not those of `stored`.
    """

    def __init__(
        self,
        model: str,
        pretrained: str,
        device: str = "cpu",
        precision: str = "fp32",
        stored: dict[str, Any] | None = None,
        compile: bool = False,
    ) -> None:
        name = resolve_architecture(model, (stored or {}).get("architecture"))
        self.model: Any = load_model(name, pretrained, precision, device)
        self.device, self.dtype = torch.device(device), open_clip.get_input_dtype(precision)
        digest = weights_digest(self.model) if precision == "fp32" else (stored or {}).get(DIGEST_KEY, "")
        require_digest(stored or {}, digest, pretrained)
        preprocessing = open_clip.get_model_preprocess_cfg(self.model)
        self.facts = EncoderFacts(
            name,
            pretrained,
            digest,
            embedding_length(self.model),
            preprocessing,
            open_clip.get_model_config(name) or {},
        )
        self.fixed_shapes = compile
        encode: list[Any] = [self.model.encode_image, self.model.encode_text]
        if compile:
            encode = [torch.compile(each, dynamic=False) for each in encode]
        self.encode_image, self.encode_text = encode
        self.mean = self.column(preprocessing["mean"])
        self.std = self.column(preprocessing["std"])

    @property
    def context_length(self) -> int:
        """Tokens per caption."""
        return int(getattr(self.model, "context_length", 77))

    def column(self, values: Sequence[float]) -> torch.Tensor:
        """Three channel values as a [3, 1, 1] tensor."""
        return torch.tensor(values, device=self.device).reshape(3, 1, 1)

    def moved(self, values: np.ndarray) -> torch.Tensor:
        """An array on the device; to a GPU from pinned memory, so that nobody waits for the copy."""
        tensor = torch.from_numpy(values)
        if self.device.type != "cuda":
            return tensor.to(self.device)
        return tensor.pin_memory().to(self.device, non_blocking=True)

    @torch.inference_mode()
    def image_features(self, pixels: np.ndarray) -> np.ndarray:
        """uint8 [n, 3, height, width] from `Preprocessor.image` -> float32 [n, d], rows of length 1."""
        floats = self.moved(pixels).float().div(255)
        features = self.encode_image(((floats - self.mean) / self.std).to(self.dtype or torch.float32))
        return np.asarray(normalize(features.float(), dim=-1).cpu().numpy())

    @torch.inference_mode()
    def text_features(self, tokens: np.ndarray) -> np.ndarray:
        """int [n, context length] from `Preprocessor.tokens` -> float32 [n, d], rows of length 1."""
        features = self.encode_text(self.moved(tokens.astype(np.int64)))
        return np.asarray(normalize(features.float(), dim=-1).cpu().numpy())


def load_model(name: str, pretrained: str, precision: str, device: str) -> torch.nn.Module:
    """An open_clip model with its weights, in eval mode."""
    weights = resolve_weights(name, pretrained) if pretrained else None
    try:
        model = open_clip.create_model(name, weights, precision=precision, device=device, require_pretrained=True)
    except Exception as error:  # open_clip lets through whatever hub, file and torch raise
        found = " ".join(str(error).split())[:300]
        raise BadInput(
            f"CLIP {name} with weights {pretrained}", found, "Check the name, the file, the network"
        ) from None
    return model.eval()


def embedding_length(model: Any) -> int:
    """Numbers per feature, asked of the model itself."""
    with torch.inference_mode():
        context = getattr(model, "context_length", 77)
        tokens = torch.zeros((1, context), dtype=torch.long, device=next(model.parameters()).device)
        return int(model.encode_text(tokens).shape[-1])
