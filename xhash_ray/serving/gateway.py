"""The endpoint's work on a request; who encodes and who holds shards is given to it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import Any, Protocol

from xhash_ray.errors import BadInput, Overloaded
from xhash_ray.serving.groups import Kind
from xhash_ray.serving.keys import Keys
from xhash_ray.serving.requests import SearchRequest, decode_code, decode_image
from xhash_ray.serving.router import Merged, Router, Served

HIDDEN = {"encoder", "segments", "tombstones"}  # long, and of use to nobody who searches


class Encoder(Protocol):
    """Queries to codes."""

    async def prepare(self, model_uri: str, fingerprint: str) -> None:
        """Loads a model. Raises what keeps it from that."""

    async def encode(
        self, model_uri: str, fingerprint: str, kind: str, content: Any, modality: str, deadline_s: float
    ) -> bytes:
        """The packed code of a text, an image or a vector."""


class Metrics(Protocol):
    """Counts and times."""

    def refused(self) -> None:
        """Counts a search that could not be answered as it was asked."""

    def searched(self, kind: str, seconds: Mapping[str, float]) -> None:
        """Counts an answered search and the time of its parts."""


class Gateway:
    """Answers requests.

    Args:
        router: To the shards.
        encoder: Of queries.
        keys: Who may ask.
        metrics: Told of every search.
    """

    def __init__(self, router: Router, encoder: Encoder, keys: Keys, metrics: Metrics) -> None:
        self.router, self.encoder, self.keys, self.metrics = router, encoder, keys, metrics

    async def activate(self, number: int | None) -> Served:
        """Serves a generation: its encoder is loaded first, then its shards, then queries go there."""
        chosen = await self.router.chosen(number)
        await self.encoder.prepare(chosen.model_uri, chosen.facts["model_fingerprint"])
        return await self.router.activate(chosen)

    async def search(self, request: SearchRequest) -> dict[str, Any]:
        """The k stored pairs nearest to a query, as `SearchAnswer` has it; encoded and searched in one generation."""
        started_s, served = time.perf_counter(), self.router.ready()
        deadline_s = time.monotonic() + request.timeout_s
        try:
            code = await self.code_of(request, served, deadline_s)
            encoded_s = time.perf_counter()
            merged = await self.router.search(served, kind_of(request), code, deadline_s)
        except (BadInput, Overloaded):
            self.metrics.refused()
            raise
        return self.answered(request, merged, started_s, encoded_s)

    async def search_batch(self, requests: list[SearchRequest]) -> list[dict[str, Any]]:
        """Answers of several queries; those of one kind share a scan."""
        started_s, served = time.perf_counter(), self.router.ready()
        deadline_s = time.monotonic() + max(request.timeout_s for request in requests)
        codes = await asyncio.gather(*(self.code_of(request, served, deadline_s) for request in requests))
        encoded_s = time.perf_counter()
        by_kind: dict[Kind, list[int]] = {}
        for place, request in enumerate(requests):
            by_kind.setdefault(kind_of(request), []).append(place)
        answers: dict[int, Merged] = {}
        for kind, mine in by_kind.items():
            found = await self.router.search_together(served, kind, [codes[place] for place in mine], deadline_s)
            answers |= dict(zip(mine, found, strict=True))
        return [self.answered(request, answers[place], started_s, encoded_s) for place, request in enumerate(requests)]

    def answered(self, request: SearchRequest, merged: Merged, started_s: float, encoded_s: float) -> dict[str, Any]:
        """An answer in full.

        Raises:
            Overloaded: when shards are missing that the request insists on.
        """
        if merged.missing and request.require_complete:
            found = f"shards {', '.join(map(str, merged.missing))} do not answer"
            raise Overloaded("a complete answer", found, "Ask again, or without require_complete")
        now_s = time.perf_counter()
        seconds = {"encode": encoded_s - started_s, "scan": now_s - encoded_s, "total": now_s - started_s}
        self.metrics.searched(request.kind(), seconds)
        answer, generation = merged.answer, merged.served.generation
        hits: list[dict[str, Any]] = [{"id": name, "distance": distance} for distance, name in answer.hits]
        if request.metadata:
            for hit, metadata in zip(hits, answer.metadata, strict=True):
                hit["metadata"] = metadata
        return {
            "hits": hits,
            "kth_distance": answer.hits[-1][0] if answer.hits else None,
            "at_kth": answer.at_kth,
            "target": request.searched(),
            "bits": generation.bits,
            "generation": generation.number,
            "model_fingerprint": generation.facts["model_fingerprint"],
            "shards": generation.shards,
            "complete": not merged.missing,
            "missing_shards": merged.missing,
            "certain": merged.certain,
            "timings_ms": {part: round(value * 1e3, 3) for part, value in seconds.items()},
        }

    async def code_of(self, request: SearchRequest, served: Served, deadline_s: float) -> bytes:
        """The packed code of a query, uint8 [bits / 8] as bytes, by the model of what is served."""
        kind, generation = request.kind(), served.generation
        if kind == "code":
            return decode_code(request.code or "", generation.bits)
        if kind == "id":
            item = await self.router.item(served, request.id or "", deadline_s)
            return bytes.fromhex(item[f"{request.modality()}_code"])
        content: Any = decode_image(request.image) if request.image is not None else request.text or request.vector
        wanted = "" if content is None else content
        fingerprint = generation.facts["model_fingerprint"]
        return await self.encoder.encode(
            generation.model_uri, fingerprint, kind, wanted, request.modality(), deadline_s
        )

    def facts(self) -> dict[str, Any]:
        """What is served."""
        facts = self.router.ready().generation.facts
        return {name: value for name, value in facts.items() if name not in HIDDEN}


def kind_of(request: SearchRequest) -> Kind:
    """What the request must share with others to share their scan."""
    return Kind(request.searched(), request.k, request.filter, request.ties, request.metadata)
