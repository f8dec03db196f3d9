"""Extraction on Ray Data: read, prepare, embed, write. Tasks read, decode and tokenise while actors hold the model;
each unit is committed by the task that wrote it, and the driver sees counts only.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from xhash_ray.corpus.patterns import absolute
from xhash_ray.corpus.sources import Part, Source
from xhash_ray.errors import BadInput, Mismatch
from xhash_ray.features.facts import DIGEST_KEY, EncoderFacts
from xhash_ray.options import Encode, Extract
from xhash_ray.options.corpus import CorpusWork
from xhash_ray.pipeline import surveying
from xhash_ray.pipeline.committing import write_unit
from xhash_ray.pipeline.loading import load, part_tasks
from xhash_ray.pipeline.observing import Observer
from xhash_ray.pipeline.plan import Plan, from_json, joined, rows_for
from xhash_ray.pipeline.preparing import Recipe
from xhash_ray.pipeline.processes import prepared
from xhash_ray.pipeline.reporting import report_steps
from xhash_ray.pipeline.starting import (
    Start,
    check_rows,
    corpus_identity,
    duplicates_of,
    modalities_of,
    open_run,
)
from xhash_ray.pipeline.summing import summary
from xhash_ray.pipeline.watching import Stage
from xhash_ray.progress import Progress
from xhash_ray.runtime import attempts, cluster
from xhash_ray.runtime.telemetry import reported_to_ray
from xhash_ray.runtime.units import Step, each_unit, flow
from xhash_ray.storage import writing
from xhash_ray.storage.retrying import patiently
from xhash_ray.storage.unit_log import UnitLog

# Logical CPUs. Ray Data fuses neighbours that ask for the same, and then nothing overlaps: no two are alike.
READ_CPUS, WRITE_CPUS = 0.1, 0.15  # they mostly wait for the store
PREPARE_CPUS, PREPARE_CPUS_BESIDE_GPU = 0.5, 1.0
MODELS_PER_NODE = 4  # on CPUs: each is a copy in memory, and a few with several threads keep all cores busy
MODEL_CPUS = 0.45  # pools that held every CPU would starve each other; the system shares out the cores
FEW_ROWS = 50_000  # whose ids are read sooner than tasks start
STEPS = ("read", "prepare", "embed", "write")
Hashed = Callable[[pa.Table], pa.Table]


def extract(options: Extract) -> dict[str, Any]:
    """Turns a corpus into features; goes on where an earlier start of the same command ended.

    Returns:
        `out`, `pairs` (rows of the features), `rejected`, `rejected_by`, `input_pairs`, `done_before`, `files`,
        `size_bytes`, `seconds`, `pairs_per_s`, `bottleneck`, `report`, `encoder`.

    Raises:
        BadInput: for a corpus, model or option that cannot be used, before anything is computed; when more than
            `max_rejects` of the pairs are unusable.
        Mismatch: when the folder holds another run's work, or the corpus has changed since this one was begun.
    """
    corpus = absolute(options.corpus)
    identity = {"kind": "features", "model": options.model, "pretrained": options.pretrained}
    identity |= corpus_identity(options, corpus, options.rows_per_unit)
    facts = {"kind": "features", "made_from": {"corpus": corpus}}
    job = Job("extract", "features", corpus, identity, facts, same, options.model, options.pretrained)
    return run(job, options)


def same(table: pa.Table) -> pa.Table:
    """Features stay what they are."""
    return table


@dataclass(frozen=True)
class Job:
    """What is made of a corpus.

    Attributes:
        verb: For people.
        what: What is written: "features", "codes".
        corpus: URI of the corpus.
        identity: What decides the result.
        facts: For the manifest of the result.
        hashed: What becomes of a table of features before it is written.
        model: CLIP's architecture.
        pretrained: Its weights.
        stored: What is known of the encoder that must be used, None where any will do.
    """

    verb: str
    what: str
    corpus: str
    identity: dict[str, Any]
    facts: dict[str, Any]
    hashed: Hashed
    model: str
    pretrained: str
    stored: dict[str, Any] | None = None


def run(job: Job, options: Extract | Encode) -> dict[str, Any]:
    """The whole way of a corpus: `extract`, or straight to codes. Returns and raises as `extract`."""
    check_rows(options.rows_per_unit)
    modalities = modalities_of(options)
    start = open_run(job.what, job.corpus, options, job.identity, modalities)
    progress = Progress(job.verb)
    if start.is_finished:
        progress.say(f"nothing is left to do: {start.log.uri} is complete")
        return summary(start.log, start.done(), progress.seconds)
    writing.begin(writing.Claim(start.log.uri, start.log.run))  # a place that cannot be written is noticed here
    with cluster.connected(), reported_to_ray():
        encoder = facts_of(job)
        check_encoder(start, encoder)
        plan = planned(start, options, job.identity, encoder, progress)
        recipe = Recipe(encoder, modalities, options.captions, options.seed, options.dtype, plan.classes, plan.metadata)
        return work_through(job, start, plan, recipe, options)


def facts_of(job: Job) -> EncoderFacts:
    """What the encoder is: its weights are loaded once here, before anybody computes."""
    from xhash_ray.features.clip import ClipEncoder  # not beside the start of Ray: two threads' imports fail at times

    return ClipEncoder(job.model, job.pretrained, stored=job.stored).facts


def check_encoder(start: Start, encoder: EncoderFacts) -> None:
    """Raises Mismatch when a run was begun with other weights under the same name."""
    for plan in start.log.plans():
        before = plan.get("encoder", {}).get(DIGEST_KEY)
        if before != encoder.weights_sha256:
            found = f"the weights are {encoder.weights_sha256[:12]} now"
            asked = f"going on with the weights {str(before)[:12]}, with which the run in {start.log.uri} was begun"
            raise Mismatch(asked, found, "Put the old weights back, or give --overwrite to begin anew")


def planned(
    start: Start, options: CorpusWork, identity: dict[str, Any], encoder: EncoderFacts, progress: Progress
) -> Plan:
    """The plan of a run, made of a survey where there is none yet, or where the corpus has grown."""
    if not start.new and start.before:
        return start.before
    images = encoder.image_shape if "image" in modalities_of(options) else None
    rows = getattr(options, "rows_per_unit", None) or rows_for(images)
    known = surveying.written_ids(start.log) if start.before else None
    found = sorted(surveyed(start.source, start.new, progress), key=lambda each: each.part)
    plan = surveying.to_plan(
        identity, start.source, start.new, found, rows, duplicates_of(options), start.before, known
    )
    start.log.add_plan(start.plans, plan.as_json() | {"encoder": encoder.as_json()})
    return joined([from_json(each) for each in start.log.plans()])


def surveyed(source: Source, parts: Sequence[Part], progress: Progress) -> Iterator[surveying.PartFacts]:
    """Ids, labels and columns of all parts, read by tasks; where there is little to read, by this process."""
    survey = functools.partial(surveying.survey_part, source=source)
    if all(part.rows is not None for part in parts) and sum(part.rows or 0 for part in parts) <= FEW_ROWS:
        yield from map(survey, parts)
        return
    for number, found in enumerate(each_unit(parts, survey), 1):
        progress.tell(f"surveyed {number:,} of {len(parts):,} parts")
        yield found


@dataclass(frozen=True)
class Pools:
    """Processes of each stage, and threads of each that holds the model."""

    read: int
    prepare: int
    embed: int
    write: int
    threads: int
    gpus: float

    def stages(self) -> list[Stage]:
        """For the watch."""
        return [Stage(name, getattr(self, name)) for name in STEPS]


def pools_for(options: CorpusWork, units: int) -> Pools:
    """Sizes of the pools, by what the cluster has and how much there is to do."""
    cores, gpus = cluster.cores(), cluster.gpus()
    on_gpu = gpus > 0 and options.gpus_per_actor > 0
    nodes = cluster.nodes()
    most = int(gpus / options.gpus_per_actor) if on_gpu else min(cores, MODELS_PER_NODE * nodes)
    embed = max(1, min(options.actors or most, units))
    prepare = max(1, min(cores, units))
    io = max(1, min(units, 2 + cores // 4))
    return Pools(
        io, prepare, embed, io, cluster.threads_for(-(-embed // nodes)), options.gpus_per_actor if on_gpu else 0.0
    )


def work_through(job: Job, start: Start, plan: Plan, recipe: Recipe, options: Extract | Encode) -> dict[str, Any]:
    """Everything that is left, then the published result."""
    verb, log, done = job.verb, start.log, start.done()
    tasks = part_tasks(plan, set(done))
    pools = pools_for(options, sum(len(task.units) for task in tasks))
    made_by = {**plan.identity, "encoder": {DIGEST_KEY: recipe.encoder.weights_sha256}}
    with Observer(verb, log, pools.stages(), plan.pairs, done, options.max_rejects, made_by, options.events) as seen:
        left = sum(len(task.units) for task in tasks)
        seen.progress.say(f"{plan.pairs:,} pairs, {left:,} of {len(plan.units):,} units to do")
        if tasks:
            seen.follow(flow(tasks, steps(job, start.source, recipe, options, log, pools)))
        if not any(unit.part for unit in seen.done.values()):
            raise BadInput(f"{verb} {options.out}", "no pair is usable", f"See {log.uri}/{writing.REJECTS}")
        published = {**job.facts, "encoder": recipe.encoder.as_json(), "classes": list(plan.classes)}
        published |= {"modalities": list(recipe.modalities), "rejected": seen.kinds.total()}
        patiently(lambda: log.finish(list(seen.done.values()), published))
        last = seen.finish()
        seen.progress.finish(sum(unit.rows for unit in seen.done.values()), log.uri)
        return summary(log, seen.done, last.elapsed_s, last, seen.report)


def steps(job: Job, source: Source, recipe: Recipe, options: CorpusWork, log: UnitLog, pools: Pools) -> list[Step]:
    """The stages as Ray Data runs them."""
    from xhash_ray.runtime.embedding import Embedding

    held = functools.partial(Embedding, recipe, options, pools.threads, pools.gpus > 0, job.hashed, attempts.counter())
    told = {name: functools.partial(report_steps, verb=job.verb, names=(name,)) for name in STEPS}
    return [
        Step(functools.partial(load, source=source), pools.read, READ_CPUS, told=told["read"]),
        Step(
            functools.partial(prepared, recipe=recipe, timeout_s=options.decoder_timeout_s, tokenise=pools.gpus > 0),
            pools.prepare,
            PREPARE_CPUS_BESIDE_GPU if pools.gpus else PREPARE_CPUS,
            told=told["prepare"],
        ),
        Step(held, pools.embed, MODEL_CPUS, pools.gpus, held=True, told=told["embed"]),
        Step(functools.partial(write_unit, log=log), pools.write, WRITE_CPUS, told=told["write"]),
    ]
