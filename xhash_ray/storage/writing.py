"""How a stage writes a folder of Parquet files, so that what was there before survives until the new is complete.

A stage first claims the folder (nothing changes), then writes parts whose names carry the run, then commits: the
manifest is replaced in one step and names exactly the new files, and only after that are the old ones removed. A run
that dies leaves the old results as they were; in a folder that had none it leaves a mark, and readers refuse it.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from xhash_ray.errors import BadInput
from xhash_ray.storage import tables
from xhash_ray.storage import uri as places
from xhash_ray.storage.tables import FORMAT_VERSION, MANIFEST, UNFINISHED, FileFacts

REJECTS = "_rejects"


@dataclass(frozen=True)
class Claim:
    """A folder that a run may write to.

    Attributes:
        uri: Its normal name.
        run: Eight hexadecimal digits in the names of this run's files.
    """

    uri: str
    run: str

    def part(self, number: int, suffix: str = "") -> str:
        """URI of a part file; names sort in the order of numbers."""
        return places.join(self.uri, f"part-{number:06d}{suffix}-{self.run}.parquet")

    @property
    def rejects(self) -> str:
        """URI of the folder for this run's rejects."""
        return places.join(self.uri, REJECTS, self.run)


def claim(uri: str, what: str, overwrite: bool) -> Claim:
    """Asks for a folder, changing nothing.

    Raises:
        BadInput: when finished results are there and may not be replaced, or the name is a file.
    """
    out = places.normalise(uri)
    if places.is_file(out):
        raise BadInput(f"writing {what} to {uri}", "a file of that name", "Name a folder")
    if tables.read_manifest(out) and not overwrite:
        found = "finished results are there"
        raise BadInput(f"writing {what} to {uri}", found, "Name another folder or give --overwrite")
    return Claim(out, new_run())


def new_run() -> str:
    """A name for a run that no other run has."""
    return uuid.uuid4().hex[:8]


def begin(claimed: Claim) -> None:
    """Marks a folder without results as unfinished; call it before the first part is written."""
    if tables.read_manifest(claimed.uri) is None:
        places.write_bytes(places.join(claimed.uri, UNFINISHED), f"run {claimed.run}\n".encode())


def commit(uri: str, files: Sequence[FileFacts], facts: dict[str, Any]) -> None:
    """Publishes the files of a folder, then removes those of the results it replaces.

    Args:
        uri: The folder; every file lies directly in it.
        files: What `write_table` returned, in the order that readers shall see.
        facts: Whatever else readers need to know.
    """
    before = tables.read_manifest(uri) or {"files": []}
    merge_footers(uri, [entry.name for entry in files])
    listed = [vars(entry) for entry in files]
    rows = sum(entry.rows for entry in files)
    manifest = {"format_version": FORMAT_VERSION, "rows": rows, **facts, "files": listed}
    places.write_json(places.join(uri, MANIFEST), manifest)
    current = {entry.name for entry in files}
    replaced = [entry["name"] for entry in before["files"] if entry["name"] not in current]
    places.delete(uri, [UNFINISHED, *replaced])


def merge_footers(uri: str, names: Sequence[str]) -> None:
    """Writes `_metadata`: the footers of all part files in one object.

    Source: fastparquet.writer.merge; other engines read the result as a dataset of these files.
    """
    import fastparquet.writer  # here: it takes half a second, which only whoever commits shall spend

    filesystem = places.fsspec_filesystem(uri)
    root = filesystem._strip_protocol(uri)
    files = [places.join(root, name) for name in names]
    with places.said_clearly(uri):
        fastparquet.writer.merge(files, verify_schema=False, open_with=filesystem.open, root=root)
