"""`xhash exporter`: facts of indexes and artefacts as metrics, by a small process without Ray that looks now and then.

What cannot be read is reported as such, said in one line, and looked for again the next time.
"""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable
from datetime import datetime
from typing import Any
from wsgiref.simple_server import WSGIServer

import prometheus_client

from xhash_ray import telemetry
from xhash_ray.errors import BadInput, BadOption
from xhash_ray.exposition import Registry
from xhash_ray.index import generations, health
from xhash_ray.index.generations import Generation
from xhash_ray.index.segments import MODALITIES, SegmentFacts, checked_file, map_table
from xhash_ray.options import Exporter
from xhash_ray.progress import Progress
from xhash_ray.storage import tables
from xhash_ray.storage import uri as places
from xhash_ray.storage.artefact import FACTS, read_facts
from xhash_ray.storage.codes import to_array
from xhash_ray.storage.versions import infos_of


def export(options: Exporter) -> dict[str, Any]:
    """Serves the facts until Ctrl-C or SIGTERM, or reports them once.

    Returns:
        `places`, `reachable`, how many of them could be read the last time, and `rounds`.

    Raises:
        BadInput: when the port is taken, or there is nothing to look at.
    """
    if not options.index and not options.artefacts:
        raise BadOption("xhash exporter", "nothing to look at", "Give --index URI,... or --artefacts URI,...")
    if not 0 < options.every_s <= threading.TIMEOUT_MAX:
        raise BadOption("xhash exporter", f"--every-s {options.every_s}", "Give seconds above 0")
    watch = Watch(options)
    if options.once:
        watch.look()
        return watch.told()
    registry = Registry()
    server = listen(options, registry)
    try:
        with telemetry.attached(registry):
            watch.until(stop_signal(), options.every_s)
    finally:
        server.shutdown()
        server.server_close()
    return watch.told()


def listen(options: Exporter, registry: Registry) -> WSGIServer:
    """Serves what is reported.

    Raises:
        BadInput: when the port is taken, or the address none of this machine.
    """
    progress = Progress("exporter")
    try:
        server, _ = prometheus_client.start_http_server(options.port, options.host, registry.registry)
    except (OSError, OverflowError) as error:
        found = getattr(error, "strerror", None) or str(error)
        do = "Choose another with --port, or stop what uses it"
        raise BadInput(f"port {options.port} on {options.host}", found, do) from None
    progress.say(f"http://{options.host}:{server.server_port}/metrics; Ctrl-C ends it")
    return server


def stop_signal() -> threading.Event:
    """Set at Ctrl-C or SIGTERM."""
    stopped = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopped.set())
    return stopped


class Watch:
    """What is looked at, and what is known of it.

    Args:
        options: Indexes and artefacts.
    """

    def __init__(self, options: Exporter) -> None:
        self.looks: list[tuple[str, str, Callable[[str], None]]] = [
            *((uri, "index", self.index) for uri in options.index),
            *((uri, "artefact", artefact) for uri in options.artefacts),
        ]
        self.health = options.health
        self.lost: dict[str, str] = {}  # what was said of places that cannot be read
        self.measured: dict[str, tuple[int, dict[str, health.Health]]] = {}
        self.rounds = 0

    def until(self, stopped: threading.Event, every_s: float) -> None:
        """Looks again and again."""
        while not stopped.is_set():
            self.look()
            stopped.wait(every_s)

    def look(self) -> None:
        """Looks once at everything."""
        self.rounds += 1
        for uri, what, report in self.looks:
            try:
                report(uri)
            except Exception as error:  # whatever it is: one place must not silence the others
                self.miss(uri, what, error)
            else:
                telemetry.set(f"xhash_{what}_reachable", 1, **{what: uri})
                if self.lost.pop(uri, None):
                    say(f"{what} at {uri}: there again")

    def miss(self, uri: str, what: str, error: Exception) -> None:
        """A place that cannot be read; said once, as long as it is the same."""
        telemetry.set(f"xhash_{what}_reachable", 0, **{what: uri})
        line = " ".join(str(error).split())[:300] or type(error).__name__
        if self.lost.get(uri) != line:
            say(f"{what} at {uri}: {line}")
        self.lost[uri] = line

    def told(self) -> dict[str, Any]:
        """What the verb says in the end."""
        return {"places": len(self.looks), "reachable": len(self.looks) - len(self.lost), "rounds": self.rounds}

    def index(self, uri: str) -> None:
        """Reports an index."""
        found = generations.current(places.normalise(uri))
        segments, size_bytes = found.segments, sum(each.size_bytes for each in [*found.segments, *found.tombstones])
        telemetry.set("xhash_index_generation", found.number, index=uri)
        telemetry.set("xhash_index_pairs", found.rows, index=uri)
        telemetry.set("xhash_index_deleted_pairs", sum(each.rows for each in segments) - found.rows, index=uri)
        telemetry.set("xhash_index_segments", len(segments), index=uri)
        telemetry.set("xhash_index_bytes", size_bytes, index=uri)
        telemetry.set("xhash_index_committed_timestamp_seconds", found.facts["created_unix_s"], index=uri)
        if self.health:
            for modality, measured in self.health_of(uri, found).items():
                health.report(measured, "index", modality, uri)

    def health_of(self, uri: str, found: Generation) -> dict[str, health.Health]:
        """The health of an index's codes, measured once per generation."""
        known = self.measured.get(uri)
        if known is None or known[0] != found.number:
            known = self.measured[uri] = (found.number, sampled_health(found))
        return known[1]


def sampled_health(found: Generation) -> dict[str, health.Health]:
    """Of a sample of one segment, whose rows are a random part of the index; none for an index without rows.

    Of a remote index that segment is fetched: the smallest one that holds a whole sample.
    """
    filled = [each for each in found.segments if each.rows]
    if not filled:
        return {}
    enough = [each for each in filled if each.rows >= health.SAMPLE]
    chosen: SegmentFacts = min(enough, key=rows_of) if enough else max(filled, key=rows_of)
    table = map_table(checked_file(found.uri, chosen, digest=False))
    columns = {each: to_array(table[f"{each}_code"]) for each in MODALITIES}
    return {each: health.health_of(health.sample_of([codes])) for each, codes in columns.items()}


def rows_of(facts: SegmentFacts) -> int:
    """Rows of a segment."""
    return facts.rows


def artefact(uri: str) -> None:
    """Reports a model, features or codes, whichever it is."""
    place = places.normalise(uri)
    model = read_facts(place)
    if model is not None:
        kind, written = "model", places.join(place, FACTS)
        pairs = model.get("training", {}).get("pairs", 0)
    else:
        found = tables.open_tables(place, "features or codes")
        kind = "codes" if "image_code" in found.schema.names else "features"
        pairs, written = found.total_rows, places.join(place, tables.MANIFEST) if found.facts else found.files[-1]
    telemetry.set("xhash_artefact_pairs", pairs, artefact=uri, kind=kind)
    telemetry.set("xhash_artefact_written_timestamp_seconds", written_unix_s(written), artefact=uri, kind=kind)


def written_unix_s(uri: str) -> float:
    """When a file or object was written, as its file system has it.

    Raises:
        BadInput: for one that is gone, or a file system that does not say.
    """
    info = infos_of([uri]).get(uri, {})
    if "mtime_ns" in info:
        return float(info["mtime_ns"]) / 1e9
    times = [each for each in info.values() if isinstance(each, datetime)]
    if not times:
        raise BadInput(f"the time of {uri}", "not there, or not told", "Name a local folder or s3://")
    return max(times).timestamp()


def say(text: str) -> None:
    """One line for people."""
    print(f"[exporter] {text}", file=sys.stderr, flush=True)
