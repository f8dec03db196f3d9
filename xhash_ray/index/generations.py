"""What an index is: numbered generations, each a JSON file that is created once and never changed (README.md here)."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from xhash_ray.errors import BadInput, Conflict, Mismatch
from xhash_ray.index.segments import IndexFile, SegmentFacts
from xhash_ray.storage import uri as places

GENERATIONS, MODELS = "generations", "models"
FORMAT_VERSION = 2
IDENTITY = ("bits", "method", "model_fingerprint", "model", "encoder", "classes", "shards")  # kept by every change
NO_INDEX = "Name a folder that `xhash index build` wrote"


@dataclass(frozen=True)
class Generation:
    """A committed state of an index.

    Attributes:
        uri: The index's folder.
        facts: The content of its JSON file.
    """

    uri: str
    facts: dict[str, Any]

    @property
    def number(self) -> int:
        """From 1."""
        return int(self.facts["generation"])

    @property
    def bits(self) -> int:
        """Length of a code."""
        return int(self.facts["bits"])

    @property
    def rows(self) -> int:
        """Pairs that are there."""
        return int(self.facts["rows"])

    @property
    def shards(self) -> int:
        """Number of shards."""
        return int(self.facts["shards"])

    @property
    def model_uri(self) -> str:
        """The copy of the model folder."""
        return places.join(self.uri, str(self.facts["model"]))

    @property
    def segments(self) -> list[SegmentFacts]:
        """All segments."""
        return [SegmentFacts(**entry) for entry in self.facts["segments"]]

    @property
    def tombstones(self) -> list[IndexFile]:
        """All files of deleted ids."""
        return [IndexFile(**entry) for entry in self.facts["tombstones"]]

    def files(self) -> list[str]:
        """Names of all segments and tombstones that this generation needs."""
        return [entry["name"] for entry in [*self.facts["segments"], *self.facts["tombstones"]]]


def name_of(number: int) -> str:
    """A generation's file below the index's folder; names sort in the order of numbers."""
    return f"{GENERATIONS}/{number:08d}.json"


def numbers(uri: str) -> list[int]:
    """All generations of an index, ascending; none where there is no index."""
    folder = places.join(uri, GENERATIONS)
    if not places.exists(folder):
        return []
    names = [places.name_of(name).partition(".")[0] for name in places.list_files(folder, (".json",))]
    return sorted(int(name) for name in names if name.isdigit())


def current(uri: str) -> Generation:
    """The last generation.

    Raises:
        BadInput: when there is no index.
        Mismatch: when its format is another.
    """
    found = numbers(uri)
    if not found:
        if places.exists(places.join(uri, "manifest.json")):
            raise Mismatch(
                f"index at {uri}", "format version 1", f"Build it again: this version reads {FORMAT_VERSION}"
            )
        raise BadInput(f"index at {uri}", "no generation", NO_INDEX)
    return read(uri, found[-1])


def read(uri: str, number: int) -> Generation:
    """One generation.

    Raises:
        BadInput: when it does not exist.
        Mismatch: when its format is newer.
    """
    place = places.join(uri, name_of(number))
    if not places.exists(place):
        known = numbers(uri)
        found = f"no generation {number}; there are {', '.join(map(str, known)) or 'none'}"
        raise BadInput(f"index at {uri}", found, "Name one of those" if known else NO_INDEX)
    facts = places.read_json(place)
    if facts.get("format_version") != FORMAT_VERSION:
        found = f"format version {facts.get('format_version')} in {name_of(number)}"
        raise Mismatch(f"index at {uri}", found, f"This version of xhash-ray reads version {FORMAT_VERSION}")
    return Generation(uri, facts)


def commit(
    uri: str,
    parent: Generation | None,
    change: str,
    segments: Sequence[SegmentFacts],
    tombstones: Sequence[IndexFile],
    rows: int,
    facts: Mapping[str, Any],
) -> Generation:
    """Makes a new generation the current one, if its parent still is.

    Args:
        uri: The index's folder; every file named is there already.
        parent: The generation that the change began with, None for the first.
        change: "build", "add", ...
        segments: Of the new generation.
        tombstones: Of the new generation.
        rows: Pairs that are there.
        facts: bits, method, model_fingerprint, model, encoder, classes, shards.

    Raises:
        Conflict: when somebody else committed meanwhile.
    """
    number = 1 if parent is None else parent.number + 1
    complete = {
        "format_version": FORMAT_VERSION,
        "generation": number,
        "parent": parent.number if parent else None,
        "change": change,
        "created_unix_s": round(time.time()),
        "bit_order": "little",
        **{name: facts[name] for name in IDENTITY if name in facts},
        "rows": rows,
        "segments": [vars(entry) for entry in segments],
        "tombstones": [vars(entry) for entry in tombstones],
    }
    if not places.create_bytes(places.join(uri, name_of(number)), places.json_bytes(complete)):
        found = f"generation {number} was committed by another writer meanwhile"
        raise Conflict(f"{change} of the index at {uri}", found, "Nothing was changed; run it again")
    return Generation(uri, complete)
