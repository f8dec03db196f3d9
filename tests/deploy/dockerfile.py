"""A Dockerfile as its instructions; and the files that a build may copy."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import NamedTuple

from docker.utils.build import exclude_paths


class Instruction(NamedTuple):
    """One instruction, its continuation lines joined.

    Attributes:
        stage: Name of the stage it belongs to, "" before the first.
        word: Such as RUN.
        text: What follows.
    """

    stage: str
    word: str
    text: str


def instructions(path: Path) -> list[Instruction]:
    """What a Dockerfile says, in order."""
    lines = [line for line in path.read_text().splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", " ", "\n".join(lines))
    found, stage = [], ""
    for line in filter(str.strip, joined.splitlines()):
        word, _, text = line.partition(" ")
        if word == "FROM":
            stage = text.split(" AS ")[1]
        found.append(Instruction(stage, word, text.strip()))
    return found


def sources(instruction: Instruction) -> list[str]:
    """What a COPY takes from the repository: nothing where it copies from another stage."""
    words = instruction.text.split()
    return [] if words[0].startswith("--from") else words[:-1]


def context(root: Path) -> set[str]:
    """Files of the repository that the engine sends to a build: known to git, and not ignored for builds."""
    patterns = [line for line in (root / ".dockerignore").read_text().splitlines() if line and line[0] != "#"]
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=root, capture_output=True, text=True, check=True, timeout=600,
    ).stdout.splitlines()  # fmt: skip
    return set(listed) & exclude_paths(str(root), patterns) - {".dockerignore"}  # the engine takes that one for itself
