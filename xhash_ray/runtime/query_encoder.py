"""Queries to codes: CLIP, then the hash functions. One object, used by the endpoint's encoder deployment."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from xhash_ray.errors import BadInput, Mismatch
from xhash_ray.features.clip import ClipEncoder, Preprocessor
from xhash_ray.methods.artefacts import to_method
from xhash_ray.storage.artefact import read_artefact


class QueryEncoder:
    """Encodes texts, images and features as the index's pairs were encoded.

    Args:
        model_uri: The index's copy of the model folder.
        pretrained: Where the CLIP weights lie now, None for where they lay at extraction.
        threads: CPU threads.

    Raises:
        Mismatch: when the CLIP weights are not those that made the features.
    """

    def __init__(self, model_uri: str, pretrained: str | None, threads: int) -> None:
        torch.set_num_threads(threads)
        artefact = read_artefact(model_uri)
        self.facts = artefact.facts
        self.method = to_method(artefact)
        self.clip: ClipEncoder | None = None
        stored: dict[str, Any] = self.facts.get("encoder") or {}
        if stored:
            device = "cuda" if torch.cuda.is_available() else "cpu"
            self.clip = ClipEncoder(stored["model"], pretrained or stored["pretrained"], device, stored=stored)
            self.preprocessor = Preprocessor(self.clip.facts)
            self.text("the first text is slow, so it is this one")

    def text(self, text: str) -> bytes:
        """The code of a text.

        Raises:
            BadInput: for an empty text, or an index without a text encoder.
        """
        if not text.strip():
            raise BadInput("a text query", "an empty text", "Write what to look for")
        return self.hashed("text", self.encoder().text_features(self.preprocessor.tokens([text])))

    def image(self, content: bytes) -> bytes:
        """The code of an encoded image.

        Raises:
            BadInput: for bytes that are no image, or an index without an image encoder.
        """
        encoder = self.encoder()
        try:
            pixels = self.preprocessor.image(content)
        except ValueError as error:
            raise BadInput("an image query", str(error), "Send a JPEG, PNG or WebP file") from None
        return self.hashed("image", encoder.image_features(pixels[None].copy()))

    def vector(self, modality: str, vector: list[float]) -> bytes:
        """The code of a feature.

        Raises:
            Mismatch: for a feature of another length than the model's.
            BadInput: for one that is not made of numbers.
        """
        length = self.facts[f"{modality}_length"]
        if len(vector) != length:
            raise Mismatch(f"an {modality} vector query", f"{len(vector)} numbers", f"Send {length}")
        feature = np.asarray([vector], dtype=np.float32)
        if not np.isfinite(feature).all():
            raise BadInput(f"an {modality} vector query", "NaN or infinity", "Send numbers")
        return self.hashed(modality, feature)

    def encoder(self) -> ClipEncoder:
        """The CLIP model, or BadInput when the index was built from other features."""
        if self.clip is None:
            found = "its features came without an encoder"
            raise BadInput("a text or image query to this index", found, "Send a vector, a code or an id")
        return self.clip

    def hashed(self, modality: str, features: np.ndarray) -> bytes:
        """The packed code of one feature row."""
        return bytes(self.method.encode(modality, torch.from_numpy(features))[0].tobytes())
