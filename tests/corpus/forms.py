"""The same eleven pairs in every form of corpus there is."""

import bz2
import csv
import gzip
import io
import json
import lzma
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from xhash_ray.corpus.pairs import Pair, Reject
from xhash_ray.corpus.sources import Source, open_corpus

N = 11
Build = Callable[[Path], str]
EXPECTED = [
    Pair(
        f"p{i:02d}",
        f"pixels {i}".encode(),
        (f'caption {i}, "ü"',),
        ("even",) if i % 2 == 0 else ("odd", "small"),
        {"split": "ab"[i % 2]},
    )
    for i in range(N)
]
PACKED: dict[str, Callable[[bytes], bytes]] = {
    "gz": lambda content: gzip.compress(content, mtime=0),
    "bz2": bz2.compress,
    "xz": lzma.compress,
    "zst": lambda content: pa.compress(content, "zstd", asbytes=True),
}


def images(folder: Path) -> None:
    """The images as files of their own."""
    (folder / "images").mkdir(parents=True, exist_ok=True)
    for pair in EXPECTED:
        (folder / "images" / f"{pair.id}.jpg").write_bytes(pair.image)


def text_row(pair: Pair) -> dict[str, Any]:
    """A pair without its image's bytes, as a row."""
    return {
        "id": pair.id,
        "image_path": f"images/{pair.id}.jpg",
        "text": pair.texts[0],
        "labels": list(pair.labels),
        "split": pair.metadata["split"],
    }


def byte_row(pair: Pair) -> dict[str, Any]:
    """A pair with its image's bytes, as a row."""
    row = text_row(pair) | {"image": pair.image}
    row.pop("image_path")
    return row


def parquet(folder: Path, rows: list[dict[str, Any]], name: str = "part.parquet", group: int = 4) -> str:
    """Rows as a Parquet file of several row groups."""
    folder.mkdir(exist_ok=True, parents=True)
    pq.write_table(pa.Table.from_pylist(rows), folder / name, row_group_size=group)
    return str(folder)


def parquet_of_bytes(folder: Path) -> str:
    """Two Parquet files with image bytes."""
    parquet(folder, [byte_row(pair) for pair in EXPECTED[:7]], "a.parquet")
    return parquet(folder, [byte_row(pair) for pair in EXPECTED[7:]], "b.parquet")


def parquet_of_structs(folder: Path) -> str:
    """Images as the structs that Hugging Face writes."""
    return parquet(folder, [byte_row(p) | {"image": {"bytes": p.image, "path": None}} for p in EXPECTED])


def parquet_of_lists(folder: Path) -> str:
    """Captions as lists of one."""
    return parquet(folder, [byte_row(pair) | {"text": list(pair.texts)} for pair in EXPECTED])


def parquet_of_paths(folder: Path) -> str:
    """Parquet that names image files beside it."""
    images(folder)
    return parquet(folder, [text_row(pair) for pair in EXPECTED])


def separated_text(pairs: list[Pair], delimiter: str) -> bytes:
    """Pairs as a table of separated values."""
    rows = [text_row(pair) | {"labels": "|".join(pair.labels)} for pair in pairs]
    stream = io.StringIO(newline="")
    writer = csv.DictWriter(stream, list(rows[0]), delimiter=delimiter)
    writer.writeheader()
    writer.writerows(rows)
    return stream.getvalue().encode()


def lines_text(pairs: list[Pair]) -> bytes:
    """Pairs as JSON Lines, with an empty line among them."""
    lines = [json.dumps(text_row(pair)) for pair in pairs]
    return "\n".join([*lines[:3], "", *lines[3:]]).encode()


def csv_folder(folder: Path) -> str:
    """Image files and a CSV table."""
    images(folder)
    (folder / "table.csv").write_bytes(separated_text(EXPECTED, ","))
    return str(folder)


def tsv_folder(folder: Path) -> str:
    """Image files and a TSV table."""
    images(folder)
    (folder / "table.tsv").write_bytes(separated_text(EXPECTED, "\t"))
    return str(folder)


def jsonl_folder(folder: Path) -> str:
    """Image files and a JSON Lines table."""
    images(folder)
    (folder / "table.jsonl").write_bytes(lines_text(EXPECTED))
    return str(folder)


def several_tables(folder: Path) -> str:
    """Image files and two CSV tables, one of them packed."""
    images(folder)
    (folder / "1.csv").write_bytes(separated_text(EXPECTED[:4], ","))
    (folder / "2.csv.zst").write_bytes(PACKED["zst"](separated_text(EXPECTED[4:], ",")))
    return str(folder)


def packed_lines(folder: Path) -> str:
    """Image files and a JSON Lines table, packed."""
    images(folder)
    (folder / "table.jsonl.gz").write_bytes(gzip.compress(lines_text(EXPECTED)))
    return str(folder)


def tar_bytes(members: list[tuple[str, bytes]]) -> bytes:
    """A tar of members."""
    written = io.BytesIO()
    with tarfile.open(fileobj=written, mode="w") as archive:
        for name, content in members:
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return written.getvalue()


def tar(path: Path, members: list[tuple[str, bytes]]) -> None:
    """A tar file of members."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(tar_bytes(members))


def sample(pair: Pair, **facts: Any) -> list[tuple[str, bytes]]:
    """Image, caption and JSON metadata of a pair, as members of a tar."""
    facts = {"labels": list(pair.labels), **pair.metadata, **facts}
    return [
        (f"{pair.id}.jpg", pair.image),
        (f"{pair.id}.txt", pair.texts[0].encode()),
        (f"{pair.id}.json", json.dumps(facts).encode()),
    ]


def tars_of_json(folder: Path) -> str:
    """Two tars: image, caption and JSON metadata of each pair."""
    for name, pairs in (("000.tar", EXPECTED[:5]), ("001.tar", EXPECTED[5:])):
        tar(folder / name, [member for pair in pairs for member in sample(pair)])
    return str(folder)


def packed_tars(folder: Path) -> str:
    """The same, packed in two ways."""
    tars_of_json(folder)
    for name, packing in (("000.tar", "gz"), ("001.tar", "zst")):
        content = (folder / name).read_bytes()
        (folder / name).unlink()
        (folder / f"{name}.{packing}").write_bytes(PACKED[packing](content))
    return str(folder)


FORMS: list[Build] = [
    parquet_of_bytes,
    parquet_of_structs,
    parquet_of_lists,
    parquet_of_paths,
    csv_folder,
    tsv_folder,
    jsonl_folder,
    several_tables,
    packed_lines,
    tars_of_json,
    packed_tars,
]
every_form = pytest.mark.parametrize("build", FORMS)


def unplaced(found: list[Pair | Reject]) -> list[Pair | Reject]:
    """Pairs without the row they come from, which differs between forms."""
    return [replace(row, row=0) if isinstance(row, Pair) else row for row in found]


def read_all(source: Source, rows: int = 4) -> list[Pair | Reject]:
    """All rows of a corpus in the order of its parts, without the places they come from."""
    return unplaced([found for part in source.parts(rows) for found in source.read(part)])


def bytes_with(folder: Path, number: int, **changed: Any) -> Source:
    """A Parquet corpus in which one row was changed."""
    rows = [byte_row(pair) for pair in EXPECTED]
    rows[number] |= changed
    return open_corpus(parquet(folder, rows))
