"""A copy of an index elsewhere: a backup, its restoration, or another region's. One generation and all that it needs.

The generation's file is created last, so a copy that is there is whole. Files never change and no two have the same
name, so what the copy has already is not sent again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

from xhash_ray.errors import BadInput, Conflict, Mismatch
from xhash_ray.index import generations
from xhash_ray.index.generations import Generation, name_of
from xhash_ray.index.segments import IndexFile
from xhash_ray.options import IndexCopy
from xhash_ray.progress import Progress
from xhash_ray.storage import streams
from xhash_ray.storage import uri as places
from xhash_ray.storage.artefact import copy_artefact, read_facts
from xhash_ray.storage.retrying import patiently


def copy(options: IndexCopy) -> dict[str, Any]:
    """Copies a generation; checks every file's size and SHA-256 on the way.

    Returns:
        `out`, `generation`, `rows`, `files` and `size_bytes` copied, `there` (files that the copy had already).

    Raises:
        BadInput: when there is no such generation, a file of it is missing, or the copy is of another index.
        Mismatch: when a file is not what the generation says.
        Conflict: when somebody else copied another generation of that number meanwhile.
    """
    uri, out = places.normalise(options.index), places.normalise(options.out)
    chosen = patiently(lambda: generation_of(uri, options.generation))
    patiently(lambda: check_target(chosen, out))
    needed = [*chosen.segments, *chosen.tombstones]
    missing = patiently(lambda: [facts for facts in needed if not is_there(out, facts)])
    progress = Progress("index copy", sum(facts.size_bytes for facts in missing))
    for facts in missing:
        copy_file(uri, out, facts)
        progress.add(facts.size_bytes)
    patiently(lambda: copy_model(chosen, out))
    patiently(lambda: publish(chosen, out))
    size_bytes = sum(facts.size_bytes for facts in missing)
    told = {"files": len(missing), "size_bytes": size_bytes, "there": len(needed) - len(missing)}
    return {"out": out, "generation": chosen.number, "rows": chosen.rows, **told}


def generation_of(uri: str, number: int | None) -> Generation:
    """The generation of that number, or the current one."""
    return generations.current(uri) if number is None else generations.read(uri, number)


def check_target(chosen: Generation, out: str) -> None:
    """Raises BadInput where a copy would mix two indexes, or put an older generation beneath a newer one."""
    asked, known = f"copying generation {chosen.number} to {out}", generations.numbers(out)
    if out == chosen.uri:
        raise BadInput(asked, "that is the index itself", "Name another folder")
    if known and known[-1] > chosen.number:
        raise BadInput(asked, f"generation {known[-1]} is there", "Name another folder, or roll back there")
    for number in set(known) & set(generations.numbers(chosen.uri)):
        if generations.read(out, number).facts != generations.read(chosen.uri, number).facts:
            raise BadInput(asked, f"generation {number} of another index is there", "Name another folder")


def is_there(out: str, facts: IndexFile) -> bool:
    """Whether a copy has a file already."""
    return places.size_of(places.join(out, facts.name)) == facts.size_bytes


def copy_file(uri: str, out: str, facts: IndexFile) -> None:
    """Copies one file; it appears when it is whole and what the generation says."""
    patiently(lambda: copy_once(uri, out, facts))


def copy_once(uri: str, out: str, facts: IndexFile) -> None:
    """One try of `copy_file`."""
    source, digest, size_bytes = places.join(uri, facts.name), hashlib.sha256(), 0
    if not places.exists(source):
        raise BadInput(f"index at {uri}", f"{facts.name} is missing", "Copy another generation")
    with streams.written(places.join(out, facts.name)) as target:
        for piece in pieces(source):
            digest.update(piece)
            size_bytes += len(piece)
            target.write(piece)
        if (size_bytes, digest.hexdigest()) != (facts.size_bytes, facts.sha256):  # inside: nothing appears
            found = f"{facts.name} has not the size and SHA-256 that the generation says"
            raise Mismatch(f"index at {uri}", found, "Run `xhash index verify`, and copy another generation")


def pieces(uri: str) -> Iterator[bytes]:
    """A file's content."""
    with places.said_clearly(uri), places.fsspec_filesystem(uri).open(uri, "rb") as file:
        while piece := file.read(streams.PIECE_BYTES):
            yield piece


def copy_model(chosen: Generation, out: str) -> None:
    """The model that encodes queries, unless it is there."""
    target = places.join(out, str(chosen.facts["model"]))
    known = read_facts(target)
    if known is None or known.get("fingerprint") != chosen.facts["model_fingerprint"]:
        copy_artefact(chosen.model_uri, target)


def publish(chosen: Generation, out: str) -> None:
    """Creates the generation's file.

    Raises:
        Conflict: when another one of that number was created meanwhile.
    """
    place = places.join(out, name_of(chosen.number))
    created = places.create_bytes(place, places.json_bytes(chosen.facts))
    if not created and places.read_json(place) != chosen.facts:
        raise Conflict(f"copying to {out}", f"another generation {chosen.number} came first", "Name another folder")
