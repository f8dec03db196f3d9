"""Queries to codes: CLIP, then the hash functions. One object, used by the endpoint's encoder deployment."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from xhash_ray.core import bits as packed
from xhash_ray.errors import BadInput, Mismatch, XhashError
from xhash_ray.methods.artefacts import to_method
from xhash_ray.serving.answers import Query
from xhash_ray.storage.artefact import read_artefact

if TYPE_CHECKING:
    from xhash_ray.features.clip import ClipEncoder


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
            from xhash_ray.features.clip import (  # three seconds that only they pay who have one
                ClipEncoder,
                Preprocessor,
            )

            device = "cuda" if torch.cuda.is_available() else "cpu"
            self.clip = ClipEncoder(stored["model"], pretrained or stored["pretrained"], device, stored=stored)
            self.preprocessor = Preprocessor(self.clip.facts)
            self.encode("text", ["the first text is slow, so it is this one"], "text")

    def encode(self, kind: str, contents: Sequence[Any], modality: str) -> list[Query | XhashError]:
        """Queries of one kind at once; one that is none costs its neighbours nothing.

        Args:
            kind: "text", "image" or "vector".
            contents: Texts, encoded images, or features.
            modality: Of vectors.
        """
        prepared = [self.prepared(kind, content, modality) for content in contents]
        usable = [each for each in prepared if not isinstance(each, XhashError)]
        made = iter(self.queries(kind, np.stack(usable), modality) if usable else [])
        return [each if isinstance(each, XhashError) else next(made) for each in prepared]

    def prepared(self, kind: str, content: Any, modality: str) -> np.ndarray | XhashError:
        """What the model takes: tokens, pixels or a feature; or why there is none."""
        try:
            if kind == "vector":
                return self.vector(modality, content)
            return self.text(content) if kind == "text" else self.image(content)
        except XhashError as error:
            return error

    def queries(self, kind: str, stacked: np.ndarray, modality: str) -> list[Query]:
        """Prepared contents through CLIP and the hash function."""
        features = stacked
        if kind != "vector":
            encoder, modality = self.encoder(), kind
            features = encoder.text_features(stacked) if kind == "text" else encoder.image_features(stacked)
        with torch.inference_mode():
            outputs = self.method.outputs(modality, torch.from_numpy(features)).float().cpu().numpy()
        rows = zip(packed.pack(outputs), outputs, features, strict=True)
        return [Query(code.tobytes(), output.tobytes(), feature.tobytes()) for code, output, feature in rows]

    def text(self, text: str) -> np.ndarray:
        """The tokens of a text, int32 [context length].

        Raises:
            BadInput: for an empty text, or an index without a text encoder.
        """
        self.encoder()
        if not text.strip():
            raise BadInput("a text query", "an empty text", "Write what to look for")
        tokens: np.ndarray = self.preprocessor.tokens([text])[0]
        return tokens

    def image(self, content: bytes) -> np.ndarray:
        """The pixels of an encoded image, uint8 [3, height, width].

        Raises:
            BadInput: for bytes that are no image, or an index without an image encoder.
        """
        self.encoder()
        try:
            return self.preprocessor.image(content)
        except ValueError as error:
            raise BadInput("an image query", str(error), "Send a JPEG, PNG or WebP file") from None

    def vector(self, modality: str, vector: list[float]) -> np.ndarray:
        """A feature, float32 [d].

        Raises:
            Mismatch: for a feature of another length than the model's.
            BadInput: for one that is not made of numbers.
        """
        length = self.facts[f"{modality}_length"]
        if len(vector) != length:
            raise Mismatch(f"an {modality} vector query", f"{len(vector)} numbers", f"Send {length}")
        with np.errstate(over="ignore"):
            feature = np.asarray(vector, dtype=np.float32)
        if not np.isfinite(feature).all():
            found = "NaN, infinity, or numbers beyond float32"
            raise BadInput(f"an {modality} vector query", found, "Send finite numbers")
        return feature

    def encoder(self) -> ClipEncoder:
        """The CLIP model, or BadInput when the index was built from other features."""
        if self.clip is None:
            found = "its features came without an encoder"
            raise BadInput("a text or image query to this index", found, "Send a vector, a code or an id")
        return self.clip
