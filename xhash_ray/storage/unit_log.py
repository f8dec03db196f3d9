"""The commit log of a stage: which units of work are done, so that a run that died goes on where it was.

    out/
      part-000012-RRRRRRRRRR-CCCCCCCCCCCC.parquet     what unit 12 made; R: the run, C: its content
      _log/RUN/plan-0.json                            what decides the result, and the units; created once
      _log/RUN/plan-1.json                            further units of a source that has grown (--extend)
      _log/RUN/units/000012.json                      the manifest of unit 12: it exists if and only if the unit is done
      _rejects/                                       rows that could not be used, a dataset of its own
      _dataset.json                                   the finished dataset: exactly the files that the manifests name

A part's name tells its content, so whatever a worker that was believed dead still writes replaces nothing; a manifest
is created on the condition that there is none, so of two workers that did the same unit one counts. The same options
give the same run, and so the same command finds what the last one left.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from typing import Any

import pyarrow as pa

from xhash_ray.errors import BadInput, Mismatch
from xhash_ray.storage import tables, writing
from xhash_ray.storage import uri as places
from xhash_ray.storage.retrying import patiently
from xhash_ray.storage.tables import FORMAT_VERSION, FileFacts
from xhash_ray.storage.writing import REJECTS

LOG = "_log"
WRITTEN = re.compile(r"^(part|unit)-\d{6,}-[0-9a-f]{10}-\d+-[0-9a-f]{12}\.parquet$")
READERS = 32  # manifests are small; what takes time is the way to the store


@dataclass(frozen=True)
class UnitFacts:
    """The manifest of a finished unit.

    Attributes:
        unit: Its number in the plan.
        pairs: Rows of the input that it covers.
        part: What it wrote, None where no row was left.
        rejects: The file of its rejects, None where there were none.
        rejected: Their number by "stage: kind".
    """

    unit: int
    pairs: int
    part: FileFacts | None
    rejects: FileFacts | None = None
    rejected: dict[str, int] = field(default_factory=dict)

    @property
    def rows(self) -> int:
        """Rows written."""
        return self.part.rows if self.part else 0


@dataclass(frozen=True)
class UnitLog:
    """A folder that one run writes, unit by unit.

    Attributes:
        uri: The folder.
        run: Names the run: ten hexadecimal digits of what decides the result, and how often it was begun anew.
    """

    uri: str
    run: str

    def place(self, *names: str) -> str:
        """URI of something that the log keeps."""
        return places.join(self.uri, LOG, self.run, *names)

    def plans(self) -> list[dict[str, Any]]:
        """The plans in the order in which they were made; [] for a run that has not begun."""
        found: list[dict[str, Any]] = []
        while places.exists(self.place(f"plan-{len(found)}.json")):
            found.append(places.read_json(self.place(f"plan-{len(found)}.json")))
        return found

    def add_plan(self, number: int, plan: Mapping[str, Any]) -> None:
        """Writes a plan down.

        Raises:
            Mismatch: when somebody else has just written another one.
        """
        complete = {"format_version": FORMAT_VERSION, **plan}
        content = places.json_bytes(complete)
        place = self.place(f"plan-{number}.json")
        if not places.create_bytes(place, content) and places.read_bytes(place) != content:
            raise Mismatch(f"planning {self.uri}", "another run is planning the same", "Run again when it is done")

    def write_part(self, unit: int, table: pa.Table) -> FileFacts | None:
        """Writes what a unit made; None for no rows."""
        return self.write(f"part-{unit:06d}", self.uri, table) if table.num_rows else None

    def write_rejects(self, unit: int, table: pa.Table) -> FileFacts | None:
        """Writes what a unit could not use; None for no rows."""
        return self.write(f"unit-{unit:06d}", places.join(self.uri, REJECTS), table) if table.num_rows else None

    def write(self, name: str, folder: str, table: pa.Table) -> FileFacts:
        """Writes a Parquet file whose name ends in the run and in twelve digits of its content's SHA-256."""
        content = tables.to_bytes(table)
        digest = hashlib.sha256(content).hexdigest()
        name = f"{name}-{self.run}-{digest[:12]}.parquet"
        patiently(lambda: places.write_bytes(places.join(folder, name), content))
        return FileFacts(name, table.num_rows, len(content), digest)

    def commit(self, facts: UnitFacts) -> UnitFacts:
        """Makes a unit count, after everything it names was written; returns what counts, be it another worker's."""
        place, content = self.place("units", f"{facts.unit:06d}.json"), places.json_bytes(asdict(facts))
        if patiently(lambda: places.create_bytes(place, content)):
            return facts
        return read_facts(place)

    def done(self) -> dict[int, UnitFacts]:
        """The manifests of all finished units."""
        folder = self.place("units")
        if not places.exists(folder):
            return {}
        names = places.list_files(folder, (".json",))
        with ThreadPoolExecutor(READERS) as readers:
            found = list(readers.map(read_facts, names))
        return {facts.unit: facts for facts in found}

    def finish(self, units: Sequence[UnitFacts], facts: Mapping[str, Any]) -> list[FileFacts]:
        """Publishes the dataset: exactly the parts that the units name; then sweeps up what no manifest names.

        Returns:
            The parts, in the order of their units.
        """
        ordered = sorted(units, key=lambda each: each.unit)
        parts = [each.part for each in ordered if each.part]
        rejects = [each.rejects for each in ordered if each.rejects]
        if rejects:
            writing.commit(places.join(self.uri, REJECTS), rejects, {"kind": "rejects"})
        else:
            places.delete(self.uri, [REJECTS])
        writing.commit(self.uri, parts, {**facts, "run": self.run})
        self.sweep({entry.name for entry in parts} | {entry.name for entry in rejects})
        return parts

    def sweep(self, kept: set[str]) -> None:
        """Deletes what was written but never counted, by whichever run, and the logs of other runs."""
        for folder in (self.uri, places.join(self.uri, REJECTS)):
            if places.exists(folder):
                names = [places.name_of(name) for name in places.list_files(folder, (".parquet",))]
                places.delete(folder, [name for name in names if WRITTEN.match(name) and name not in kept])
        places.delete(places.join(self.uri, LOG), [run for run in runs_begun(self.uri) if run != self.run])


def read_facts(uri: str) -> UnitFacts:
    """A manifest, read again where the store fails."""
    return to_facts(patiently(lambda: places.read_json(uri)))


def to_facts(value: Mapping[str, Any]) -> UnitFacts:
    """A manifest as it was written."""
    files = {name: FileFacts(**value[name]) if value[name] else None for name in ("part", "rejects")}
    return UnitFacts(**{**value, **files})


def run_of(identity: Mapping[str, Any]) -> str:
    """Ten hexadecimal digits that name everything that decides the result."""
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:10]


def open_log(uri: str, what: str, identity: Mapping[str, Any], overwrite: bool) -> UnitLog:
    """The log of a run: that of an earlier start where there is one. Changes nothing.

    Args:
        uri: The folder.
        what: What is written there, for errors: "features", "codes".
        identity: What decides the result, but for the source's content.
        overwrite: Whether what another run left or finished there may be replaced.

    Raises:
        Mismatch: when another run's results or unfinished work are there, naming the settings that differ.
        BadInput: when the place is a file, or holds results that no log tells of.
    """
    out, digits = places.normalise(uri), run_of(identity)
    if places.is_file(out):
        raise BadInput(f"writing {what} to {uri}", "a file of that name", "Name a folder")
    finished = (tables.read_manifest(out) or {}).get("run", "" if tables.read_manifest(out) else None)
    if overwrite:
        again = int(finished.rpartition("-")[2]) + 1 if finished and finished.startswith(digits) else 0
        return UnitLog(out, f"{digits}-{again}")
    if finished == "":
        raise BadInput(f"writing {what} to {uri}", "finished results are there", "Name another folder, or --overwrite")
    others = [finished] if finished else runs_begun(out)
    for run in sorted(others, reverse=True):
        if run.startswith(digits):
            return UnitLog(out, run)
    if others:
        state = "finished results" if finished else "an unfinished run"
        refuse(UnitLog(out, others[0]), identity, f"writing {what} to {uri}", f"{state} with other settings")
    return UnitLog(out, f"{digits}-0")


def runs_begun(out: str) -> list[str]:
    """Runs that have a plan in a folder."""
    folder = places.join(out, LOG)
    if not places.exists(folder):
        return []
    names = places.list_files(folder, (".json",))
    return sorted({name.rsplit("/", 2)[-2] for name in names if places.name_of(name).startswith("plan-")})


def refuse(log: UnitLog, identity: Mapping[str, Any], asked: str, state: str) -> None:
    """Raises Mismatch naming in what a run differs from the one whose results are there."""
    theirs = next(iter(log.plans()), {}).get("identity", {})
    changes = ", ".join(differences(theirs, identity)) or "of another kind"
    remedy = "Give the same settings to go on, name another folder, or give --overwrite"
    raise Mismatch(asked, f"{state} is there ({changes})", remedy)


def differences(before: Mapping[str, Any], now: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """What differs between two identities, such as "captions: mean there, first here"."""
    for name in dict.fromkeys([*before, *now]):
        there, here = before.get(name), now.get(name)
        if isinstance(there, Mapping) and isinstance(here, Mapping):
            yield from differences(there, here, f"{prefix}{name}.")
        elif there != here:
            yield f"{prefix}{name}: {there!s:.60} there, {here!s:.60} here"
