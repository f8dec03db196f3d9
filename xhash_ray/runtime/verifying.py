"""`xhash verify` on the cluster: every file is looked at by a task, ids are joined by the driver."""

from __future__ import annotations

import functools
from typing import Any

from xhash_ray.corpus.sources import open_corpus
from xhash_ray.errors import BadOption, XhashError
from xhash_ray.options import Verify
from xhash_ray.pipeline import surveying, verifying
from xhash_ray.pipeline.plan import MOST_ROWS
from xhash_ray.pipeline.reporting import RunMetrics
from xhash_ray.pipeline.verifying import Findings, Ids, Seen
from xhash_ray.progress import Progress
from xhash_ray.runtime import cluster
from xhash_ray.runtime.telemetry import reported_to_ray
from xhash_ray.runtime.units import each_unit
from xhash_ray.storage import tables
from xhash_ray.storage import uri as places
from xhash_ray.storage.unit_log import UnitLog
from xhash_ray.storage.writing import REJECTS

SHOWN = 3


def verify(options: Verify) -> dict[str, Any]:
    """Checks that every pair of a corpus is in its features, and every pair of features in its codes, exactly once.

    Returns:
        `checked` (what was compared with what), `ids` (compared), `files`, `pairs` by result, `rejected`, `seconds`.

    Raises:
        BadOption: for nothing to verify.
        XhashError: when something is wrong, with what and where.
    """
    if not options.features and not options.codes:
        raise BadOption("xhash verify", "neither --features nor --codes", "Name what is to be verified")
    progress, findings = Looking(), Findings()
    result: dict[str, Any] = {"checked": [], "pairs": {}, "rejected": 0, "files": 0}
    with cluster.connected(), reported_to_ray(), progress.metrics:
        features = options.features
        if options.codes:
            codes = places.normalise(options.codes)
            origin = verifying.made_from(codes)
            features = features or origin.get("features")
            corpus = options.corpus or origin.get("corpus")
            if features:
                check_link(codes, "codes", places.normalise(features), options, findings, result, progress)
            else:
                check_corpus(codes, "codes", corpus, options, findings, result, progress)
        if features:
            uri = places.normalise(features)
            corpus = options.corpus or verifying.made_from(uri).get("corpus")
            check_corpus(uri, "features", corpus, options, findings, result, progress)
    if findings.problems:
        more = f" and {len(findings.problems) - SHOWN} more" if len(findings.problems) > SHOWN else ""
        remedy = "Run the stage again with --overwrite, or restore the files"
        raise XhashError("verifying ids and files", "; ".join(findings.problems[:SHOWN]) + more, remedy)
    result["files"] = progress.done
    return result | {"ids": findings.compared, "seconds": round(progress.seconds, 2)}


class Looking(Progress):
    """Lines and metrics about the files and parts that were looked at."""

    def __init__(self) -> None:
        super().__init__("verify", unit="files")
        self.metrics = RunMetrics("verify")

    def add(self, count: int) -> None:
        """Counts some, and says so when it is time."""
        super().add(count)
        self.metrics.units(count)


def check_link(
    codes: str,
    name: str,
    features: str,
    options: Verify,
    findings: Findings,
    result: dict[str, Any],
    progress: Progress,
) -> None:
    """Codes against the features they were made from: the same ids, each once."""
    found = verifying.gathered(name, contents(codes, name, options, progress), True, findings)
    origin = verifying.gathered("features", contents(features, "features", options, progress), True, Findings())
    verifying.unique(found, findings)
    verifying.join(origin, found, None, findings)
    result["checked"].append(f"{codes} against {features}")
    result["pairs"][name] = len(found.everything)


def check_corpus(
    uri: str,
    name: str,
    corpus: str | None,
    options: Verify,
    findings: Findings,
    result: dict[str, Any],
    progress: Progress,
) -> None:
    """Features, or codes, against the corpus they were made from, rejects included."""
    seen = contents(uri, name, options, progress)
    verifying.unique(verifying.gathered(name, seen, True, findings), findings)
    found = verifying.gathered(name, seen, False, Findings())
    result["pairs"][name] = len(found.everything)
    run = (tables.read_manifest(uri) or {}).get("run")
    if not corpus or not run:
        result["checked"].append(f"{uri} alone: it does not say which corpus it was made from")
        return
    settings = UnitLog(uri, run).plans()[0]["identity"]
    rejects = rejected(uri, options, findings, progress)
    verifying.join(inputs(corpus, settings, progress), found, rejects, findings)
    result["checked"].append(f"{uri} against {corpus}")
    result["rejected"] = len(rejects.everything)


def contents(uri: str, name: str, options: Verify, progress: Progress) -> list[Seen]:
    """What all files of a result hold, by name."""
    found = tables.open_tables(uri, name)
    run = found.facts.get("run")
    plans = UnitLog(uri, run).plans() if run else []
    by_caption = bool(plans) and plans[0]["identity"].get("captions") == "each"
    asked = verifying.files_of(found, options.checksums, by_caption)
    progress.total += len(asked)
    seen = list[Seen]()
    for each in each_unit(asked, verifying.look):
        seen.append(each)
        progress.add(1)
    return sorted(seen, key=lambda each: each.uri)


def rejected(uri: str, options: Verify, findings: Findings, progress: Progress) -> Ids:
    """All ids of a result's rejects."""
    folder = places.join(uri, REJECTS)
    if tables.read_manifest(folder) is None:
        return Ids("rejects", [], [])
    return verifying.gathered("rejects", contents(folder, "rejects", options, progress), True, findings)


def inputs(corpus: str, settings: dict[str, Any], progress: Progress) -> Ids:
    """All ids of a corpus, as a run with these settings reads it."""
    needs = ("image", "text") if settings["modalities"] == "both" else (settings["modalities"],)
    source = open_corpus(corpus, settings["columns"], settings["identity"], needs)
    parts = source.parts(MOST_ROWS)
    progress.total += len(parts)
    found = list[surveying.PartFacts]()
    for each in each_unit(parts, functools.partial(surveying.survey_part, source=source)):
        found.append(each)
        progress.add(1)
    found.sort(key=lambda each: each.part)
    return Ids("the corpus", [part.source for part in parts], [each.digests for each in found])
