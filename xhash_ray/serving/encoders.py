"""Contents to queries in this process, and which generation is served: what an encoder deployment does, without Ray."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from xhash_ray.errors import XhashError
from xhash_ray.serving.answers import Query
from xhash_ray.serving.coalescing import Coalescer
from xhash_ray.serving.kept import Kept

if TYPE_CHECKING:
    from xhash_ray.serving.query_encoder import QueryEncoder

KEPT_ENCODERS = 2
BATCH, WAITING = 32, 256


class EncoderServer:
    """The models of the generation that is served and of the one before it, and a memory of which that is.

    Args:
        pretrained: Where the CLIP weights lie now, None for where they lay at extraction.
        threads: CPU threads.
    """

    def __init__(self, pretrained: str | None, threads: int) -> None:
        self.pretrained, self.threads = pretrained, threads
        self.encoders: Kept[str, QueryEncoder] = Kept(KEPT_ENCODERS)
        self.coalescer = Coalescer(self.encode_together, most=BATCH, bound=WAITING)
        self.remembered: tuple[int, int] | None = None

    def recall(self) -> tuple[int, int] | None:
        """When (in nanoseconds since 1970) which generation was activated last."""
        return self.remembered

    def remember(self, activated: tuple[int, int]) -> None:
        """Keeps what `recall` gives, unless something later is known."""
        self.remembered = max(activated, self.remembered or activated)

    def encoder(self, model_uri: str, fingerprint: str) -> QueryEncoder:
        """The encoder of a model, loaded where it is not there.

        Raises:
            XhashError: when the folder holds another model.
        """
        return self.encoders.get(fingerprint, lambda: self.loaded(model_uri, fingerprint))

    def loaded(self, model_uri: str, fingerprint: str) -> QueryEncoder:
        """The encoder of a model, read from storage. Errors as of `encoder`."""
        from xhash_ray.serving.query_encoder import QueryEncoder  # torch: only this process pays its five seconds

        made = QueryEncoder(model_uri, self.pretrained, self.threads)
        if made.facts["fingerprint"] != fingerprint:
            found = f"{model_uri} holds model {made.facts['fingerprint'][:12]}"
            raise XhashError(f"model {fingerprint[:12]}", found, "Restore the index, or build it again")
        return made

    async def encode(self, asked: tuple[str, str, str, str], content: Any, left_s: float) -> Query:
        """The query that a text, an image or a feature is.

        Args:
            asked: Folder and fingerprint of the model, kind of content, modality: those who share them share a batch.
            content: A text, an encoded image, or numbers.
            left_s: What is past that before its turn is dropped.

        Raises:
            XhashError: for a content that is no query; Overloaded: when too many wait, or the time is over.
        """
        found: Query | XhashError = await self.coalescer.ask(asked, content, time.monotonic() + left_s)
        if isinstance(found, XhashError):
            raise found
        return found

    async def encode_together(self, asked: Any, contents: Sequence[Any]) -> Sequence[Query | XhashError]:
        """A batch through the model."""
        model_uri, fingerprint, kind, modality = asked
        return await asyncio.to_thread(lambda: self.encoder(model_uri, fingerprint).encode(kind, contents, modality))
