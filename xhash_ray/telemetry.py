"""Every metric once: name, kind, unit, labels, meaning; and the calls by which any room reports one.

    telemetry.add("xhash_searches", kind="text", outcome="ok")
    telemetry.observe("xhash_search_seconds", 0.0004, part="scan")

Nothing is counted by declaring it, and a report goes nowhere until a backend is attached in the process, as a log
record does without handlers. There are two: `runtime/telemetry.py` reports to Ray, whose nodes Prometheus scrapes;
`exposition.py` collects with prometheus-client, for a file, a push or a port.
"""

from __future__ import annotations

import contextlib
import math
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

RUNS, TRAINING, SERVING, CODES, INDEX = "Extraction and encoding", "Training", "Serving", "Code health", "Index"
GROUPS = (RUNS, TRAINING, SERVING, CODES, INDEX)


@dataclass(frozen=True)
class Metric:
    """A declaration.

    Attributes:
        name: In Prometheus' style, unit last; counters get `_total` from their backend.
        kind: "counter", "gauge" or "histogram".
        unit: Of its values: "s", "bytes", "pairs", "1" for shares and numbers without one, ...
        meaning: One sentence.
        labels: Label names.
        buckets: Upper bounds, for histograms.
        group: The dashboard it belongs to.
    """

    name: str
    kind: str
    unit: str
    meaning: str
    labels: tuple[str, ...]
    buckets: tuple[float, ...]
    group: str


Declaration = tuple[str, str, str, str, tuple[str, ...], tuple[float, ...]]


def counter(name: str, unit: str, labels: str, meaning: str) -> Declaration:
    """What only grows."""
    return name, "counter", unit, meaning, tuple(labels.split()), ()


def gauge(name: str, unit: str, labels: str, meaning: str) -> Declaration:
    """What is so at present."""
    return name, "gauge", unit, meaning, tuple(labels.split()), ()


def histogram(name: str, unit: str, labels: str, meaning: str, buckets: tuple[float, ...]) -> Declaration:
    """What is distributed."""
    return name, "histogram", unit, meaning, tuple(labels.split()), buckets


SEARCH_BUCKETS_S = tuple(mantissa * 10.0**power for power in range(-5, 1) for mantissa in (1, 2.5, 5))[2:]  # from 50 µs
SWAP_BUCKETS_S = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0)
QUERIES_BUCKETS = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 1024.0)

# fmt: off
DECLARED: Mapping[str, tuple[Declaration, ...]] = {
    RUNS: (
        gauge("xhash_stage_pairs", "pairs", "stage", "Pairs a finished stage has processed"),
        gauge("xhash_stage_rejected_pairs", "pairs", "stage", "Pairs a finished stage could not use"),
        gauge("xhash_stage_rejected_by_kind_pairs", "pairs", "stage step kind", "The same by step and kind"),
        gauge("xhash_stage_seconds", "s", "stage", "Wall time of a finished stage"),
        gauge("xhash_stage_finished_timestamp_seconds", "s", "stage", "When a stage last ended, Unix time"),
        gauge("xhash_stage_succeeded", "1", "stage", "1 when a stage's last run came to a result, 0 when it failed"),

        gauge("xhash_run_active", "1", "verb", "1 while a run over units is under way, 0 after its end"),
        gauge("xhash_run_pairs", "pairs", "verb", "Pairs of a run's input"),
        gauge("xhash_run_done_pairs", "pairs", "verb", "Of these, pairs in finished units, earlier starts included"),
        gauge("xhash_run_pairs_per_second", "pairs/s", "verb", "Speed of a run over its last units"),
        gauge("xhash_run_left_seconds", "s", "verb", "Time until a run's end at its present speed"),
        gauge("xhash_run_progress_timestamp_seconds", "s", "verb", "When a run last finished a unit, Unix time"),
        counter("xhash_run_units", "units", "verb", "Units of work finished"),
        counter("xhash_rejected_pairs", "pairs", "verb step kind", "Pairs that could not be used, by step and kind"),
        counter("xhash_step_pairs", "pairs", "verb step", "Pairs through a step: read, prepare, embed, encode, write"),
        counter("xhash_step_busy_seconds", "s", "verb step", "Time that a step's workers were busy, summed over them"),
        gauge("xhash_step_utilisation_ratio", "1", "verb step", "Share of its workers' time that a step is busy"),
        counter("xhash_read_bytes", "bytes", "verb", "Input read"),
        counter("xhash_written_bytes", "bytes", "verb", "Output written"),
    ),
    TRAINING: (
        gauge("xhash_training_active", "1", "method", "1 while a training is under way, 0 after its end"),
        gauge("xhash_training_loss", "1", "method term", "Mean of a loss term over the last epoch"),
        gauge("xhash_training_epochs", "epochs", "method", "Epochs finished"),
        gauge("xhash_training_learning_rate", "1", "method", "Highest learning rate of the last epoch"),
        counter("xhash_training_pairs", "pairs", "method", "Pairs trained on, epochs counted each"),
        gauge("xhash_training_pairs_per_second", "pairs/s", "method", "Speed of the last epoch"),
        gauge("xhash_training_bit_balance_ratio", "1", "method", "Mean over bits of 2 |share of ones - 1/2|, 1: stuck"),
        gauge("xhash_training_quantisation_error_ratio", "1", "method", "1 - cosine of outputs and their signs"),
        gauge("xhash_training_validation_map_ratio", "1", "method", "MAP of pairs set aside, mean of both directions"),
        gauge("xhash_training_progress_timestamp_seconds", "s", "method", "When a training last said how far it is"),
    ),
    SERVING: (
        histogram("xhash_search_seconds", "s", "part",
                  "Time of a request or batch by part: queue, encode, scan, merge, fetch, total", SEARCH_BUCKETS_S),
        counter("xhash_searches", "searches", "kind outcome",
                "Searches by kind of query and outcome: ok, incomplete, refused, overloaded, failed"),
        counter("xhash_missing_shard_answers", "answers", "shard", "Answers in which a shard was missing"),
        gauge("xhash_shard_answering", "1", "gateway shard", "1 while a shard answers, 0 while no replica of it does"),
        gauge("xhash_waiting_searches", "searches", "gateway", "Most that waited for their turn at once, lately"),
        histogram("xhash_queries_per_scan", "queries", "", "Queries that shared a scan", QUERIES_BUCKETS),
        counter("xhash_scanned_codes", "codes", "group", "Codes compared, each once per query"),
        counter("xhash_scanned_bytes", "bytes", "group", "Bytes of codes read from memory, once per shared scan"),
        counter("xhash_scan_busy_seconds", "s", "group", "Time spent in scans"),
        gauge("xhash_memory_bandwidth_bytes_per_second", "bytes/s", "group replica", "Of plain reading, measured here"),
        gauge("xhash_activated_generation", "1", "gateway", "Generation that a gateway serves"),
        gauge("xhash_loaded_generation", "1", "group replica", "Newest generation that a group's replica holds"),
        histogram("xhash_swap_seconds", "s", "outcome", "Time from request to flip of an activation", SWAP_BUCKETS_S),
        gauge("xhash_group_pairs", "pairs", "group replica", "Pairs that a group's replica holds"),
        gauge("xhash_group_code_bytes", "bytes", "group replica", "Memory of a replica's codes, of all generations"),
        gauge("xhash_process_resident_bytes", "bytes", "role replica", "Resident memory of an endpoint's process"),
        gauge("xhash_cache_disk_free_ratio", "1", "node replica", "Free share of the disk that holds fetched segments"),
    ),
    CODES: (
        gauge("xhash_code_bit_mean_ratio", "1", "source modality where bound", "Lowest, highest share of ones of any"),
        gauge("xhash_code_entropy_ratio", "1", "source modality where", "Mean entropy of the bits"),
        gauge("xhash_code_correlation_ratio", "1", "source modality where", "|correlation| of the two most alike bits"),
        gauge("xhash_code_distinct_ratio", "1", "source modality where", "Share of distinct codes"),
        gauge("xhash_code_drift_ratio", "1", "modality where", "Mean over bits of |ones of queries - of the index|"),
        gauge("xhash_code_sample_size", "codes", "source modality where", "Codes that these figures are of"),
    ),
    INDEX: (
        gauge("xhash_index_reachable", "1", "index", "1 when the index could be read last time, 0 otherwise"),
        gauge("xhash_index_generation", "1", "index", "Current generation"),
        gauge("xhash_index_pairs", "pairs", "index", "Pairs that can be found"),
        gauge("xhash_index_deleted_pairs", "pairs", "index", "Pairs deleted and not yet compacted away"),
        gauge("xhash_index_segments", "segments", "index", "Segment files of the current generation"),
        gauge("xhash_index_bytes", "bytes", "index", "Size of the current generation's files"),
        gauge("xhash_index_committed_timestamp_seconds", "s", "index", "When it was committed, Unix time"),
        gauge("xhash_artefact_reachable", "1", "artefact", "1 when it could be read last time, 0 otherwise"),
        gauge("xhash_artefact_pairs", "pairs", "artefact kind", "Pairs in it, or that a model was trained on"),
        gauge("xhash_artefact_written_timestamp_seconds", "s", "artefact kind", "When it was written, Unix time"),
    ),
}
# fmt: on
METRICS: Mapping[str, Metric] = {each[0]: Metric(*each, group) for group, every in DECLARED.items() for each in every}


class Backend(Protocol):
    """Where reports go. Names, labels and values have been checked.

    Attributes:
        shared: Whether other processes report to the same place, as they do to Ray.
    """

    shared: bool

    def add(self, name: str, value: float, labels: Mapping[str, str]) -> None:
        """Adds to a counter."""

    def set(self, name: str, value: float, labels: Mapping[str, str]) -> None:
        """Sets a gauge."""

    def observe(self, name: str, value: float, labels: Mapping[str, str]) -> None:
        """Counts a value in a histogram."""


_attached: tuple[Backend, ...] = ()  # replaced as a whole: other threads report meanwhile
_attaching = threading.Lock()


def attach(backend: Backend) -> None:
    """From now on this process reports there too; a second time changes nothing."""
    global _attached
    with _attaching:
        if backend not in _attached:
            _attached = (*_attached, backend)


def detach(backend: Backend) -> None:
    """Ends that; harmless when it was not so."""
    global _attached
    with _attaching:
        _attached = tuple(each for each in _attached if each is not backend)


@contextlib.contextmanager
def attached(backend: Backend) -> Iterator[Backend]:
    """A backend attached for a while; one that was attached before stays so."""
    before = backend in _attached
    attach(backend)
    try:
        yield backend
    finally:
        if not before:
            detach(backend)


def add(name: str, value: float = 1.0, **labels: str) -> None:
    """Adds to a counter.

    Raises:
        KeyError: for a metric that is not declared so.
        ValueError: for other labels than declared, or less than nothing.
        TypeError: for a label that is no text.
    """
    check(name, "counter", labels)
    for backend in _attached:
        backend.add(name, not_negative(name, value), labels)


def relay(name: str, value: float = 1.0, **labels: str) -> None:
    """Adds to a counter what another process has done, which reports it itself wherever processes share a backend.

    So a driver's file or push holds what its workers did, and Ray counts it once. Errors as of `add`.
    """
    check(name, "counter", labels)
    for backend in _attached:
        if not backend.shared:
            backend.add(name, not_negative(name, value), labels)


def set(name: str, value: float, **labels: str) -> None:
    """Sets a gauge. Errors as of `add`."""
    check(name, "gauge", labels)
    for backend in _attached:
        backend.set(name, float(value), labels)


def observe(name: str, value: float, **labels: str) -> None:
    """Counts a value in a histogram. Errors as of `add`."""
    check(name, "histogram", labels)
    for backend in _attached:
        backend.observe(name, float(value), labels)


def check(name: str, kind: str, labels: Mapping[str, str]) -> None:
    """Raises KeyError, ValueError or TypeError for a report that no declaration covers, backends attached or not."""
    metric = METRICS[name]
    if metric.kind != kind:
        raise KeyError(f"{name} is a {metric.kind}, not a {kind}")
    if labels.keys() != {*metric.labels}:
        raise ValueError(f"{name} has the labels {metric.labels}, not {tuple(labels)}")
    for label, text in labels.items():
        if not isinstance(text, str):
            raise TypeError(f"{label} of {name} is {text!r}, no text")


def not_negative(name: str, value: float) -> float:
    """What may be added to a counter: any number's float; numpy's are none that Ray takes."""
    number = float(value)
    if not 0 <= number < math.inf:
        raise ValueError(f"{name} only grows, by {value} it cannot")
    return number
