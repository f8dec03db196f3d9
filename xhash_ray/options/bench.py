"""What each `xhash bench` verb can be told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from xhash_ray.config import option


@dataclass(frozen=True)
class BenchHamming:
    """`xhash bench hamming`: exact search beside other programs, on as many threads."""

    codes: int = option("number of codes", 1_000_000)
    bits: int = option("code length", 64)
    queries: tuple[str, ...] = option("queries at once, several separated by commas", ("1", "64"))
    k: int = option("hits wanted", 100)
    against: tuple[str, ...] = option("peers, separated by commas: faiss, usearch, numpy, tables (our own)", ("numpy",))
    distribution: str = option("random, clustered or sorted", "random", choices=("random", "clustered", "sorted"))
    threads: int | None = option("threads of every program; all cores by default", None)
    rounds: int = option("timed rounds; the median counts", 5)
    seed: int = option("of codes and queries", 1)


@dataclass(frozen=True)
class BenchBillion:
    """`xhash bench billion`: very many codes on one machine: written as an index, loaded, asked, checked."""

    codes: int = option("number of pairs", 1_000_000_000)
    bits: int = option("code length", 64)
    k: int = option("hits wanted", 100)
    batch: int = option("queries at once", 64)
    rounds: int = option("single queries; the median counts", 21)
    batch_rounds: int = option("batches; the median counts", 3)
    checked: int = option("queries whose answers are compared with a plain scan's", 2)
    threads: int | None = option("threads; all cores by default", None)
    memory_gb: float = option("memory of a machine in the table of capacities, in 10^9 bytes", 24.0)
    out: str = option(
        "folder for the index; 31 bytes a pair at 64 bits. One that is there is used again",
        "${XHASH_BENCH:-/tmp/xhash-bench}/billion",
    )
    seed: int = option("of codes and queries", 1)


@dataclass(frozen=True)
class BenchServe:
    """`xhash bench serve`: the endpoint under load, beside a plain FastAPI and faiss server."""

    codes: int = option("number of pairs", 4_000_000)
    shards: int = option("shards of the index", 4)
    bits: int = option("code length", 64)
    k: int = option("hits wanted", 100)
    requests: int = option("requests of one caller; many callers send four times as many", 500)
    callers: int = option("callers at once", 64)
    batch: int = option("queries of a batch request", 256)
    batches: int = option("batch requests", 12)
    rate: float | None = option("also an open loop of so many requests a second", None)
    against: str = option("faiss or nobody", "faiss", choices=("faiss", "nobody"))
    plot: str | None = option("PNG of the latencies", None)
    out: str = option("folder for the index; one that is there is used again", "${XHASH_BENCH:-/tmp/xhash-bench}/serve")
    seed: int = option("of codes and queries", 1)


@dataclass(frozen=True)
class BenchEvaluation:
    """`xhash bench evaluation`: MAP@all in both directions beside the numpy loop of published code."""

    queries: int = option("number of queries", 2000)
    database: int = option("number of items searched", 1_000_000)
    bits: int = option("code length", 64)
    classes: int = option("labels there are", 24)
    sample: int = option("queries per direction that the numpy loop is timed on; its time is scaled up", 20)
    threads: int | None = option("cores ours may use; default: all. numpy's products use what BLAS is told", None)
    rounds: int = option("timed rounds of ours; the median counts", 3)
    seed: int = option("of codes and labels", 1)


@dataclass(frozen=True)
class BenchMethods:
    """`xhash bench methods`: trains a zoo of methods on one feature set and tabulates their MAP."""

    features: str = option("folder: query/train/database.parquet, train/test.parquet, or a feature set with `split`")
    out: str = option("folder for results.jsonl, table.md and map.png; a second run does what is missing")
    methods: tuple[str, ...] = option("names separated by commas, or all", ("all",))
    bits: tuple[str, ...] = option("code lengths", ("16", "32", "64", "128"))
    seeds: int = option("how many seeds, from 1", 3)
    recipes: str | None = option("folder of METHOD.toml files whose [train] settings are used", None)
    databases: tuple[str, ...] = option("columns: published (with the training pairs), unseen", ("published", "unseen"))
    processes: int = option("trainings at once, each with its share of the cores", 1)
    settings: dict[str, Any] = option("settings for every method that has them", {})


@dataclass(frozen=True)
class BenchTraining:
    """`xhash bench training`: pairs/s of the training loop in memory and streamed, beside a bare PyTorch loop."""

    pairs: int = option("synthetic pairs", 200_000)
    image_length: int = option("numbers per image", 512)
    text_length: int = option("numbers per text", 512)
    method: str = option("hashing method", "jdsh")
    bits: int = option("code length", 128)
    batch_size: int = option("pairs in a batch", 4096)
    epochs: int = option("passes timed", 1)
    out: str = option("folder for the synthetic features", "${XHASH_BENCH:-/tmp/xhash-bench}/features")
    ray: bool = option("also time the stream through Ray Data and Ray Train", True)


@dataclass(frozen=True)
class BenchJdsh:
    """`xhash bench jdsh`: seconds of an epoch of JDSH beside a loop written as the paper's public code."""

    features: str = option("training features: a feature set or one Parquet file")
    bits: int = option("code length", 64)
    rounds: int = option("timed rounds, after one to warm up", 5)
    threads: int = option("threads of every loop", 2)


@dataclass(frozen=True)
class BenchHashing:
    """`xhash bench hashing`: microseconds a pair that each method's hash functions take."""

    methods: tuple[str, ...] = option("names separated by commas, or all", ("all",))
    bits: int = option("code length", 64)
    image_length: int = option("numbers per image", 512)
    text_length: int = option("numbers per text", 512)
    pairs: int = option("random pairs that are encoded", 16_384)
    batch_size: int = option("pairs encoded at once", 4096)
    rounds: int = option("timed rounds of all methods, alternating; the medians count", 5)
    threads: int = option("of every method", 2)


@dataclass(frozen=True)
class BenchRescoring:
    """`xhash bench rescoring`: what a finer order of the top candidates gains and costs."""

    features: str = option("folder: query/train/database.parquet, train/test.parquet, or a feature set with `split`")
    method: str = option("hashing method", "jdsh")
    bits: int = option("code length", 64)
    candidates: int = option("hits that are reordered", 1000)
    seed: int = option("of the training", 1)
    settings: dict[str, Any] = option("the method's settings", {})


@dataclass(frozen=True)
class BenchEncode:
    """`xhash bench encode`: pairs/s of features to codes, beside a bare PyTorch loop over the same Parquet files."""

    pairs: int = option("synthetic pairs", 1_000_000)
    image_length: int = option("numbers per image", 512)
    text_length: int = option("numbers per text", 512)
    method: str = option("hashing method", "jdsh")
    bits: int = option("code length", 64)
    rounds: int = option("timed rounds of both, alternating; the medians count", 3)
    threads: int = option("threads of the bare loop", 2)
    out: str = option("folder for the synthetic features", "${XHASH_BENCH:-/tmp/xhash-bench}/features")


@dataclass(frozen=True)
class BenchExtract:
    """`xhash bench extract`: pairs/s of extraction, beside a bare loop with the same model and decoders."""

    pairs: int = option("generated pairs", 20_000)
    model: str = option("open_clip architecture, or `micro`: one too small to matter", "xhash-tiny")
    side: int = option("of the corpus' JPEGs, in pixels", 64)
    batch_size: int = option("pairs per forward pass", 128)
    processes: int = option("decoding processes of the bare loop", 2)
    threads: int = option("threads of its model", 2)
    actors: int | None = option("processes of ours that hold the model", None)
    precision: str = option("of the model", "fp32", choices=("fp32", "bf16", "fp16"))
    rounds: int = option("timed rounds of both, alternating; the medians count", 3)
    device: str = option("of the bare loop: cpu or cuda", "cpu", choices=("cpu", "cuda"))
    out: str = option("folder for corpus, weights and features", "${XHASH_BENCH:-/tmp/xhash-bench}/extract")


@dataclass(frozen=True)
class BenchMachine:
    """`xhash bench machine`: measures what `xhash plan` must know of a machine, and writes it down."""

    out: str = option("JSON file for the figures, see sizing/machine.py; an older one is replaced")
    bits: tuple[str, ...] = option("code lengths whose scans are measured, separated by commas", ("64",))
    k: int = option("hits wanted", 100)
    model: str = option("CLIP architecture of the texts and images", "xhash-tiny")
    pairs: int = option("in the index whose endpoint is measured: few, so that scans cost little", 1_100_000)
    requests: int = option("of one caller; many callers send five times as many", 200)
    rounds: int = option("timed rounds; the median counts", 7)
    scan_bytes: int = option("of codes in a scan: far more than caches hold", 512 * 2**20)
    encoded: int = option("pairs in the measurement of encoding", 32_768)
    seed: int = option("of everything drawn", 1)


@dataclass(frozen=True)
class BenchPlan:
    """`xhash bench plan`: what `xhash plan` computes for this machine, beside what an endpoint here does."""

    pairs: int = option("generated pairs", 20_000_000)
    bits: int = option("code length", 64)
    callers: tuple[str, ...] = option("callers at once, several levels separated by commas", ("1", "8", "32", "128"))
    requests: int = option("requests of a level; of one caller a fifth as many", 1500)
    machine: str | None = option("file of `xhash bench machine`; by default it is measured now", None)
    out: str = option("folder for the index; one that is there is used again", "${XHASH_BENCH:-/tmp/xhash-bench}/plan")
    seed: int = option("of codes and queries", 1)
