"""Encoding on Ray Data: row groups of feature files, or a whole corpus, become part files of codes."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

import pyarrow as pa
import torch

from xhash_ray.corpus.patterns import absolute
from xhash_ray.errors import BadInput, BadOption, Mismatch
from xhash_ray.methods.base import Method
from xhash_ray.options import Encode
from xhash_ray.pipeline import codes
from xhash_ray.pipeline.codes import CodePlan, CodeUnit
from xhash_ray.pipeline.observing import Observer
from xhash_ray.pipeline.reporting import report_steps
from xhash_ray.pipeline.starting import check_rows, corpus_identity
from xhash_ray.pipeline.summing import summary
from xhash_ray.pipeline.watching import Stage, UnitDone
from xhash_ray.progress import Progress
from xhash_ray.runtime import cluster
from xhash_ray.runtime.extraction import Job, run
from xhash_ray.runtime.telemetry import reported_to_ray
from xhash_ray.runtime.units import each_unit
from xhash_ray.storage import tables, writing
from xhash_ray.storage import uri as places
from xhash_ray.storage.artefact import read_artefact, require_lengths
from xhash_ray.storage.features import FeatureSet, open_features
from xhash_ray.storage.retrying import patiently
from xhash_ray.storage.unit_log import UnitFacts, UnitLog, open_log

STEPS = ("read", "encode", "write")


def encode(options: Encode) -> dict[str, Any]:
    """Turns features, or a corpus, into codes; goes on where an earlier start of the same command ended.

    Returns:
        As `runtime.extraction.extract`, without `encoder`, and `bits`, `method`, `model_fingerprint`.

    Raises:
        BadInput: for features, a corpus or a model that cannot be used, before anything is computed.
        Mismatch: when the features are not of the lengths the model was trained on, when the folder holds another run's
            work, or the features have changed since this one was begun.
    """
    if (options.features is None) == (options.from_corpus is None):
        found = "neither" if options.features is None else "both"
        raise BadOption("xhash encode", f"{found} of --features and --from-corpus", "Give one of them")
    check_rows(options.rows_per_unit)
    model_uri = places.normalise(options.model)
    facts = read_artefact(model_uri).facts
    kept = {"bits": facts["bits"], "method": facts["method"], "model_fingerprint": facts["fingerprint"]}
    known = {"kind": "codes", **kept, "bit_order": "little"}
    if options.from_corpus:
        return encode_corpus(options, model_uri, facts, known)
    return encode_features(options, model_uri, facts, known)


def encode_corpus(options: Encode, model_uri: str, facts: Mapping[str, Any], known: dict[str, Any]) -> dict[str, Any]:
    """Straight from images and texts: the model names the CLIP that its features were made with."""
    encoder = facts.get("encoder") or {}
    if not encoder:
        found = "it does not say which CLIP made the features it was trained on"
        remedy = "Extract features first and give --features"
        raise BadInput(f"encoding a corpus with the model at {options.model}", found, remedy)
    corpus = absolute(str(options.from_corpus))
    identity = {"kind": "codes", "fingerprint": facts["fingerprint"], "keep_features": options.keep_features}
    identity |= corpus_identity(options, corpus, options.rows_per_unit)
    hashed = functools.partial(
        to_codes, model_uri=model_uri, fingerprint=facts["fingerprint"], keep_features=options.keep_features
    )
    pretrained = options.pretrained or encoder["pretrained"]
    known |= {"made_from": {"corpus": corpus}}
    job = Job("encode", "codes", corpus, identity, known, hashed, encoder["model"], pretrained, encoder)
    return run(job, options)


def to_codes(table: pa.Table, model_uri: str, fingerprint: str, keep_features: bool) -> pa.Table:
    """A table of features as one of codes."""
    return codes.encode_table(table, codes.method_of(model_uri, fingerprint), model_uri, keep_features)


def encode_features(options: Encode, model_uri: str, facts: Mapping[str, Any], known: dict[str, Any]) -> dict[str, Any]:
    """From stored features."""
    features = open_features(places.normalise(str(options.features)), ())
    image, text = (getattr(features, f"{name}_length") or facts[f"{name}_length"] for name in ("image", "text"))
    require_lengths(dict(facts), image, text, str(options.features))
    uri = features.tables.uri
    identity = {"kind": "codes", "fingerprint": facts["fingerprint"], "keep_features": options.keep_features}
    identity |= {"features": uri, "rows_per_unit": options.rows_per_unit or "default"}
    log = open_log(options.out, "codes", identity, options.overwrite)
    plan, is_new = planned(log, features, options, identity)
    done = log.done()
    if not is_new and (tables.read_manifest(log.uri) or {}).get("run") == log.run:
        Progress("encode").say(f"nothing is left to do: {log.uri} is complete")
        return summary(log, done, 0.0)
    writing.begin(writing.Claim(log.uri, log.run))
    known |= {"classes": list(features.classes), "made_from": {"features": uri}}
    with cluster.connected(), reported_to_ray():
        return work_through(log, plan, done, options, model_uri, known)


def planned(log: UnitLog, features: FeatureSet, options: Encode, identity: dict[str, Any]) -> tuple[CodePlan, bool]:
    """The plan of a run, and whether anything of it is new."""
    now = tables.file_versions(features.tables)
    plans = [codes.plan_from_json(plan) for plan in log.plans()]
    new = codes.compare(codes.joined(plans), now, features.tables.uri) if plans else list(now)
    if plans and not new:
        return codes.joined(plans), False
    if plans and not options.extend:
        remedy = "Give --extend to add them to what is done"
        raise Mismatch(f"going on with {options.features}", f"{len(new)} new files since the run was begun", remedy)
    wanted = set(new)
    groups = [group for group in tables.row_groups(features.tables) if group[0] in wanted]
    first = 1 + plans[-1].units[-1].number if plans else 0
    units = codes.plan_codes(groups, options.rows_per_unit or codes.ROWS_PER_UNIT, first)
    if not units and not plans:
        raise BadInput(f"features at {options.features}", "no rows", "Name features that hold pairs")
    made = CodePlan(identity, {name: now[name] for name in new}, tuple(units))
    log.add_plan(len(plans), made.as_json())
    return codes.joined([*plans, made]), True


def work_through(
    log: UnitLog,
    plan: CodePlan,
    done: Mapping[int, Any],
    options: Encode,
    model_uri: str,
    known: dict[str, Any],
) -> dict[str, Any]:
    """Everything that is left, then the published codes."""
    left = [unit for unit in plan.units if unit.number not in done]
    workers = max(1, min(len(left), cluster.cores()))
    stages = [Stage(name, workers) for name in STEPS]  # one after the other in the same task
    method = functools.partial(codes.method_of, model_uri, known["model_fingerprint"])
    task = functools.partial(encode_alone, method=method, log=log, keep=options.keep_features)
    with Observer("encode", log, stages, plan.pairs, done, 0.0, plan.identity, options.events) as seen:
        seen.progress.say(f"{plan.pairs:,} pairs, {len(left):,} of {len(plan.units):,} units to do")
        seen.follow(each_unit(left, task, functools.partial(report_steps, verb="encode", names=STEPS)))
        patiently(lambda: log.finish(list(seen.done.values()), known))
        last = seen.finish()
        seen.progress.finish(sum(unit.rows for unit in seen.done.values()), log.uri)
        return summary(log, seen.done, last.elapsed_s, last, seen.report)


def encode_alone(unit: CodeUnit, method: Callable[[], Method], log: UnitLog, keep: bool) -> tuple[UnitFacts, UnitDone]:
    """One unit, in a task: on one thread, since as many tasks as cores run beside each other."""
    torch.set_num_threads(1)
    return codes.encode_unit(unit, method, log, keep)
