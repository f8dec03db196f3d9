"""Fills the variables of a cluster file in: `python cluster/render.py cluster/aws.yaml > /tmp/aws.yaml`.

`${NAME}` must be set, `${NAME:-default}` need not be: the same notation as in recipes. Ray itself fills nothing in.
"""

from __future__ import annotations

import sys
from pathlib import Path

from xhash_ray.config import expand
from xhash_ray.errors import BadInput


def render(path: Path) -> str:
    """The file's text with all variables replaced; lines that are comments stay as they are.

    Raises:
        BadInput: for a file that cannot be read, or a variable that is unset and has no default.
    """
    try:
        lines = path.read_text().splitlines(keepends=True)
    except OSError as error:
        raise BadInput(f"cluster file {path}", error.strerror or str(error), "Name a file of cluster/") from None
    return "".join(line if line.lstrip().startswith("#") else str(expand(line)) for line in lines)


def main(arguments: list[str]) -> int:
    """Prints the rendered file; returns the exit code."""
    if len(arguments) != 1:
        print("usage: python cluster/render.py FILE", file=sys.stderr)
        return 2
    try:
        sys.stdout.write(render(Path(arguments[0])))
    except BadInput as error:
        print(f"xhash: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
