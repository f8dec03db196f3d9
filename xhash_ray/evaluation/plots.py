"""Precision-recall and precision@N curves of one or several runs, as PNG and SVG."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe & Ito's palette: told apart by colour-blind readers too; dashes tell more runs than colours apart.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
DASHES = ("-", "--", ":")
INK, FAINT = "#222222", "#8a8a8a"
PANEL_INCHES = (4.6, 3.9)
STYLE: dict[Any, Any] = {
    "font.size": 10,
    "axes.edgecolor": FAINT,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 11,
    "xtick.color": INK,
    "ytick.color": INK,
    "grid.color": "#e6e6e6",
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "xhash",  # the same curves give the same file
}
CURVES = {
    "precision-recall": ("recall", "precision", "recall", "precision (interpolated)"),
    "precision-at-n": ("places", "precision_at_places", "items retrieved, N", "precision@N"),
}


def draw_curves(results: Mapping[str, Mapping[str, Any]]) -> dict[str, bytes]:
    """Both kinds of curve, one panel per direction, one line per run.

    Args:
        results: By name of the run what `summary.of_run` gives; a single run may have the empty name.

    Returns:
        Encoded pictures by file name: precision-recall and precision-at-n, each .png and .svg.
    """
    import matplotlib  # a second that only those pay who want pictures

    pictures = dict[str, bytes]()
    with matplotlib.rc_context(STYLE):
        for name, columns in CURVES.items():
            figure = draw(results, *columns)
            pictures |= {f"{name}.png": encoded(figure), f"{name}.svg": encoded(figure, "svg")}
    return pictures


def new_figure(columns: int, rows: int = 1, more_inches: float = 0.0, **options: Any) -> tuple[Figure, Any]:
    """An empty figure and its panels [rows, columns], higher by some inches for what stands beneath."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    width, height = PANEL_INCHES
    figure = Figure(figsize=(width * columns, height * rows + more_inches), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots(rows, columns, squeeze=False, **options)


def add_legend(figure: Figure, columns: int) -> None:
    """What the lines of any panel are called, once each, beneath the figure."""
    shown = dict[str, Any]()
    for panel in figure.axes:
        for line, label in zip(*panel.get_legend_handles_labels(), strict=True):
            shown.setdefault(label, line)
    ncols = min(columns, len(shown))
    figure.legend([*shown.values()], [*shown], loc="outside lower center", ncols=ncols, frameon=False)


def encoded(figure: Figure, kind: str = "png") -> bytes:
    """A figure as PNG or SVG; the same figure gives the same bytes."""
    content = io.BytesIO()
    options: dict[str, Any] = {"dpi": 160} if kind == "png" else {"metadata": {"Date": None}}
    figure.savefig(content, format=kind, **options)
    return content.getvalue()


def draw(results: Mapping[str, Mapping[str, Any]], x: str, y: str, x_label: str, y_label: str) -> Figure:
    """One figure: a panel per direction, the runs' lines, chance."""
    from matplotlib.ticker import NullLocator

    directions = list(next(iter(results.values()))["measures"])
    legend_inches = 0.2 * (len(results) + 1) / len(directions)
    figure, (panels,) = new_figure(len(directions), more_inches=legend_inches, sharey=True)
    for panel, direction in zip(panels, directions, strict=True):
        draw_panel(panel, results, direction, x, y)
        panel.set(title=direction.replace("_", " "), xlabel=x_label)
        if x == "places":
            panel.set_xscale("log")
            panel.xaxis.set_major_formatter("{x:,.0f}")
            panel.xaxis.set_minor_locator(NullLocator())
    panels[0].set_ylabel(y_label)
    add_legend(figure, 2 * len(directions))
    return figure


def draw_panel(panel: Axes, results: Mapping[str, Mapping[str, Any]], direction: str, x: str, y: str) -> None:
    """The lines of one direction; the dotted one is the precision of a random order."""
    for number, (name, result) in enumerate(results.items()):
        curves = result["measures"][direction]["curves"]
        colour, dash = COLOURS[number % len(COLOURS)], DASHES[number // len(COLOURS) % len(DASHES)]
        panel.plot(curves[x], curves[y], dash, color=colour, lw=2, label=name or result["kind"], solid_capstyle="round")
    chances = {result["measures"][direction]["chance"] for result in results.values()}
    for number, chance in enumerate(sorted(chances)):
        panel.axhline(chance, color=FAINT, lw=1.2, ls=(0, (2, 2)), label="" if number else "chance", zorder=1)
    panel.set_ylim(0, 1.02)
    panel.grid(True, lw=0.8)
    panel.set_axisbelow(True)
