"""The plots of a closing report as SVG to stand inside a page: text stays text, colours are the page's own.

matplotlib knows no light and dark. It draws with placeholder colours, which become variables of the page's style sheet.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from xhash_ray.pipeline.watching import Snapshot
from xhash_ray.pipeline.words import share

if TYPE_CHECKING:
    from matplotlib.axes import Axes

INCHES = (5.6, 3.1)
WIDE = 11.4  # inches of a plot that has the page's width
MOST_POINTS = 240  # more than that are averaged: a plot has some 400 pixels
MOST_BARS = 10
NAME_LENGTH = 40
INK, GRID = "#010101", "#020202"
SERIES = ("#010201", "#010202", "#010203", "#010204", "#010205", "#010206")
VARIABLES = {INK: "ink", GRID: "grid"} | {colour: f"series-{number}" for number, colour in enumerate(SERIES)}
DASHES = ("-", "--", ":")
STYLE: dict[Any, Any] = {
    "font.size": 10,
    "axes.axisbelow": True,
    "axes.edgecolor": GRID,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "text.color": INK,
    "text.parse_math": False,
    "xtick.color": GRID,
    "ytick.color": GRID,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "grid.color": GRID,
    "svg.fonttype": "none",  # text stays text
}


def draw_speed(history: Sequence[Snapshot]) -> str:
    """Pairs per second over time, now and since the start."""
    points = averaged(history)
    lines = {
        "now": [each["pairs_per_s"] for each in points],
        "since the start": [each["pairs_per_s_overall"] for each in points],
    }
    top = max((max(values, default=0.0) for values in lines.values()), default=0.0)

    def fill(axes: Axes) -> None:
        draw_lines(axes, points, lines)
        axes.set(ylim=(0, 1.08 * top or 1), ylabel="pairs per second")
        axes.yaxis.set_major_formatter("{x:,.9g}")

    return to_svg("speed", fill)


def draw_utilisation(history: Sequence[Snapshot]) -> str:
    """How busy every stage was over time."""
    points = averaged(history)
    stages = list(history[-1].utilisation) if history else []

    def fill(axes: Axes) -> None:
        draw_lines(axes, points, {stage: [100 * each[stage] for each in points] for stage in stages})
        axes.set(ylim=(0, 104), ylabel="busy, % of its workers' time")

    return to_svg("utilisation", fill)


def draw_rejects(rejected_by: Mapping[str, int]) -> str:
    """Rejected pairs by stage and kind, the most frequent on top; the rare ones together."""
    from matplotlib.ticker import MaxNLocator

    bars = ranked(rejected_by)
    names, counts, places = [name for name, _ in bars], [count for _, count in bars], range(len(bars))

    def fill(axes: Axes) -> None:
        drawn = axes.barh(places, counts, color=SERIES[1], height=0.66)
        axes.bar_label(drawn, [f"{count:,} ({share(count / sum(counts))})" for count in counts], padding=4)
        axes.set_yticks(places, names)
        axes.tick_params(axis="y", length=0)
        axes.invert_yaxis()
        axes.set(xlim=(0, 1.15 * max(counts, default=1)), xlabel="rejected pairs")
        axes.xaxis.set_major_locator(MaxNLocator("auto", integer=True))
        axes.xaxis.set_major_formatter("{x:,.0f}")
        axes.grid(True, axis="x", lw=0.8)

    return to_svg("rejects", fill, WIDE, 0.75 + 0.3 * len(bars))


def ranked(counts: Mapping[str, int]) -> list[tuple[str, int]]:
    """Names short enough for an axis and their counts, the highest first; those beyond MOST_BARS in one."""
    pairs = sorted(counts.items(), key=lambda each: -each[1])
    bars = [(" ".join(name.split())[:NAME_LENGTH], count) for name, count in pairs[:MOST_BARS]]
    rest = pairs[MOST_BARS:]
    return [*bars, (f"{len(rest)} other kinds", sum(count for _, count in rest))] if rest else bars


def draw_lines(axes: Axes, points: Sequence[Mapping[str, float]], lines: Mapping[str, Sequence[float]]) -> None:
    """Lines over the time since the start, with their legend above the panel."""
    unit, seconds = time_unit(points[-1]["elapsed_s"] if points else 0.0)
    times = [each["elapsed_s"] / seconds for each in points]
    for number, (name, values) in enumerate(lines.items()):
        colour, dash = SERIES[number % len(SERIES)], DASHES[number // len(SERIES) % len(DASHES)]
        marker = "o" if len(points) < 3 else ""
        axes.plot(times, values, dash, color=colour, lw=1.8, label=name, marker=marker, ms=4, clip_on=False)
    axes.grid(True, lw=0.8)
    axes.set(xlim=(0, times[-1] if times and times[-1] > 0 else 1), xlabel=f"{unit} since the start")
    place = {"bbox_to_anchor": (-0.02, 1.0), "borderaxespad": 0.2}
    axes.legend(loc="lower left", ncols=5, frameon=False, handlelength=1.4, columnspacing=1.4, **place)


def time_unit(seconds: float) -> tuple[str, float]:
    """The unit that a time axis of this length has, and its seconds."""
    return next((each for each in (("hours", 3600.0), ("minutes", 60.0)) if seconds > 2 * each[1]), ("seconds", 1.0))


def averaged(history: Sequence[Snapshot], most: int = MOST_POINTS) -> list[dict[str, float]]:
    """A history as at most so many points, each the mean of its neighbours: time, speeds, utilisation by stage."""
    step = -(-len(history) // most) or 1
    names = ("elapsed_s", "pairs_per_s", "pairs_per_s_overall")
    rows = [{**{name: getattr(each, name) for name in names}, **each.utilisation} for each in history]
    groups = [rows[start : start + step] for start in range(0, len(rows), step)]
    return [{name: sum(row[name] for row in group) / len(group) for name in group[0]} for group in groups]


def to_svg(name: str, fill: Callable[[Axes], None], width: float = INCHES[0], height: float = INCHES[1]) -> str:
    """A plot of one panel as an element for a page.

    Args:
        name: Tells this plot's elements from those of others on the page.
        fill: Draws into the panel.
        width: In inches.
        height: In inches.
    """
    import matplotlib  # a second that only those pay who want pictures
    from matplotlib.figure import Figure

    content = io.StringIO()
    with matplotlib.rc_context({**STYLE, "svg.hashsalt": f"xhash {name}"}):
        figure = Figure(figsize=(width, height), layout="constrained")
        fill(figure.subplots())
        figure.savefig(content, format="svg", transparent=True, metadata={"Date": None})
    return for_page(content.getvalue())


def for_page(svg: str) -> str:
    """An SVG file as an element within HTML: no prolog, metadata, namespaces, style sheet, fonts or group names."""
    svg = svg[svg.index("<svg") :].strip()
    for pattern in (r"<metadata>.*?</metadata>", r"<!--.*?-->", r"<style.*?</style>", r"font-family: [^;\"]*; ?"):
        svg = re.sub(pattern, "", svg, flags=re.DOTALL)
    svg = re.sub(r' xmlns(:xlink)?="[^"]*"', "", svg)
    svg = re.sub(r'<g id="[^"]*"', "<g", svg)
    for colour, variable in VARIABLES.items():
        svg = svg.replace(colour, f"var(--{variable})")
    return re.sub(r"\s*\n\s*", "\n", svg)
