"""What each further bit is worth: MAP against code length, a line per method, as a PNG."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from xhash_ray.evaluation.plots import COLOURS, DASHES, FAINT, STYLE, add_legend, encoded, new_figure
from xhash_ray.evaluation.retrieval import DIRECTIONS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LEGEND_COLUMNS = 5


def draw_zoo(result: Mapping[str, Any]) -> bytes:
    """One panel per database and direction.

    Args:
        result: What `bench_methods` returns: `rows`, `chance` and `cosine` by column.

    Returns:
        An encoded PNG.
    """
    import matplotlib  # a second that only those pay who want pictures

    rows = result["rows"]
    columns = list(dict.fromkeys(row["database"] for row in rows))
    names = list(dict.fromkeys(row["method"] for row in rows))
    with matplotlib.rc_context(STYLE):
        figure, panels = new_figure(len(DIRECTIONS), len(columns))
        for line, column in zip(panels, columns, strict=True):
            for panel, (way, _, _) in zip(line, DIRECTIONS, strict=True):
                draw_panel(panel, [row for row in rows if row["database"] == column], way, names)
                draw_level(panel, result["cosine"].get(column, {}).get(way))
                panel.set_title(f"{way.replace('_', ' ')}, database {column}")
        add_legend(figure, LEGEND_COLUMNS)  # a method may have refused a column, and lengths may differ in one
        return encoded(figure)


def draw_panel(panel: Axes, rows: Sequence[Mapping[str, Any]], way: str, names: Sequence[str]) -> None:
    """One direction in one database: means over seeds, bars of one standard deviation; `names` decide the colours."""
    for number, name in enumerate(names):
        mine = sorted((row for row in rows if row["method"] == name), key=lambda row: row["bits"])
        style: dict[str, Any] = {
            "color": COLOURS[number % len(COLOURS)],
            "ls": DASHES[number // len(COLOURS) % len(DASHES)],
            "marker": "o", "ms": 4, "lw": 1.8, "capsize": 2, "label": name,
        }  # fmt: skip
        panel.errorbar(
            [row["bits"] for row in mine], [row[way] for row in mine], [row[f"{way}_spread"] for row in mine], **style
        )
    lengths = sorted({row["bits"] for row in rows})
    panel.set_xscale("log", base=2)
    panel.set_xticks(lengths, labels=[str(length) for length in lengths])
    panel.set(xlabel="bits of a code", ylabel="MAP@all")
    panel.grid(True, axis="y", lw=0.8)
    panel.set_axisbelow(True)


def draw_level(panel: Axes, cosine: float | None) -> None:
    """What the features themselves reach, where images and texts can be compared."""
    if cosine is not None:
        panel.axhline(cosine, color=FAINT, lw=1.4, ls=(0, (6, 3)), label="cosine of the features")
