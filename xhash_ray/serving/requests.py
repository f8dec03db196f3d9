"""The shape of the HTTP API: what may be asked, what is answered."""

from __future__ import annotations

import base64
import binascii
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from xhash_ray.errors import BadInput

MAX_K = 10_000
MAX_BATCH = 1024
Modality = Literal["image", "text"]


class SearchRequest(BaseModel):
    """One query: exactly one of text, image, code, vector and id."""

    model_config = ConfigDict(extra="forbid")

    text: str | None = Field(None, description="find images for this text", max_length=10_000)
    image: str | None = Field(None, description="find texts for this image: an encoded file in base64")
    code: str | None = Field(None, description="a packed code in hexadecimal")
    vector: list[float] | None = Field(None, description="a feature as the model was trained on")
    id: str | None = Field(None, description="more like this stored pair")
    source: Modality | None = Field(None, description="modality of code, vector or id; image unless said")
    target: Modality | None = Field(None, description="modality searched; the other one unless said")
    k: int = Field(10, ge=1, le=MAX_K)
    filter: str | None = Field(None, description='such as: category = "shoes" and year >= 2010', max_length=4000)
    metadata: bool = Field(True, description="whether hits come with their metadata")
    ties: bool = Field(False, description="whether codes at the k-th distance are counted")
    require_complete: bool = Field(False, description="503 instead of an answer that lacks shards")
    timeout_s: float = Field(10.0, gt=0, le=60)

    def kind(self) -> str:
        """Which of the five it is.

        Raises:
            BadInput: for none or several.
        """
        given = [name for name in ("text", "image", "code", "vector", "id") if getattr(self, name) is not None]
        if len(given) != 1:
            found = f"{' and '.join(given) or 'none'} given"
            raise BadInput("a search", found, "Give exactly one of text, image, code, vector, id")
        return given[0]

    def modality(self) -> str:
        """The modality of the query."""
        kind = self.kind()
        return kind if kind in ("text", "image") else self.source or "image"

    def searched(self) -> Modality:
        """The modality searched."""
        return self.target or ("image" if self.modality() == "text" else "text")


class FoundPair(BaseModel):
    """A hit."""

    id: str
    distance: int = Field(description="differing bits")
    metadata: dict[str, Any] | None = None


class SearchAnswer(BaseModel):
    """The k nearest, by (distance, id)."""

    hits: list[FoundPair]
    kth_distance: int | None
    at_kth: int | None = Field(description="how many codes lie at the k-th distance, where ties were asked for")
    target: Modality
    bits: int
    generation: int
    model_fingerprint: str
    shards: int
    complete: bool = Field(description="whether every shard has answered")
    missing_shards: list[int]
    certain: int = Field(description="so many first hits are those of a complete answer, whatever is missing")
    timings_ms: dict[str, float]


class BatchRequest(BaseModel):
    """Several queries; those of one target, k and filter share a scan."""

    model_config = ConfigDict(extra="forbid")

    queries: list[SearchRequest] = Field(min_length=1, max_length=MAX_BATCH)


class BatchAnswer(BaseModel):
    """One answer per query, in their order."""

    answers: list[SearchAnswer]


class EncodeAnswer(BaseModel):
    """A query's code."""

    code: str = Field(description="hexadecimal")
    bits: int
    model_fingerprint: str


class Item(BaseModel):
    """A stored pair."""

    id: str
    image_code: str
    text_code: str
    metadata: dict[str, Any]


class ActivateRequest(BaseModel):
    """Which generation to serve."""

    model_config = ConfigDict(extra="forbid")

    generation: int | None = Field(None, ge=1, description="the current one unless said")


def decode_image(text: str) -> bytes:
    """The bytes of a base64 image.

    Raises:
        BadInput: for text that is not base64, or empty.
    """
    try:
        content = base64.b64decode(text.split(",", 1)[-1] if text.startswith("data:") else text, validate=True)
    except (binascii.Error, ValueError):
        raise BadInput("an image query", "not base64", "Send the encoded image file in base64") from None
    if not content:
        raise BadInput("an image query", "no bytes", "Send the encoded image file in base64")
    return content


def decode_code(text: str, bits: int) -> bytes:
    """The bytes of a hexadecimal code.

    Raises:
        BadInput: for text that is not hexadecimal or of another length than the index.
    """
    try:
        code = bytes.fromhex(text)
    except ValueError:
        raise BadInput("a code query", "not hexadecimal", f"Send {bits // 4} hexadecimal digits") from None
    if len(code) * 8 != bits:
        raise BadInput("a code query", f"{len(code) * 8} bits", f"Send {bits // 4} hexadecimal digits ({bits} bits)")
    return code
