"""How long requests took, as a histogram per load and server: PNG."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from xhash_ray.benchmarks.load import Load
from xhash_ray.evaluation.plots import COLOURS, FAINT, STYLE, add_legend, encoded, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BINS_PER_DECADE = 20
LEAST_MS, MOST_MS = 0.1, 100_000.0


def bin_edges() -> np.ndarray:
    """Limits of the bins in milliseconds, evenly on a logarithmic scale."""
    decades = np.log10(MOST_MS / LEAST_MS)
    edges: np.ndarray = np.geomspace(LEAST_MS, MOST_MS, round(decades * BINS_PER_DECADE) + 1)
    return edges


def histogram(load: Load) -> list[tuple[float, int]]:
    """(upper limit in milliseconds, requests) of every bin that has any."""
    edges = bin_edges()
    counts, _ = np.histogram(np.clip(load.seconds * 1e3, LEAST_MS, MOST_MS), edges)
    return [(round(float(edges[place + 1]), 3), int(counts[place])) for place in np.flatnonzero(counts)]


def draw_latencies(loads: Mapping[str, Mapping[str, Load]]) -> bytes:
    """One panel per load, one line per server.

    Args:
        loads: By server, by name of the load.

    Returns:
        An encoded PNG.
    """
    import matplotlib  # a second that only those pay who want pictures

    with matplotlib.rc_context(STYLE):
        names = list(next(iter(loads.values())))
        figure, (panels,) = new_figure(len(names))
        for panel, name in zip(panels, names, strict=True):
            draw_panel(panel, name, {server: mine[name] for server, mine in loads.items()})
        panels[0].set_ylabel("share of requests")
        add_legend(figure, len(loads))
        return encoded(figure)


def draw_panel(panel: Axes, name: str, loads: Mapping[str, Load]) -> None:
    """One load: a stepped histogram per server; dashes mark its median, dots its 99th percentile."""
    edges = bin_edges()
    for number, (server, load) in enumerate(loads.items()):
        share = np.histogram(load.seconds * 1e3, edges)[0] / max(1, len(load.seconds))
        colour = COLOURS[number % len(COLOURS)]
        panel.stairs(share, edges, color=colour, lw=1.8, fill=False, label=server)
        panel.stairs(share, edges, color=colour, alpha=0.15, fill=True)
        for quantile, dash in ((0.5, "--"), (0.99, ":")):
            panel.axvline(load.quantile_ms(quantile), color=colour, lw=1.2, ls=dash)
    seen = np.concatenate([load.seconds for load in loads.values()]) * 1e3
    panel.set_xscale("log")
    panel.set_xlim(seen.min() * 0.7, seen.max() * 1.4)
    panel.set(title=name, xlabel="ms (dashed: median, dotted: 99%)")
    panel.xaxis.set_major_formatter("{x:,g}")
    panel.tick_params(axis="x", which="minor", color=FAINT, labelsize=0)
    panel.grid(True, axis="y", lw=0.8)
    panel.set_axisbelow(True)
