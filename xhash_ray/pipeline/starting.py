"""Before anything is computed: is this run new, under way, finished, or another one's? Nothing is changed here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from xhash_ray.corpus.pairs import MODALITIES
from xhash_ray.corpus.sources import Part, Source, open_corpus
from xhash_ray.errors import BadOption, Mismatch
from xhash_ray.options.corpus import CorpusWork
from xhash_ray.pipeline.plan import MOST_ROWS, Plan, compare, from_json, joined
from xhash_ray.storage import tables
from xhash_ray.storage import uri as places
from xhash_ray.storage.unit_log import UnitFacts, UnitLog, open_log


@dataclass(frozen=True)
class Start:
    """Where a run stands.

    Attributes:
        log: What is done.
        source: The corpus.
        before: What was planned by earlier starts, None for a new run.
        plans: How often something was planned.
        new: Parts that no plan has.
        is_finished: Whether all is done and published.
    """

    log: UnitLog
    source: Source
    before: Plan | None
    plans: int
    new: list[Part]
    is_finished: bool

    def done(self) -> dict[int, UnitFacts]:
        """Units that earlier starts finished."""
        return self.log.done() if self.before else {}


def modalities_of(options: CorpusWork) -> tuple[str, ...]:
    """What is extracted."""
    return MODALITIES if options.modalities == "both" else (options.modalities,)


def duplicates_of(options: CorpusWork) -> str:
    """The policy for rows that repeat an id."""
    return options.duplicates or ("refuse" if options.identity == "given" else "first")


def corpus_identity(options: CorpusWork, corpus: str, rows_per_unit: int | None) -> dict[str, Any]:
    """Every setting of the work on a corpus that decides the result."""
    kept = ("columns", "identity", "modalities", "captions", "dtype", "precision", "compile")
    identity = {name: getattr(options, name) for name in kept}
    identity |= {"corpus": corpus, "duplicates": duplicates_of(options), "rows_per_unit": rows_per_unit or "default"}
    return identity | ({"seed": options.seed} if options.captions == "random" else {})


def open_run(what: str, corpus: str, options: Any, identity: Mapping[str, Any], needs: tuple[str, ...]) -> Start:
    """Opens corpus and log, and compares them.

    Args:
        what: What is written, for errors: "features", "codes".
        corpus: URI of the corpus.
        options: Of the verb: those of `CorpusWork` and `Resumable`, and `out`.
        identity: What decides the result.
        needs: Modalities that are read.

    Raises:
        BadInput: for a corpus or folder that cannot be used.
        Mismatch: when another run's work is there, or the corpus has changed since the run was begun.
    """
    log = open_log(options.out, what, identity, options.overwrite)
    source = open_corpus(corpus, options.columns, options.identity, needs)
    parts = source.parts(options.rows_per_unit or MOST_ROWS)
    plans = [from_json(plan) for plan in log.plans()]
    before = joined(plans) if plans else None
    new = compare(before, parts, corpus) if before else list(parts)
    if before and new and not options.extend:
        named = ", ".join(sorted({places.name_of(part.source) for part in new})[:3])
        count = len({part.source for part in new})
        remedy = "Give --extend to add them to what is done, or take them away"
        raise Mismatch(f"going on with {corpus}", f"{count} new files ({named}) since the run was begun", remedy)
    published = (tables.read_manifest(log.uri) or {}).get("run") == log.run
    return Start(log, source, before, len(plans), new, published and before is not None and not new)


def check_rows(rows_per_unit: int | None) -> None:
    """Raises BadOption for units without rows."""
    if rows_per_unit is not None and rows_per_unit < 1:
        raise BadOption("--rows-per-unit", str(rows_per_unit), "Give at least 1")
