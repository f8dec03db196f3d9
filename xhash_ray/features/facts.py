"""What made a set of features. Imports little: whoever prepares pairs for a model does not load one."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

DIGEST_KEY = "weights_sha256"


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
