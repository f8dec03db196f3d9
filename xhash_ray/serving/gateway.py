"""The endpoint's work on a request; who encodes and who holds shards is given to it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from xhash_ray import telemetry
from xhash_ray.errors import BadInput, Overloaded
from xhash_ray.serving.answers import Answer, Kind, Query
from xhash_ray.serving.keys import Keys
from xhash_ray.serving.observing import Spent, added, counted, parts_of, report_parts
from xhash_ray.serving.requests import SearchRequest, decode_code, decode_image
from xhash_ray.serving.router import Merged, Router, Served
from xhash_ray.serving.sampling import QuerySample
from xhash_ray.serving.thumbnails import Thumbnails
from xhash_ray.storage.codes import FEATURE_COLUMNS

MOST_HITS = 200_000
HIDDEN = {"encoder", "segments", "tombstones"}  # long, and of use to nobody who searches


class Encoder(Protocol):
    """Texts, images and vectors to queries."""

    async def prepare(self, model_uri: str, fingerprint: str) -> None:
        """Loads a model. Raises what keeps it from that."""

    async def encode(
        self, model_uri: str, fingerprint: str, kind: str, content: Any, modality: str, deadline_s: float
    ) -> Query:
        """The code of a text, an image or a vector, and what it came from."""


class Memory(Protocol):
    """A place that outlives a gateway and remembers what is served; see memory.py."""

    async def recall(self) -> int | None:
        """The generation last remembered, None where nothing is. Raises Lost when nobody answers."""

    async def remember(self, generation: int) -> None:
        """Keeps a generation's number. Raises nothing: who forgets is told again."""


class Gateway:
    """Answers requests.

    Args:
        router: To the shards.
        encoder: Of queries.
        keys: Who may ask.
        thumbnails: Of the pairs' images, where there are any.
        memory: Told what is served, where there is one.

    Attributes:
        changing: Held by whoever changes what is served, one at a time.
        sample: Codes of the last queries.
    """

    def __init__(
        self,
        router: Router,
        encoder: Encoder,
        keys: Keys,
        thumbnails: Thumbnails | None = None,
        memory: Memory | None = None,
    ) -> None:
        self.router, self.encoder, self.keys = router, encoder, keys
        self.thumbnails, self.memory = thumbnails, memory
        self.changing, self.sample = asyncio.Lock(), QuerySample()

    async def activate(self, number: int | None) -> Served:
        """Serves a generation: its encoder and its shards are loaded side by side, then queries go there.

        Raises:
            XhashError: when either cannot be; then the old one stays.
        """
        started_s, swaps, outcome = time.perf_counter(), self.router.served is not None, "failed"
        try:
            flipped = self.router.flip(await self.prepared(number))
            outcome = "ok"
            return flipped
        finally:
            if swaps:  # the first one changes nothing that anybody was asking
                telemetry.observe("xhash_swap_seconds", time.perf_counter() - started_s, outcome=outcome)

    async def prepared(self, number: int | None) -> Served:
        """A generation, ready to be served. Errors as of `activate`."""
        chosen = await self.router.chosen(number)
        encoder = self.encoder.prepare(chosen.model_uri, chosen.facts["model_fingerprint"])
        prepared, encoding = await asyncio.gather(self.router.prepare(chosen), encoder, return_exceptions=True)
        for each in (prepared, encoding):  # both have ended: nothing is loaded behind the next change's back
            if isinstance(each, BaseException):
                raise each
        loaded: Served = prepared
        return loaded

    async def serve(self, number: int | None) -> Served:
        """`activate`, and remembers it; whoever calls holds `changing`."""
        served = await self.activate(number)
        if self.memory is not None:
            await self.memory.remember(served.generation.number)
        return served

    async def search(self, request: SearchRequest) -> dict[str, Any]:
        """The k stored pairs nearest to a query, as `SearchAnswer` has it; encoded and searched in one generation."""
        with counted([request]) as missing:
            started_s, served = time.perf_counter(), self.router.ready()
            deadline_s = time.monotonic() + request.timeout_s
            kind = kind_of(request, served)
            query = await self.query_of(request, served, deadline_s)
            self.keep(request, served, query)
            encode_s = time.perf_counter() - started_s if encodes(request) else 0.0
            merged = await self.router.search(served, kind, query, deadline_s)
            missing.append(merged.missing)
            seconds = parts_of(merged.spent, encode_s, time.perf_counter() - started_s)
            report_parts(seconds)
            return self.answered(request, merged, seconds)

    def keep(self, request: SearchRequest, served: Served, query: Query) -> None:
        """Keeps a query for the health of what is asked; a stored pair's code says nothing new."""
        if request.id is None:
            self.sample.add(served.generation.facts["model_fingerprint"], request.modality(), query.code)

    async def search_batch(self, requests: list[SearchRequest]) -> list[dict[str, Any]]:
        """Answers of several queries; those of one kind share a scan.

        Raises:
            BadInput: for more hits in all than one answer should hold, and as `search` does.
            Overloaded: when too many batches wait, or their time is over before their turn.
        """
        with counted(requests) as missing:
            started_s, served = time.perf_counter(), self.router.ready()
            deadline_s = time.monotonic() + max(request.timeout_s for request in requests)
            kinds = [kind_of(request, served) for request in requests]
            check_size(kinds)
            queries = await asyncio.gather(*(self.query_of(request, served, deadline_s) for request in requests))
            encode_s = time.perf_counter() - started_s if any(map(encodes, requests)) else 0.0
            for request, query in zip(requests, queries, strict=True):
                self.keep(request, served, query)
            found, spent = await self.scanned(served, kinds, queries, deadline_s)
            missing.extend(merged.missing for merged in found)
            seconds = parts_of(spent, encode_s, time.perf_counter() - started_s)
            report_parts(seconds)
            return [self.answered(request, merged, seconds) for request, merged in zip(requests, found, strict=True)]

    async def scanned(
        self, served: Served, kinds: Sequence[Kind], queries: Sequence[Query], deadline_s: float
    ) -> tuple[list[Merged], Spent]:
        """What is found for the queries of a batch, one scan per kind, and where the time of all scans went."""
        by_kind: dict[Kind, list[int]] = {}
        for place, kind in enumerate(kinds):
            by_kind.setdefault(kind, []).append(place)
        answers: dict[int, Merged] = {}
        spent: list[Spent] = []
        for kind, mine in by_kind.items():
            asked = [queries[place] for place in mine]
            found = await self.router.search_together(served, kind, asked, deadline_s)
            answers |= dict(zip(mine, found, strict=True))
            spent.append(found[0].spent)
        return [answers[place] for place in range(len(queries))], added(spent)

    def answered(self, request: SearchRequest, merged: Merged, seconds: Mapping[str, float]) -> dict[str, Any]:
        """An answer in full.

        Args:
            request: What was asked.
            merged: What was found.
            seconds: Where the time of the search, or of its whole batch, went.

        Raises:
            Overloaded: when shards are missing that the request insists on.
        """
        if merged.missing and request.require_complete:
            found = f"shards {', '.join(map(str, merged.missing))} do not answer"
            raise Overloaded("a complete answer", found, "Ask again, or without require_complete")
        wait_s = max(0.0, seconds["total"] - seconds["encode"] - seconds["scan"])
        generation = merged.served.generation
        hits = hits_of(merged.answer, request.metadata)
        return {
            "hits": hits,
            "kth_distance": merged.kth,
            "at_kth": merged.answer.at_kth,
            "target": request.searched(),
            "bits": generation.bits,
            "generation": generation.number,
            "model_fingerprint": generation.facts["model_fingerprint"],
            "shards": generation.shards,
            "complete": not merged.missing,
            "missing_shards": merged.missing,
            "certain": merged.certain,
            "timings_ms": {part: round(value * 1e3, 3) for part, value in {**seconds, "wait": wait_s}.items()},
        }

    async def query_of(self, request: SearchRequest, served: Served, deadline_s: float) -> Query:
        """A query's code, and what it came from, by the model of what is served."""
        kind, generation = request.kind(), served.generation
        if kind == "code":
            if request.rescore:  # here, for in a shared scan it would be everybody's error
                raise BadInput("rescoring a code", "nothing but its bits is known", "Ask by text, image, vector or id")
            return Query(decode_code(request.code or "", generation.bits))
        if kind == "id":
            return await self.query_of_pair(request, served, deadline_s)
        content: Any = decode_image(request.image) if request.image is not None else request.text or request.vector
        wanted = "" if content is None else content
        return await self.encoded(served, kind, wanted, request.modality(), deadline_s)

    async def query_of_pair(self, request: SearchRequest, served: Served, deadline_s: float) -> Query:
        """A stored pair as a query; where it is rescored, its stored feature is what is known of it."""
        identity, modality = request.id or "", request.modality()
        item = await self.router.item(served, identity, deadline_s)
        code = bytes.fromhex(item[f"{modality}_code"])
        if request.rescore is None:
            return Query(code)
        feature = await self.router.feature(served, identity, modality, deadline_s)
        vector = np.frombuffer(feature, np.float32).tolist()
        return (await self.encoded(served, "vector", vector, modality, deadline_s))._replace(code=code)

    async def encoded(self, served: Served, kind: str, content: Any, modality: str, deadline_s: float) -> Query:
        """What the encoder of the generation that is served makes of content."""
        fingerprint = served.generation.facts["model_fingerprint"]
        return await self.encoder.encode(served.generation.model_uri, fingerprint, kind, content, modality, deadline_s)

    def facts(self) -> dict[str, Any]:
        """What is served, and what can be asked of it."""
        served = self.router.ready()
        schema = served.schema
        stored, facts = {*FEATURE_COLUMNS, "id"}, served.generation.facts
        return {
            **{name: value for name, value in facts.items() if name not in HIDDEN},
            "columns": {field.name: str(field.type) for field in schema if field.name not in stored},
            "encodes": ["text", "image", "vector"] if facts.get("encoder") else ["vector"],
            "rescores": ["outputs", *(["features"] if FEATURE_COLUMNS[0] in schema.names else [])],
            "thumbnails": self.thumbnails is not None,
        }


def encodes(request: SearchRequest) -> bool:
    """Whether finding the code of a query takes more than reading it."""
    return request.code is None


def check_size(kinds: Sequence[Kind]) -> None:
    """Raises BadInput for a batch whose answers would take more memory and time than one request should."""
    wanted = sum(kind.k for kind in kinds)
    if wanted > MOST_HITS:
        found = f"{len(kinds):,} queries for {wanted:,} hits and candidates in all"
        raise BadInput("a batch", found, f"Ask for at most {MOST_HITS:,} at once")


def kind_of(request: SearchRequest, served: Served) -> Kind:
    """What the request must share with others to share their scan."""
    kind = Kind(request.searched(), request.scanned(), request.filter, request.ties, request.metadata)
    if request.filter is not None:
        kind = kind._replace(columns=served.schema.serialize().to_pybytes())
    return kind._replace(rescore=request.rescore, keep=request.k) if request.rescore else kind


def hits_of(answer: Answer, metadata: bool) -> list[dict[str, Any]]:
    """Hits as they are sent."""
    hits: list[dict[str, Any]] = [{"id": name, "distance": distance} for distance, name in answer.hits]
    if answer.scores:
        for hit, score in zip(hits, answer.scores, strict=True):
            hit["score"] = round(score, 6)
    if metadata:
        for hit, columns in zip(hits, answer.metadata, strict=True):
            hit["metadata"] = columns
    return hits
