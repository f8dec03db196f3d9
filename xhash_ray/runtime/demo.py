"""`xhash demo`: the whole path on a generated corpus, each stage through the function behind its own verb."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from xhash_ray.client import Client
from xhash_ray.evaluation.contact_sheet import Row, draw
from xhash_ray.options import (
    CorpusDemo,
    Demo,
    Encode,
    Evaluate,
    Extract,
    IndexBuild,
    Pretrain,
    Serve,
    Train,
)
from xhash_ray.progress import Progress
from xhash_ray.reports import demo as closing_table
from xhash_ray.runtime import cluster
from xhash_ray.runtime.corpus import make_demo_corpus
from xhash_ray.runtime.encoding import encode
from xhash_ray.runtime.endpoint import check_port, start, stop, wait_until_stopped
from xhash_ray.runtime.evaluation import evaluate
from xhash_ray.runtime.extraction import extract
from xhash_ray.runtime.indexing import build_index
from xhash_ray.runtime.pretraining import pretrain_clip
from xhash_ray.runtime.training import train
from xhash_ray.storage import tables
from xhash_ray.storage import uri as places
from xhash_ray.storage.codes import open_codes

BITS, SHARDS, WORKERS = 64, 4, 1
GATES = {"max_imbalance": 0.45, "min_image_to_text_recall": 0.3, "min_text_to_image_recall": 0.3}  # chance is 0.13
GATED_PAIRS = 3000  # fewer leave too few queries to measure recall on
SHEET_QUERIES, SHEET_HITS, TIMED_QUERIES = 6, 8, 200


def demo(options: Demo) -> dict[str, Any]:
    """Corpus, CLIP, features, hash functions, codes, evaluation, index, endpoint, answers.

    Returns:
        `pairs`, `map_float` and `map_codes` by direction, `chance`, bytes per pair before and after, query latency in
        milliseconds, the path of the contact sheet, and the seconds of every stage.

    Raises:
        BadInput: when the port is taken, before anything is made.
    """
    check_port("127.0.0.1", options.port)
    root = places.normalise(options.out)
    progress = Progress("demo")
    progress.say(f"everything it makes lies in {root}")
    with cluster.connected():
        stages = build_stages(options, root)
        facts = start(Serve(index=f"{root}/index", port=options.port, images=f"{root}/corpus"))
        try:
            answers = ask_endpoint(facts["url"], root)
            result = summary(root, stages, answers, facts, progress)
            if options.keep_serving:
                keep_serving(facts["url"], root, progress, result)
        finally:
            stop()
    return result


def build_stages(options: Demo, root: str) -> dict[str, dict[str, Any]]:
    """Runs every stage up to the index; results by stage."""
    weights = f"{root}/clip.safetensors"
    held_out: dict[str, Any] = {"queries_where": "split=query", "database_where": "split=database"}
    return {
        "corpus": make_demo_corpus(
            CorpusDemo(out=f"{root}/corpus", pairs=options.pairs, seed=options.seed, overwrite=True)
        ),
        "pretrain": pretrain_clip(
            Pretrain(corpus=f"{root}/corpus", out=weights, where="split=train", seed=options.seed)
        ),
        "extract": extract(
            Extract(
                corpus=f"{root}/corpus",
                out=f"{root}/features",
                model="xhash-tiny",
                pretrained=weights,
                overwrite=True,
            )
        ),
        "train": train(
            Train(
                features=f"{root}/features",
                out=f"{root}/model",
                bits=BITS,
                seed=options.seed,
                workers=WORKERS,
                where="split=train",
                overwrite=True,
            )
        ),
        "encode": encode(
            Encode(features=f"{root}/features", model=f"{root}/model", out=f"{root}/codes", overwrite=True)
        ),
        "float": evaluate(Evaluate(queries=f"{root}/features", database=f"{root}/features", **held_out)),
        "codes": evaluate(Evaluate(queries=f"{root}/codes", database=f"{root}/codes", **held_out)),
        "index": build_index(
            IndexBuild(
                codes=f"{root}/codes",
                model=f"{root}/model",
                out=f"{root}/index",
                shards=SHARDS,
                where="split!=query",
                held_out=f"{root}/features" if options.pairs >= GATED_PAIRS else None,
                held_out_where="split=query",
                gates=GATES if options.pairs >= GATED_PAIRS else {},
                overwrite=True,
            )
        ),
    }


def ask_endpoint(url: str, root: str) -> dict[str, Any]:
    """Times text queries, and draws what some held-out queries of both kinds find."""
    corpus = tables.read_table(tables.open_tables(f"{root}/corpus", "corpus"))
    queries = corpus.filter(pc.equal(corpus["split"], "query")).to_pylist()
    with Client(url) as client:
        latencies_ms = []
        for row in (queries * TIMED_QUERIES)[:TIMED_QUERIES]:
            started_s = time.perf_counter()
            client.search(text=row["text"], k=10)
            latencies_ms.append((time.perf_counter() - started_s) * 1e3)
        example = client.search(text=queries[0]["text"], k=1).hits[0].id
        rows = sheet_rows(client, queries[:SHEET_QUERIES], corpus)
    sheet = Path(root) / "contact-sheet.png"
    sheet.write_bytes(draw("text and image queries, and the nearest of 64-bit codes", rows))
    return {
        "query_ms_p50": round(statistics.median(latencies_ms), 2),
        "query_ms_p99": round(statistics.quantiles(latencies_ms, n=100)[98], 2),
        "contact_sheet": str(sheet),
        "example_id": example,
    }


def sheet_rows(client: Client, queries: Sequence[dict[str, Any]], corpus: pa.Table) -> list[Row]:
    """The first half of the queries asks by text, the second by image."""
    by_id = {row["id"]: row for row in corpus.select(["id", "image", "labels"]).to_pylist()}
    rows = []
    for number, query in enumerate(queries):
        is_text = number < len(queries) // 2
        asked = {"text": query["text"]} if is_text else {"image": query["image"]}
        hits = client.search(k=SHEET_HITS, target="image", **asked).hits
        found = [by_id[hit.id] for hit in hits]
        rows.append(
            Row(
                text=query["text"] if is_text else "an image query",
                image=None if is_text else query["image"],
                hits=[pair["image"] for pair in found],
                relevant=[bool(set(pair["labels"]) & set(query["labels"])) for pair in found],
                distances=[hit.distance for hit in hits],
            )
        )
    return rows


def summary(
    root: str,
    stages: dict[str, dict[str, Any]],
    answers: dict[str, Any],
    serving: dict[str, Any],
    progress: Progress,
) -> dict[str, Any]:
    """The figures of the closing table."""
    codes = open_codes(f"{root}/codes")
    features = tables.open_tables(f"{root}/features", "features")
    float_bytes = sum(
        features.schema.field(name).type.list_size * features.schema.field(name).type.value_type.bit_width // 8
        for name in ("image", "text")
    )
    return {
        "pairs": stages["corpus"]["pairs"],
        "bits": codes.bits,
        "shards": serving["shards"],
        "queries": stages["codes"]["queries"],
        "database": stages["codes"]["database"],
        "map_float": stages["float"]["map"],
        "map_codes": stages["codes"]["map"],
        "chance": stages["codes"]["chance"],
        "float_bytes_per_pair": float_bytes,
        "code_bytes_per_pair": stages["index"]["code_bytes_per_pair"],
        **answers,
        "seconds": round(progress.seconds, 1),
        "stage_seconds": {
            **{name: stage["seconds"] for name, stage in stages.items()},
            "serve": serving["seconds"],
        },
        "pairs_per_s": {name: stages[name]["pairs_per_s"] for name in ("pretrain", "extract", "train", "encode")},
    }


def keep_serving(url: str, root: str, progress: Progress, result: dict[str, Any]) -> None:
    """Prints what can be tried, and waits."""
    progress.say("\n" + closing_table(result))
    progress.say(f"serving at {url}; try, in another terminal:")
    for line in (
        f'xhash query --text "three red circles" --url {url}',
        f"xhash query --id {result['example_id']} --target image --url {url}",
        f'curl -s {url}/v1/search -H \'Content-Type: application/json\' -d \'{{"text": "a blue star", "k": 3}}\'',
    ):
        progress.say(f"  {line}")
    progress.say("Ctrl-C ends it")
    wait_until_stopped()
