"""API keys: several, of two roles, in a file that is read again when it changes; compared in constant time.

    read  3f9c...            searches
    admin 77ab...            also changes what is stored and served

One per line, role and key; lines that begin with # are comments. Keys have 16 characters or more.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
from pathlib import Path

from xhash_ray.errors import BadInput

ROLES = ("read", "admin")
LEAST_LENGTH = 16
log = logging.getLogger(__name__)


def parse_keys(text: str, where: str) -> dict[bytes, str]:
    """SHA-256 of every key, and its role.

    Raises:
        BadInput: for a line that is no role and key (its number is named, its content is not).
    """
    found = {}
    for number, line in enumerate(text.splitlines(), 1):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        if len(words) != 2 or words[0] not in ROLES or len(words[1]) < LEAST_LENGTH:
            do = f"Write `read KEY` or `admin KEY`, keys of {LEAST_LENGTH} characters or more"
            raise BadInput(f"keys in {where}", f"line {number} is no role and key", do)
        found[digest(words[1])] = words[0]
    if not found:
        raise BadInput(f"keys in {where}", "no key", "Write `read KEY` or `admin KEY` on each line")
    return found


def digest(key: str) -> bytes:
    """What is compared: digests have one length."""
    return hashlib.sha256(key.encode()).digest()


class Keys:
    """The keys of a file.

    Args:
        path: A local file, None for an endpoint that asks for none.

    Raises:
        BadInput: when it cannot be read, or is none.
    """

    def __init__(self, path: str | None) -> None:
        self.path = Path(path) if path else None
        self.changed_ns, self.known, self.complained = -1, dict[bytes, str](), ""
        self.refresh()

    def refresh(self) -> None:
        """Reads the file if it is another than last time; one that has become unreadable leaves keys as they were."""
        if self.path is None:
            return
        try:
            changed_ns = self.path.stat().st_mtime_ns
            if changed_ns != self.changed_ns:
                self.known = parse_keys(self.path.read_text(), str(self.path))
                self.changed_ns = changed_ns
        except (OSError, UnicodeDecodeError, BadInput) as error:
            if not self.known:
                if isinstance(error, BadInput):
                    raise
                raise BadInput(f"keys in {self.path}", str(error), "Name a file of keys") from None
            if str(error) != self.complained:  # once, not for every request
                self.complained = str(error)
                log.warning("keys stay as they were: %s", error)

    def role(self, header: str | None) -> str | None:
        """The role of an Authorization header, None for none. Without a file everybody reads, and nobody is admin."""
        if self.path is None:
            return "read"
        self.refresh()
        given = digest((header or "").removeprefix("Bearer ").strip())
        role = None
        for known, its_role in self.known.items():  # all of them, however early one fits
            if hmac.compare_digest(known, given):
                role = its_role
        return role
