"""Building an index on Ray Data: code files are cut by the hash of their ids, then assembled segment by segment."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import torch

from xhash_ray.core.shards import shard_of
from xhash_ray.errors import BadInput, BadOption
from xhash_ray.index import build as plans
from xhash_ray.index.build import BUILDING, Build, Cut
from xhash_ray.index.gates import HeldOut, parse_gates, pass_gates
from xhash_ray.index.generations import MODELS, Generation, commit, current, numbers
from xhash_ray.index.segments import SegmentFacts
from xhash_ray.methods.artefacts import to_method
from xhash_ray.options import IndexBuild
from xhash_ray.progress import Progress
from xhash_ray.runtime import cluster
from xhash_ray.runtime.units import each_unit
from xhash_ray.storage import tables
from xhash_ray.storage import uri as places
from xhash_ray.storage.artefact import copy_artefact, read_artefact, require_fingerprint, require_lengths
from xhash_ray.storage.codes import CodeSet, open_codes
from xhash_ray.storage.features import load_features
from xhash_ray.storage.where import parse_where


def build_index(options: IndexBuild) -> dict[str, Any]:
    """Builds a sharded index from codes. Stopped at any moment, it goes on from there when it is started again.

    Returns:
        `out`, `generation`, `rows`, `shards`, `rows_per_shard`, `segments`, `bits`, `size_bytes`,
        `code_bytes_per_pair`, `gates`, `seconds`, `rows_per_s`.

    Raises:
        Mismatch: when the codes were made by another model.
        BadInput: for codes or a model that cannot be read, ids that are missing or occur twice, no rows at all, or
            codes that do not pass the gates.
        Conflict: when somebody else committed meanwhile.
    """
    out = places.normalise(options.out)
    before = earlier(options, out)
    gates = parse_gates(options.gates)
    codes = open_codes(places.normalise(options.codes))
    model = places.normalise(options.model)
    facts = read_artefact(model).facts
    require_fingerprint(facts, codes.fingerprint, options.codes)
    if gates.need_held_out and not options.held_out:
        raise BadOption(f"gates.{gates.need_held_out[0]}", "no held-out pairs", "Give their features with --held-out")
    held_out = held_out_pairs(options, model) if options.held_out else None
    build, cuts = plan(options, out, before.number + 1 if before else 1, codes)
    progress = Progress("index build", codes.tables.total_rows)
    with cluster.connected():
        segments = spread(build, cuts, progress)
    if not segments:
        places.delete(out, [f"{BUILDING}/{build.run}"])
        raise BadInput(f"index of {options.codes}", "no rows", "Check the folder and --where")
    try:
        found = pass_gates(gates, out, segments, held_out)
    except BadInput:
        places.delete(out, [*(entry.name for entry in segments), f"{BUILDING}/{build.run}"])
        raise
    copy = f"{MODELS}/{facts['fingerprint'][:12]}"
    copy_artefact(model, places.join(out, copy))
    kept = {"method": facts["method"], "model_fingerprint": facts["fingerprint"], "encoder": facts["encoder"]}
    kept |= {"bits": codes.bits, "model": copy, "classes": list(codes.classes), "shards": options.shards}
    made = commit(out, before, "build", segments, [], sum(entry.rows for entry in segments), kept)
    places.delete(out, [f"{BUILDING}/{build.run}"])
    progress.finish(made.rows, out)
    return summary(made, found, progress.seconds)


def summary(made: Generation, gates: dict[str, float], seconds: float) -> dict[str, Any]:
    """What the verb says in the end."""
    segments = made.segments
    return {
        "out": made.uri,
        "generation": made.number,
        "rows": made.rows,
        "shards": made.shards,
        "rows_per_shard": [sum(entry.rows for entry in segments if entry.shard == n) for n in range(made.shards)],
        "segments": len(segments),
        "bits": made.bits,
        "size_bytes": sum(entry.size_bytes for entry in segments),
        "code_bytes_per_pair": 2 * made.bits // 8,
        "gates": gates,
        "seconds": round(seconds, 2),
        "rows_per_s": round(made.rows / seconds, 1),
    }


def earlier(options: IndexBuild, out: str) -> Generation | None:
    """The generation that the new one follows; none in a free folder.

    Raises:
        BadInput: when there is an index that may not be built anew.
    """
    if places.is_file(out):
        raise BadInput(f"writing an index to {out}", "a file of that name", "Name a folder")
    if not numbers(out):
        return None
    if not options.overwrite:
        raise BadInput(f"writing an index to {out}", "an index is there", "Name another folder or give --overwrite")
    return current(out)


def plan(options: IndexBuild, out: str, since: int, codes: CodeSet) -> tuple[Build, list[Cut]]:
    """What is to be done; the same codes, options and generation give the same plan."""
    shard_of([], options.shards)
    cuts = plans.plan_cuts(tables.row_groups(codes.tables), plans.CUT_ROWS)
    parts = plans.parts_of(codes.tables.total_rows, options.shards, plans.SEGMENT_ROWS)
    decides = {"files": tables.file_versions(codes.tables), "shards": options.shards, "parts": parts, "since": since}
    decides |= {"where": options.where, "out": out, "cuts": [(cut.sources, cut.rows) for cut in cuts]}
    build = Build(out, plans.run_of(decides), since, options.shards, parts, parse_where(options.where))
    return build, cuts


def spread(build: Build, cuts: Sequence[Cut], progress: Progress) -> list[SegmentFacts]:
    """Both steps, without what an earlier start finished; returns the segments that have rows."""
    done = plans.done_before(build)
    waiting = [cut for cut in cuts if cut.name not in done]
    unfinished = [number for number in range(build.segments) if plans.done_name(number) not in done]
    if done:
        left = f"{len(waiting)} of {len(cuts)} cuts and {len(unfinished)} of {build.segments} segments are left"
        progress.say(f"going on: {left}")
    progress.done = sum(cut.rows for cut in cuts) - sum(cut.rows for cut in waiting)
    if unfinished:  # once all segments are whole, cuts are of no use
        for rows in each_unit(waiting, functools.partial(cut_one, build=build)):
            progress.add(rows)
    progress.say(f"all {len(cuts)} parts are cut; assembling {len(unfinished)} segments")
    for number, _ in enumerate(each_unit(unfinished, functools.partial(assemble_one, build=build, cuts=cuts)), 1):
        progress.tell(f"{number} of {len(unfinished)} segments are whole")
    found = [plans.read_done(build, number) for number in range(build.segments)]
    return [facts for facts in found if facts]


def cut_one(cut: Cut, build: Build) -> int:
    """One cut, in a task; returns its rows, counted before --where."""
    plans.write_cut(build, cut)
    return cut.rows


def assemble_one(number: int, build: Build, cuts: Sequence[Cut]) -> int:
    """One segment, in a task."""
    plans.write_assembled(build, number, cuts)
    return number


def held_out_pairs(options: IndexBuild, model: str) -> HeldOut:
    """Features that no training saw, and their codes.

    Raises:
        Mismatch: when they are not of the lengths that the model takes.
    """
    artefact = read_artefact(model)
    features = load_features(places.normalise(str(options.held_out)), parse_where(options.held_out_where))
    require_lengths(artefact.facts, features.image.shape[1], features.text.shape[1], str(options.held_out))
    method = to_method(artefact)
    codes = {each: method.encode(each, torch.from_numpy(getattr(features, each))) for each in ("image", "text")}
    return HeldOut(features.image, features.text, codes["image"], codes["text"])
