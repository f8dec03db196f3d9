"""From a name to a corpus: which files it stands for, and which form they are of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from xhash_ray.corpus.footers import refuse_unfinished
from xhash_ray.corpus.image_files import ImageFiles, suffix_of_images
from xhash_ray.corpus.image_folder import ImageFolder
from xhash_ray.corpus.pairs import Reading
from xhash_ray.corpus.parquet import ParquetCorpus
from xhash_ray.corpus.patterns import expanded
from xhash_ray.corpus.sources import Source
from xhash_ray.corpus.streams import PACKED_SUFFIXES
from xhash_ray.corpus.text_tables import DELIMITERS
from xhash_ray.corpus.webdataset import WebDataset
from xhash_ray.errors import BadInput
from xhash_ray.storage import tables
from xhash_ray.storage import uri as places
from xhash_ray.storage.versions import infos_of

PARQUET_SUFFIXES = (".parquet", ".pq")
TAR_SUFFIXES = (".tar", ".tgz", ".tbz2", ".txz", ".tzst", *(f".tar{packed}" for packed in PACKED_SUFFIXES))
TABLE_SUFFIXES = {name: tuple(f"{name}{packed}" for packed in ("", *PACKED_SUFFIXES)) for name in DELIMITERS}
PARQUET, TAR = "Parquet file", "tar"
SUFFIXES: dict[str, tuple[str, ...]] = {
    PARQUET: PARQUET_SUFFIXES,
    TAR: TAR_SUFFIXES,
    **{f"{name} table": suffixes for name, suffixes in TABLE_SUFFIXES.items()},
}
EVERY_SUFFIX = tuple(suffix for suffixes in SUFFIXES.values() for suffix in suffixes)
EXPECTED = "Parquet files, WebDataset .tar files, or images with .csv, .tsv or .jsonl tables"


def find(uri: str, reading: Reading) -> Source:
    """The corpus at a place.

    Args:
        uri: A file, a folder, a pattern or a list of them.
        reading: How rows become pairs.

    Raises:
        BadInput: when nothing is there, or nothing that looks like a corpus, or several things that do.
    """
    named = expanded(uri)
    files = by_kind(listed(named))
    whole = named[0] if len(named) == 1 else uri
    if not files:
        raise BadInput(f"corpus at {whole}", "no corpus file", f"Name a file or folder with {EXPECTED}")
    sidecars = tables_of_tars(files.get(TAR, []), files.get(PARQUET, [])) if set(files) == {TAR, PARQUET} else {}
    if TAR in files and (len(files) == 1 or sidecars):
        return WebDataset(whole, files[TAR], reading, sidecars)
    if len(files) > 1:
        refuse_mixture(whole, files)
    if PARQUET in files:
        return open_parquet(whole, files[PARQUET], reading, is_pattern=len(named) > 1)
    return ImageFolder(whole, {name: kind.split()[0] for kind, names in files.items() for name in names}, reading)


def open_parquet(uri: str, files: Sequence[str], reading: Reading, is_pattern: bool) -> Source:
    """Parquet of images or their names, or img2dataset's tables of image files."""
    if not is_pattern and "::" not in uri and [uri] != list(files):
        refuse_unfinished(uri)
    suffix = suffix_of_images(files)
    return ImageFiles(uri, files, reading, suffix) if suffix else ParquetCorpus(uri, files, reading)


def listed(named: Sequence[str]) -> list[str]:
    """The files that places stand for, folders searched through; what is asked for by name must be there.

    Raises:
        BadInput: naming what is not there.
    """
    if len(named) == 1:
        return places.list_files(named[0], EVERY_SUFFIX)
    infos = infos_of(named)
    files = []
    for place in named:
        if place not in infos:
            raise BadInput(f"reading {place}", "no such file or folder", "Check the pattern that names it")
        files += files_in(place) if infos[place].get("type") == "directory" else [place]
    return list(dict.fromkeys(files))


def files_in(folder: str) -> list[str]:
    """The files of one folder of several: those of its manifest, where one of our stages wrote it."""
    facts = tables.read_manifest(folder)
    if facts is None:
        return places.list_files(folder, EVERY_SUFFIX)
    return [places.join(folder, entry["name"]) for entry in facts["files"]]


def by_kind(files: Sequence[str]) -> dict[str, list[str]]:
    """Files sorted out by what their names say they are; other files are left out."""
    found: dict[str, list[str]] = {}
    for name in files:
        called = name.partition("::")[0].lower() if "://" in name.partition("::")[0] else name.lower()
        kind = next((kind for kind, suffixes in SUFFIXES.items() if called.endswith(suffixes)), None)
        if kind is not None:
            found.setdefault(kind, []).append(name)
    return found


def tables_of_tars(tars: Sequence[str], tables: Sequence[str]) -> dict[str, str]:
    """img2dataset's table of each tar that has one; {} where a table is of no tar."""
    stems = {stem_of(name, TAR_SUFFIXES): name for name in tars}
    found = {stems.get(stem_of(name, PARQUET_SUFFIXES), ""): name for name in tables}
    return {} if "" in found else found


def stem_of(name: str, suffixes: Sequence[str]) -> str:
    """A name without the suffix that says what it is."""
    longest = max((suffix for suffix in suffixes if name.lower().endswith(suffix)), key=len)
    return name[: -len(longest)]


def refuse_mixture(uri: str, files: Mapping[str, Sequence[str]]) -> None:
    """Raises the error about files of several kinds."""
    counted = []
    for kind, names in files.items():
        first = ", ".join(places.name_of(name) for name in names[:3]) + (", ..." if len(names) > 3 else "")
        counted.append(f"{len(names)} {kind}{'s' if len(names) > 1 else ''} ({first})")
    kinds = " and ".join(counted)
    remedy = "Name one of them, or a pattern: folder/{00..07}.tar"
    raise BadInput(f"corpus at {uri}", f"several kinds of it: {kinds}", remedy)
