"""Every error this project raises on purpose.

    XhashError            exit code 1: the run failed
    ├── BadInput          exit code 2: what was given cannot be used
    │   ├── BadOption     an unknown or malformed option, recipe key or setting
    │   └── Mismatch      two artefacts that do not belong together (lengths, fingerprints, formats)
    ├── Conflict          another writer was first; nothing of this run counts, and it can be run again
    └── Unreachable       an endpoint or an object store did not answer

Each says what was asked, what was found, and what to do, in one line.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class XhashError(Exception):
    """A failure with a remedy.

    Args:
        asked: What was asked for.
        found: What was found instead.
        do: What the reader can do about it.
    """

    exit_code = 1

    def __init__(self, asked: str, found: str, do: str) -> None:
        super().__init__(asked, found, do)
        self.asked, self.found, self.do = asked, found, do

    def __str__(self) -> str:
        return f"{self.asked}: {self.found}. {self.do}"


class BadInput(XhashError):
    """What was given cannot be used; nothing was changed."""

    exit_code = 2


class BadOption(BadInput):
    """An option, recipe key or setting that does not exist or cannot hold the value given."""


class Mismatch(BadInput):
    """Two artefacts that do not belong together."""


class Conflict(XhashError):
    """Another writer was first; what this one wrote does not count, and it can be run again."""


class Unreachable(XhashError):
    """A server did not answer, or refused."""


class Overloaded(XhashError):
    """Too much is asked at once; nothing was done, and it can be asked again."""


def nearest(name: str, known: Iterable[str]) -> str:
    """The sentence that points from a misspelt name to the known ones.

    >>> nearest("epoch", ["epochs", "seed"])
    "Did you mean 'epochs'? Known: epochs, seed"
    """
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    hint = f"Did you mean '{close[0]}'? " if close else ""
    return f"{hint}Known: {', '.join(names)}"
