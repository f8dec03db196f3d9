"""What the verbs that serve, ask, watch, plan and rehearse can be told."""

from __future__ import annotations

from dataclasses import dataclass

from xhash_ray.config import option


@dataclass(frozen=True)
class Serve:
    """`xhash serve`: the search endpoint."""

    index: str = option("folder or URI of an index")
    port: int = option("HTTP port", 8000)
    host: str = option("address to listen on", "127.0.0.1")
    pretrained: str | None = option("CLIP weights, where they lie elsewhere than when they were extracted with", None)
    processes: int = option("processes that hold the shards; 0: the gateway holds them all, without a hop", 0)
    replicas: int = option("copies of each of those processes", 1)
    gateways: int = option("copies of the gateway, on clusters that were joined", 1)
    encoders: int = option("copies of the query encoder", 1)
    encoder_gpus: float = option("GPUs of each, or a part of one", 0.0)
    images: str | None = option("corpus whose images the web page shows", None)
    grpc_port: int | None = option("gRPC port, none by default", None)
    keys: str | None = option("local file of API keys, see serving/keys.py; none: whoever reaches it may search", None)
    tls_certificate: str | None = option("local PEM file, for HTTPS and gRPC over TLS on a cluster of its own", None)
    tls_key: str | None = option("local PEM file of its private key", None)


@dataclass(frozen=True)
class Metrics:
    """`xhash metrics`: lists every metric that is reported."""

    markdown: bool = option("as the page deploy/METRICS.md", False)


@dataclass(frozen=True)
class Exporter:
    """`xhash exporter`: facts of indexes and artefacts as metrics, for Prometheus or, --once, for --metrics-file."""

    index: tuple[str, ...] = option("folders or URIs of indexes, separated by commas", ())
    artefacts: tuple[str, ...] = option("of features, codes and models, likewise", ())
    host: str = option("address to listen on", "127.0.0.1")
    port: int = option("port of /metrics", 9109)
    every_s: float = option("seconds between two looks", 60.0)
    once: bool = option("look once and listen nowhere", False)
    health: bool = option("read codes of one segment of every new generation; remote ones are fetched", True)


@dataclass(frozen=True)
class Query:
    """`xhash query`: asks an endpoint."""

    text: str | None = option("find images for this text", None)
    image: str | None = option("find texts for this image file", None)
    id: str | None = option("find what is like this stored pair", None)
    k: int = option("hits wanted", 10)
    target: str | None = option("modality searched; default: the other one", None, choices=(None, "image", "text"))
    filter: str | None = option('such as: category = "shoes" and year >= 2010', None)
    rescore: str | None = option("what orders the candidates", None, choices=(None, "outputs", "features"))
    key: str | None = option("API key; by default what the variable XHASH_KEY holds", None)
    url: str = option("of the endpoint", "http://127.0.0.1:8000")
    timeout_s: float = option("seconds to wait for the answer", 30.0)


@dataclass(frozen=True)
class Plan:
    """`xhash plan`: machines, memory, latency and cost of an endpoint, computed from a measured machine."""

    pairs: int = option("in the index, such as 1e10")
    qps: float = option("single queries a second")
    machine: str = option("file that `xhash bench machine` wrote on a machine of the kind to be used")
    bits: int = option("code length", 64)
    replicas: int = option("least copies of every group of shards, each on a node of its own", 2)
    content: str = option("what queries are", "text", choices=("text", "image", "code"))
    latency_ms: float | None = option("within which 99 of 100 queries shall be answered", None)
    changed: float = option("share of the pairs that a swap of generations holds twice; 1: a new model's index", 1.0)
    filters: int = option("different filters kept in memory, at most 8: a byte a pair each", 0)
    id_bytes: float = option("of a pair's id, in the mean", 16.0)
    metadata_bytes: float = option("of a pair's metadata, in the mean", 0.0)


@dataclass(frozen=True)
class Drill:
    """`xhash drill`: parts of a cluster are killed, slowed down and corrupted under load, every answer is judged."""

    scenario: tuple[str, ...] = option("all, or some separated by commas, see drilling/README.md", ("all",))
    out: str | None = option("file for the table as Markdown; the same as JSON beside it, named .json", None)
    seconds: float = option("seconds that a fault is kept up before it is mended", 8.0)
    pairs: int = option("pairs of the index that is made for it", 50_000)
    bits: int = option("code length", 64)
    shards: int = option("shards of the index", 8)
    callers: int = option("callers at once", 4)
    pause_s: float = option("a caller's seconds between an answer and the next question", 0.4)
    seed: int = option("of pairs, models and questions", 1)
    workers: int = option("worker nodes of the local cluster, 3 or more", 3)
    network: str = option(
        "of the local cluster's nodes: a network namespace each (root), or loopback for all; auto: as can be had",
        "auto",
        choices=("auto", "namespaces", "loopback"),
    )
    store: str | None = option("folder or s3:// prefix for the index; default: an S3 server of the drill's own", None)
    address: str | None = option("instead of a local cluster, drill on this one (RAY_ADDRESS); needs --store", None)
    url: str = option("where Serve's proxies listen on a cluster that is joined", "http://127.0.0.1:8000")
    keys: str | None = option("file of API keys on every node of a joined cluster; XHASH_KEY holds an admin's", None)
    destructive: bool = option("on a cluster that is joined, also what may raise its alerts", False)


@dataclass(frozen=True)
class Demo:
    """`xhash demo`: the whole path on a generated corpus."""

    out: str = option("folder for everything the demonstration makes", "${XHASH_DEMO:-/tmp/xhash-demo}")
    pairs: int = option("image-text pairs to draw", 6000)
    seed: int = option("of everything", 1)
    port: int = option("HTTP port of the endpoint", 8000)
    keep_serving: bool = option("leave the endpoint up until Ctrl-C", False)
