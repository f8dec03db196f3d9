"""Names that stand for several: braces as in shells, and lists joined by ::, as WebDataset writes them.

s3://bucket/train-{000000..000041}.tar     every number, with its leading zeros
s3://bucket/{train,val}-{0..9..3}.tar      alternatives, steps; braces may lie in braces
s3://a/{0..4}.tar::s3://b/{0..7}.tar       both

A :: after an archive or a cache is no list but fsspec's chain: zip://table.csv::s3://bucket/archive.zip.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator

from xhash_ray.errors import BadInput
from xhash_ray.storage import uri as places

MOST_NAMES = 1_000_000
RANGE = re.compile(r"(-?\d+)\.\.(-?\d+)(?:\.\.(-?\d+))?|([A-Za-z])\.\.([A-Za-z])(?:\.\.(-?\d+))?")
# fsspec's filesystems that stand before another one.
CHAINING = ("zip", "tar", "libarchive", "simplecache", "filecache", "blockcache", "dir")


def expanded(uri: str) -> list[str]:
    """The places that a name stands for, in order, each once; local ones absolute.

    A local file or folder that is really called so is taken as it is.

    Raises:
        BadInput: for an empty name, or more than MOST_NAMES.
    """
    if places.is_local(uri) and places.exists(uri):
        return [places.normalise(uri)]
    listed = [uri] if is_chain(uri) else uri.split("::")
    names = itertools.chain.from_iterable(alternatives(piece) for piece in listed)
    found = list(itertools.islice(names, MOST_NAMES + 1))
    if len(found) > MOST_NAMES:
        raise BadInput(f"corpus {uri}", f"braces that stand for more than {MOST_NAMES:,} names", "Name a folder")
    # Whoever took a list for one path has made file:/ of a later file:///.
    return list(dict.fromkeys(places.normalise(re.sub("^file:/+", "/", name)) for name in found))


def absolute(uri: str) -> str:
    """The same name, or list of names, as it is understood from every folder."""
    return uri if is_chain(uri) else "::".join(places.normalise(piece) for piece in uri.split("::"))


def is_chain(uri: str) -> bool:
    """Whether :: joins filesystems rather than names."""
    head, joined, _ = uri.partition("::")
    return bool(joined) and head.partition("://")[0] in CHAINING


def alternatives(text: str) -> Iterator[str]:
    """Everything that a text with braces stands for, in order; braces that offer no choice are themselves.

    >>> list(alternatives("{08..10}{a,{b,c}}"))[:4]
    ['08a', '08b', '08c', '09a']
    """
    for start, stop in braces(text):
        inside = options(text[start + 1 : stop])
        if inside is not None:
            for option in inside:
                for rest in alternatives(text[stop + 1 :]):
                    yield text[:start] + option + rest
            return
    yield text


def braces(text: str) -> Iterator[tuple[int, int]]:
    """Where braces open and close, outer ones before those within; one that never closes is none."""
    for start, letter in enumerate(text):
        if letter != "{":
            continue
        depth = 0
        for stop in range(start, len(text)):
            depth += {"{": 1, "}": -1}.get(text[stop], 0)
            if depth == 0:
                yield start, stop
                break


def options(inside: str) -> Iterator[str] | None:
    """What stands between braces, one by one; None where it is no choice."""
    found = RANGE.fullmatch(inside)
    if found:
        return steps(found)
    pieces = split(inside)
    if len(pieces) > 1:
        return itertools.chain.from_iterable(alternatives(piece) for piece in pieces)
    return None


def split(inside: str) -> list[str]:
    """Cut at commas that are not within further braces."""
    pieces, depth = [""], 0
    for letter in inside:
        depth += {"{": 1, "}": -1}.get(letter, 0)
        if letter == "," and depth == 0:
            pieces.append("")
        else:
            pieces[-1] += letter
    return pieces


def steps(found: re.Match[str]) -> Iterator[str]:
    """Numbers or letters, the ends included; numbers as wide as the wider end where one begins with 0."""
    first, last, step, letter, last_letter, letter_step = found.groups()
    if letter is not None:
        yield from map(chr, inclusive(ord(letter), ord(last_letter), letter_step))
        return
    is_padded = any(len(end.lstrip("-")) > 1 and end.lstrip("-").startswith("0") for end in (first, last))
    width = max(len(first), len(last)) if is_padded else 0
    yield from (f"{number:0{width}d}" for number in inclusive(int(first), int(last), step))


def inclusive(first: int, last: int, step: str | None) -> range:
    """From one number to another in whichever direction that is."""
    stride = abs(int(step or 1)) or 1
    return range(first, last + 1, stride) if first <= last else range(first, last - 1, -stride)
