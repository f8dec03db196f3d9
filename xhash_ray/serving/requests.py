"""The shape of the HTTP API: what may be asked, what is answered."""

from __future__ import annotations

import base64
import binascii
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from xhash_ray.errors import BadInput

MAX_K = 10_000
MAX_BATCH = 1024
MAX_BODY_BYTES = 32 * 2**20
CANDIDATES_PER_HIT, MOST_BY_DEFAULT = 10, 1000
Modality = Literal["image", "text"]
Rescoring = Literal["outputs", "features"]


class SearchRequest(BaseModel):
    """One query: exactly one of text, image, code, vector and id."""

    model_config = ConfigDict(extra="forbid")

    text: str | None = Field(None, description="find images for this text", max_length=2_000)
    image: str | None = Field(None, description="find texts for this image: an encoded file in base64")
    code: str | None = Field(None, description="a packed code in hexadecimal")
    vector: list[float] | None = Field(None, description="a feature as the model was trained on", max_length=65_536)
    id: str | None = Field(None, description="more like this stored pair", max_length=1_000)
    source: Modality | None = Field(None, description="modality of code, vector or id; image unless said")
    target: Modality | None = Field(None, description="modality searched; the other one unless said")
    k: int = Field(10, ge=1, le=MAX_K)
    filter: str | None = Field(None, description='such as: category = "shoes" and year >= 2010', max_length=4000)
    rescore: Rescoring | None = Field(
        None,
        description="orders the nearest candidates by what is finer than distance: the query's outputs of the hash "
        "function against stored codes, or the cosine with stored features",
    )
    candidates: int | None = Field(
        None, ge=1, le=MAX_K, description="codes that are rescored; ten times k, at most 1,000, unless said"
    )
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

    def scanned(self) -> int:
        """How many nearest codes are looked for.

        Raises:
            BadInput: for fewer candidates than hits, or candidates that nothing rescores.
        """
        if self.candidates is not None and (self.rescore is None or self.candidates < self.k):
            found = f"candidates {self.candidates}, k {self.k}, rescore {self.rescore or 'none'}"
            raise BadInput("a search", found, "Give candidates only with rescore, at least k of them")
        if self.rescore is None:
            return self.k
        return self.candidates or max(self.k, min(CANDIDATES_PER_HIT * self.k, MOST_BY_DEFAULT))


class FoundPair(BaseModel):
    """A hit."""

    id: str
    distance: int = Field(description="differing bits")
    score: float | None = Field(None, description="where rescored: higher is nearer, and orders the hits")
    metadata: dict[str, Any] | None = None


class SearchAnswer(BaseModel):
    """The k nearest, by (distance, id), or by (score, distance, id) where rescored."""

    hits: list[FoundPair]
    kth_distance: int | None = Field(description="distance of the k-th hit, or of the last candidate where rescored")
    at_kth: int | None = Field(description="how many codes lie at that distance, where ties were asked for")
    target: Modality
    bits: int
    generation: int
    model_fingerprint: str
    shards: int
    complete: bool = Field(description="whether every shard has answered")
    missing_shards: list[int]
    certain: int = Field(description="so many first hits are those of a complete answer, whatever is missing")
    timings_ms: dict[str, float] = Field(
        description="of the search, or of its whole batch: queue, encode, scan (of the slowest group of shards), fetch "
        "(of its metadata), merge (and hops between processes), total; and wait, which is total without encode and scan"
    )


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


class Refusal(BaseModel):
    """Why there is no answer."""

    asked: str
    found: str
    do: str = Field(description="what mends it")


class ErrorAnswer(BaseModel):
    """An error."""

    error: Refusal


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
