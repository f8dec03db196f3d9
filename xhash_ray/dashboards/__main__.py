"""`python -m xhash_ray.dashboards`: writes dashboards, checks that every query has data, draws them."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from xhash_ray.dashboards.grafana import files
from xhash_ray.dashboards.layout import DASHBOARDS
from xhash_ray.dashboards.plotting import last, picture, without_data
from xhash_ray.dashboards.prometheus import Prometheus
from xhash_ray.errors import BadInput, XhashError


def main(arguments: list[str] | None = None) -> int:
    """Runs a command.

    Returns:
        The exit code: 0, 1 when panels have no data or Prometheus does not answer, 2 for bad input.
    """
    asked = parser().parse_args(arguments)
    try:
        return int(asked.run(asked))
    except XhashError as error:
        print(error, file=sys.stderr)
        return error.exit_code


def parser() -> argparse.ArgumentParser:
    """The command line."""
    top = argparse.ArgumentParser(prog="python -m xhash_ray.dashboards", description=__doc__)
    verbs = top.add_subparsers(required=True, metavar="VERB")
    write = verbs.add_parser("write", help="dashboards as JSON, one file each")
    check = verbs.add_parser("check", help="names every query that Prometheus has no data for")
    plot = verbs.add_parser("plot", help="dashboards as pictures, one PNG each")
    for verb, run in ((write, run_write), (check, run_check), (plot, run_plot)):
        verb.set_defaults(run=run)
    for verb in (write, plot):
        verb.add_argument("folder", type=Path)
    plot.add_argument("--only", choices=[each.uid for each in DASHBOARDS], help="this one")
    for verb in (check, plot):
        verb.add_argument("--prometheus", default="http://localhost:9090", metavar="URL")
        verb.add_argument("--minutes", type=float, default=30.0, help="how far to look back")
        verb.add_argument("--window", default="1m", help="that rates are taken over, such as 1m")
    return top


def run_write(asked: argparse.Namespace) -> int:
    """Writes the files."""
    for name, text in files().items():
        save(asked.folder / name, text.encode())
    return 0


def run_check(asked: argparse.Namespace) -> int:
    """Names queries without data."""
    missing = without_data(Prometheus(asked.prometheus), last(asked.minutes, asked.window))
    print("\n".join(missing) or f"{sum(len(each.panels()) for each in DASHBOARDS)} panels, all with data")
    return int(bool(missing))


def run_plot(asked: argparse.Namespace) -> int:
    """Draws the pictures."""
    prometheus, span = Prometheus(asked.prometheus), last(asked.minutes, asked.window)
    for dashboard in [each for each in DASHBOARDS if asked.only in (None, each.uid)]:
        save(asked.folder / f"{dashboard.uid}.png", picture(dashboard, prometheus, span))
    return 0


def save(path: Path, content: bytes) -> None:
    """Writes a file and says so.

    Raises:
        BadInput: when it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    except OSError as error:
        raise BadInput(f"writing {path}", error.strerror or str(error), "Name a folder that can be written") from None
    print(path)


if __name__ == "__main__":
    sys.exit(main())
