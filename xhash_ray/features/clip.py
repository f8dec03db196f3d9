"""open_clip behind two calls: `Preprocessor` (CPU: bytes and strings to arrays) and `ClipEncoder` (the model).

They are apart so that decoding and tokenising can run beside the model instead of before it. Together they give
what `open_clip.create_model_and_transforms`, `encode_image` and `encode_text` give on the same input.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import open_clip
import torch
from open_clip.transform import PreprocessCfg, image_transform_v2
from torch.nn.functional import normalize

from xhash_ray.errors import BadInput
from xhash_ray.features.checkpoints import (
    DIGEST_KEY,
    require_digest,
    resolve_architecture,
    resolve_weights,
    weights_digest,
)
from xhash_ray.storage.pictures import open_picture


@dataclass(frozen=True)
class EncoderFacts:
    """What made a set of features; travels with them, with models trained on them, and with indexes.

    Attributes:
        model: Architecture name.
        pretrained: Tag, file or URI of the weights, as given.
        weights_sha256: Of the weights themselves, wherever they lie.
        embedding_length: Numbers per feature.
        preprocessing: open_clip's image preprocessing (size, mean, std, interpolation, resize mode).
        architecture: open_clip's config of the model, so that custom ones can be rebuilt.
    """

    model: str
    pretrained: str
    weights_sha256: str
    embedding_length: int
    preprocessing: dict[str, Any] = field(default_factory=dict)
    architecture: dict[str, Any] = field(default_factory=dict)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Channels, height and width of a prepared image."""
        size = self.preprocessing["size"]
        height, width = (size, size) if isinstance(size, int) else size
        return 3, height, width

    def as_json(self) -> dict[str, Any]:
        """Plain values, as stored."""
        return asdict(self)


class Preprocessor:
    """Encoded images to uint8 arrays, captions to tokens. Needs no weights.

    Args:
        facts: Of the encoder the arrays are for.
    """

    def __init__(self, facts: EncoderFacts) -> None:
        name = resolve_architecture(facts.model, facts.architecture)
        steps = image_transform_v2(PreprocessCfg(**facts.preprocessing), is_train=False).transforms
        self.to_rgb = steps[:-2]  # resize, crop, RGB; the last two make floats and normalise, see ClipEncoder
        self.tokenizer = open_clip.get_tokenizer(name)

    def image(self, content: bytes) -> np.ndarray:
        """One encoded image as uint8 [3, height, width], resized and cropped as the model wants it.

        Raises:
            ValueError: when it cannot be decoded, or is larger than PIXEL_LIMIT.
        """
        try:
            with open_picture(content) as image:
                for step in self.to_rgb:
                    image = step(image)
                return np.asarray(image).transpose(2, 0, 1)
        except Exception as error:  # Pillow's readers let through whatever their formats run into
            said = str(error) or type(error).__name__
            raise ValueError(said if said.startswith("image of") else f"image cannot be decoded: {said}") from None

    def tokens(self, texts: Sequence[str]) -> np.ndarray:
        """Captions as int32 [n, context length]; longer ones are cut, as open_clip does."""
        return np.asarray(self.tokenizer(list(texts)).numpy(), dtype=np.int32)


class ClipEncoder:
    """A CLIP model that gives unit-length features.

    Args:
        model: Architecture name or .json file.
        pretrained: Tag, file or URI of the weights.
        device: "cpu", "cuda", "cuda:1".
        precision: open_clip's: "fp32", "bf16", "fp16".
        stored: Facts that the weights must agree with, when the encoder is loaded to serve a stored model.

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
        self.mean = self.column(preprocessing["mean"])
        self.std = self.column(preprocessing["std"])

    @property
    def context_length(self) -> int:
        """Tokens per caption."""
        return int(getattr(self.model, "context_length", 77))

    def column(self, values: Sequence[float]) -> torch.Tensor:
        """Three channel values as a [3, 1, 1] tensor."""
        return torch.tensor(values, device=self.device).reshape(3, 1, 1)

    @torch.inference_mode()
    def image_features(self, pixels: np.ndarray) -> np.ndarray:
        """uint8 [n, 3, height, width] from `Preprocessor.image` -> float32 [n, d], rows of length 1."""
        floats = torch.from_numpy(pixels).to(self.device).float().div(255)
        features = self.model.encode_image(((floats - self.mean) / self.std).to(self.dtype or torch.float32))
        return np.asarray(normalize(features.float(), dim=-1).cpu().numpy())

    @torch.inference_mode()
    def text_features(self, tokens: np.ndarray) -> np.ndarray:
        """int [n, context length] from `Preprocessor.tokens` -> float32 [n, d], rows of length 1."""
        features = self.model.encode_text(torch.from_numpy(tokens.astype(np.int64)).to(self.device))
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


def mean_per_owner(features: np.ndarray, counts: Sequence[int]) -> np.ndarray:
    """Averages several captions' features per pair and normalises: [sum(counts), d] -> [len(counts), d]."""
    starts = np.cumsum([0, *counts[:-1]])
    sums = np.add.reduceat(features, starts, axis=0)
    lengths = np.linalg.norm(sums, axis=1, keepdims=True)
    return np.asarray(sums / np.maximum(lengths, 1e-12), dtype=np.float32)
