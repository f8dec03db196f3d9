"""The commands in the project's documents, and what keeps each of them true."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
PROGRAMS = (  # a line of a code block that begins with one of these is a command
    *("xhash", ".venv/bin/xhash", "python", "ray", "serve", "make", "curl", "cluster/local.sh", "pytest", "git", "pip"),
    *("kubectl", "kustomize", "helm", "docker", "docker-compose", "prometheus", "promtool", "redis-server"),
    *("aws", "gcloud", "openssl", "npm", "tc", "ip", "apt-get", "sudo", "ssh", "export", "cp", "mkdir", "redis-cli"),
    "eval",
)
INLINE = re.compile(rf"`((?:{'|'.join(map(re.escape, PROGRAMS))}) [^`]+)`")
ASSIGNMENT = re.compile(r"[A-Z][A-Z0-9_]*=\S*")
REMARK = re.compile(r"\s+#\s.*$|\s{4,}[A-Za-z].*$")


class Command(NamedTuple):
    """A command as a document shows it.

    Attributes:
        where: File and line, for messages.
        text: Joined over its lines, without remarks.
        words: As a shell splits it, variables set for it left out.
    """

    where: str
    text: str
    words: list[str]


def documents() -> list[Path]:
    """Every Markdown file of the project."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.md"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return [ROOT / name for name in listed.stdout.splitlines() if (ROOT / name).exists()]


def blocks(text: str) -> list[tuple[int, str]]:
    """Lines of code blocks, fenced or indented, with their numbers."""
    found, fenced = [], False
    for number, line in enumerate(text.splitlines(), 1):
        if line.lstrip().startswith("```"):
            fenced = not fenced
        elif fenced or line.startswith("    "):
            found.append((number, line.strip()))
    return found


def commands(path: Path) -> list[Command]:
    """The commands in a document's code blocks."""
    found, pending, at = [], "", 0
    for number, line in blocks(path.read_text()):
        at = at if pending else number
        pending += line.removeprefix("$ ")
        if pending.endswith("\\"):
            pending = pending[:-1]
            continue
        text, pending = REMARK.sub("", pending).strip(), ""
        words = split(text)
        if words and words[0] in PROGRAMS:
            found.append(Command(f"{path.relative_to(ROOT)}:{at}", text, words))
    return found


def split(text: str) -> list[str]:
    """A line's words without the variables set for it; none where it is no shell's."""
    try:
        words = shlex.split(text)
    except ValueError:
        return []
    while words and ASSIGNMENT.fullmatch(words[0]):
        words = words[1:]
    return words


def mentions(path: Path) -> list[Command]:
    """Commands in running text and tables."""
    lines = enumerate(path.read_text().splitlines(), 1)
    return [
        Command(f"{path.relative_to(ROOT)}:{number}", text, split(text.replace("\\|", "|")))
        for number, line in lines
        if not line.startswith("    ")
        for text in INLINE.findall(line)
    ]
