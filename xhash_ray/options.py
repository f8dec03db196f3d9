"""What each verb can be told: one frozen dataclass per verb, for flags, recipes and Python calls alike."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from xhash_ray.bench_options import (
    BenchBillion,
    BenchEncode,
    BenchEvaluation,
    BenchExtract,
    BenchHamming,
    BenchJdsh,
    BenchMachine,
    BenchMethods,
    BenchPlan,
    BenchRescoring,
    BenchServe,
    BenchTraining,
)
from xhash_ray.config import option

OVERWRITE = "replace finished results at --out"


@dataclass(frozen=True)
class CorpusDemo:
    """`xhash corpus demo`: draws the demonstration corpus."""

    out: str = option("folder or URI for the corpus")
    pairs: int = option("number of image-text pairs", 6000)
    seed: int = option("the same seed draws the same corpus", 1)
    overwrite: bool = option(OVERWRITE, False)


@dataclass(frozen=True)
class Pretrain:
    """`xhash pretrain`: trains a small CLIP from scratch on a small corpus (no network needed)."""

    corpus: str = option("corpus: Parquet, WebDataset tars, or images with a CSV/JSONL table")
    out: str = option("weights file to write, ending in .safetensors")
    model: str = option("open_clip architecture by name, or a .json file", "xhash-tiny")
    columns: dict[str, Any] = option("renamed corpus columns, role=column,... (id image image_path text labels)", {})
    where: str | None = option("pairs to train on: column=value, column!=a,b or id%10!=0", None)
    seed: int = option("of weights and order", 1)
    settings: dict[str, Any] = option("training settings, see features/pretraining.py", {})


@dataclass(frozen=True, kw_only=True)
class CorpusWork:
    """What every verb that computes features of a corpus can be told."""

    columns: dict[str, Any] = option("renamed corpus columns, role=column,... (id image image_path text labels)", {})
    identity: str = option("ids: as given, or a hash of the content", "given", choices=("given", "content"))
    duplicates: str | None = option(
        "rows that repeat an id: refuse, or keep the first; default: refuse given ids, first of equal contents",
        None,
        choices=(None, "refuse", "first"),
    )
    modalities: str = option("what is extracted", "both", choices=("both", "image", "text"))
    captions: str = option(
        "of several captions: the mean feature, the first, one drawn, or each as a pair of its own",
        "mean",
        choices=("mean", "first", "random", "each"),
    )
    seed: int = option("of captions that are drawn", 1)
    dtype: str = option("of the features", "float16", choices=("float16", "float32"))
    precision: str = option("of the model", "fp32", choices=("fp32", "bf16", "fp16"))
    compile: bool = option("compile the model first: pays on GPUs, for many pairs", False)
    actors: int | None = option("processes that hold the model; default: as many as GPUs hold, else one per core", None)
    gpus_per_actor: float = option("GPUs of each, or a part of one; used where the cluster has GPUs", 1.0)
    batch_size: int = option("pairs per forward pass", 128)
    decoder_timeout_s: float = option("seconds that decoding one image may take", 20.0)
    max_rejects: float = option("share of pairs that may be unusable before the run fails", 0.01)


@dataclass(frozen=True, kw_only=True)
class Resumable:
    """What every verb that works through millions of pairs can be told."""

    rows_per_unit: int | None = option("pairs per work unit and part file; default: by their size", None)
    extend: bool = option("the source has grown: add its new files to what is done", False)
    overwrite: bool = option(OVERWRITE, False)
    events: str | None = option("local file to append JSON events to; - for standard error", None)


@dataclass(frozen=True, kw_only=True)
class Extract(CorpusWork, Resumable):
    """`xhash extract`: CLIP features of a corpus. The same command goes on where a run died."""

    corpus: str = option("corpus: Parquet, WebDataset tars, or images with a CSV/JSONL/Parquet table")
    out: str = option("folder or URI for the features")
    model: str = option("open_clip architecture by name, or a .json file")
    pretrained: str = option("open_clip tag, or weights file or URI")


@dataclass(frozen=True)
class Import:
    """`xhash import`: a published data set in the layout it is distributed in, as features with a split."""

    layout: str = option(
        "wiki mirflickr nuswide10 nuswide21 one-file coco-shi parts npy parquet, see datasets/layouts.py",
        choices=("wiki", "mirflickr", "nuswide10", "nuswide21", "one-file", "coco-shi", "parts", "npy", "parquet"),
    )
    source: str = option("folder (or file) of the set")
    out: str = option("folder or URI for the features")
    split: str | None = option(
        "files, random:QUERY:TRAIN, last:QUERY, ..., see datasets/splits.py; default: files", None
    )
    split_seed: int = option("of what the split draws", 1)
    split_digest: str | None = option("SHA-256 (or its beginning) that the split must have", None)
    image_features: str | None = option(".npy, .mat or .h5 file for the images, in the set's order", None)
    text_features: str | None = option("the same for the texts", None)
    dtype: str = option("of the stored features", "float32", choices=("float32", "float16"))
    overwrite: bool = option(OVERWRITE, False)


@dataclass(frozen=True)
class Train:
    """`xhash train`: learns the two hash functions."""

    features: str = option("feature file or folder")
    out: str = option("folder or URI for the model")
    method: str = option("hashing method, see `xhash methods`", "jdsh")
    bits: int = option("code length, a multiple of 8", 64)
    seed: int = option("of weights and order", 1)
    workers: int = option("training processes; 0 trains inside this one", 1)
    max_workers: int | None = option("elastic: up to so many, as the cluster has room (default: --workers)", None)
    where: str | None = option("pairs used: column=value, column!=a,b or id%10!=0", None)
    validation: str | None = option("of those pairs, the ones set aside for validation, such as id%10=0", None)
    validate_every: int = option("epochs between two validations", 10)
    select: str = option("weights kept: of the last epoch, or of the best validated", "last", choices=("last", "best"))
    stream: str = option(
        "read pairs while training, never all in memory; auto: above --memory-mb",
        "auto",
        choices=("auto", "always", "never"),
    )
    memory_mb: int = option("features that may be held in memory by every worker, in MB", 1024)
    zeros: str = option("pairs with an all-zero feature", "refuse", choices=("refuse", "keep"))
    precision: str = option("of the networks; bf16 is autocast", "fp32", choices=("fp32", "bf16"))
    checkpoint_s: float = option("seconds between checkpoints; the same command continues from the last", 60.0)
    max_failures: int = option("times that lost workers are replaced", 3)
    settings: dict[str, Any] = option("the method's settings, see `xhash methods show NAME`", {})
    overwrite: bool = option(OVERWRITE, False)


@dataclass(frozen=True)
class Methods:
    """`xhash methods`: the hashing methods that can be trained."""


@dataclass(frozen=True)
class MethodsShow:
    """`xhash methods show`: one method's paper, needs and settings with their sources."""

    name: str = option("a method", positional=True)


@dataclass(frozen=True, kw_only=True)
class Encode(CorpusWork, Resumable):
    """`xhash encode`: features (or a corpus) to codes. The same command goes on where a run died."""

    features: str | None = option("feature file or folder", None)
    from_corpus: str | None = option("instead, a corpus: straight to codes, no features are stored", None)
    model: str = option("folder of a trained model")
    out: str = option("folder or URI for the codes")
    keep_features: bool = option("store the features with the codes, as float16: the index can rescore by them", False)
    pretrained: str | None = option("CLIP weights, where they lie elsewhere than when they were extracted with", None)


@dataclass(frozen=True)
class Verify:
    """`xhash verify`: joins the ids of corpus, features and codes: every pair once, nothing lost, files as written."""

    features: str | None = option("features to check, with the corpus they were made from", None)
    codes: str | None = option("codes to check, with the features (or corpus) they were made from", None)
    corpus: str | None = option("corpus, where it lies elsewhere than when it was extracted", None)
    checksums: bool = option("read every file again and compare its SHA-256", True)


@dataclass(frozen=True)
class IndexBuild:
    """`xhash index build`: codes to a sharded index."""

    codes: str = option("code file or folder")
    model: str = option("folder of the model that made the codes")
    out: str = option("folder or URI for the index")
    shards: int = option("number of shards", 4)
    where: str | None = option("pairs to index: column=value, column!=a,b or id%10!=0", None)
    gates: dict[str, Any] = option("thresholds that codes must pass, see index/gates.py", {})
    held_out: str | None = option("features of pairs that no training saw, for the recall gates", None)
    held_out_where: str | None = option("pairs of --held-out to take: column=value, column!=a,b or id%10!=0", None)
    overwrite: bool = option("build the next generation of an index that is there", False)


INDEX_URI = "folder or URI of an index"
ADDED_CODES = "code file or folder, of the index's model"
ADDED_WHERE = "pairs to take: column=value, column!=a,b or id%10!=0"


@dataclass(frozen=True)
class IndexAdd:
    """`xhash index add`: adds pairs that are not there yet, as a new generation."""

    index: str = option(INDEX_URI)
    codes: str = option(ADDED_CODES)
    where: str | None = option(ADDED_WHERE, None)


@dataclass(frozen=True)
class IndexUpsert:
    """`xhash index upsert`: adds pairs, in place of those whose id is there."""

    index: str = option(INDEX_URI)
    codes: str = option(ADDED_CODES)
    where: str | None = option(ADDED_WHERE, None)


@dataclass(frozen=True)
class IndexDelete:
    """`xhash index delete`: deletes pairs by id."""

    index: str = option(INDEX_URI)
    ids: tuple[str, ...] = option("ids, separated by commas", ())
    ids_file: str | None = option("file with one id on each line", None)
    ignore_missing: bool = option("ids that are not there are no error", False)


@dataclass(frozen=True)
class IndexCompact:
    """`xhash index compact`: merges segments, drops deleted rows and old generations."""

    index: str = option(INDEX_URI)
    keep: int = option("generations kept, the current one among them", 2)
    orphans_after_s: int = option("age in seconds at which files that no generation names are deleted", 86_400)


@dataclass(frozen=True)
class IndexRollback:
    """`xhash index rollback`: makes an older generation's content current again."""

    index: str = option(INDEX_URI)
    to: int | None = option("generation; the one before the current by default", None)


@dataclass(frozen=True)
class IndexInfo:
    """`xhash index info`: what an index is, and its history."""

    index: str = option(INDEX_URI)


@dataclass(frozen=True)
class IndexVerify:
    """`xhash index verify`: checks every checksum, count and code statistic, and that pairs find themselves."""

    index: str = option(INDEX_URI)
    generation: int | None = option("generation; the current one by default", None)


@dataclass(frozen=True)
class IndexExport:
    """`xhash index export`: files that others read."""

    index: str = option(INDEX_URI)
    out: str = option("folder or URI for the files")
    format: str = option("faiss or parquet", "faiss", choices=("faiss", "parquet"))


@dataclass(frozen=True)
class IndexCopy:
    """`xhash index copy`: a generation and all it needs elsewhere: a backup, its restoration, another region's."""

    index: str = option(INDEX_URI)
    out: str = option("folder or URI for the copy; what an earlier copy has there is not sent again")
    generation: int | None = option("generation; the current one by default", None)


@dataclass(frozen=True)
class Evaluate:
    """`xhash evaluate`: how well codes (or float features) retrieve, expected over ties: MAP@all and more."""

    queries: str | None = option("code (or feature) file or folder with labels", None)
    database: str | None = option("code (or feature) file or folder with labels", None)
    runs: dict[str, Any] = option(
        "instead of those two, several runs side by side: name=URI,..., each holding queries and database", {}
    )
    queries_where: str | None = option("rows of --queries (of every run) that are queries", None)
    database_where: str | None = option("rows of --database (of every run) that are searched", None)
    directions: tuple[str, ...] = option(
        "separated by commas: image_to_text text_to_image image_to_image text_to_text, or all",
        ("image_to_text", "text_to_image"),
    )
    at: tuple[str, ...] = option("places N of precision, recall and NDCG", ("1", "10", "100", "1000"))
    definitions: tuple[str, ...] = option("published MAPs by name, see evaluation/published.py, or all", ())
    k: int = option("cut-off of the published definitions", 50)
    threads: int | None = option("cores to use in this process; default: all it may use", None)
    out: str | None = option("JSON file for the result with its curves; an older one is replaced", None)
    plots: str | None = option("folder for PNG and SVG of the curves; older ones are replaced", None)


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


VERBS: dict[str, type[Any]] = {
    "corpus demo": CorpusDemo,
    "pretrain": Pretrain,
    "extract": Extract,
    "import": Import,
    "train": Train,
    "methods": Methods,
    "methods show": MethodsShow,
    "metrics": Metrics,
    "encode": Encode,
    "verify": Verify,
    "index build": IndexBuild,
    "index add": IndexAdd,
    "index upsert": IndexUpsert,
    "index delete": IndexDelete,
    "index compact": IndexCompact,
    "index rollback": IndexRollback,
    "index info": IndexInfo,
    "index verify": IndexVerify,
    "index export": IndexExport,
    "index copy": IndexCopy,
    "evaluate": Evaluate,
    "serve": Serve,
    "exporter": Exporter,
    "query": Query,
    "plan": Plan,
    "bench hamming": BenchHamming,
    "bench billion": BenchBillion,
    "bench serve": BenchServe,
    "bench extract": BenchExtract,
    "bench encode": BenchEncode,
    "bench evaluation": BenchEvaluation,
    "bench methods": BenchMethods,
    "bench training": BenchTraining,
    "bench jdsh": BenchJdsh,
    "bench machine": BenchMachine,
    "bench plan": BenchPlan,
    "bench rescoring": BenchRescoring,
    "drill": Drill,
    "demo": Demo,
}
