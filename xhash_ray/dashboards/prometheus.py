"""Asking a Prometheus."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import httpx2

from xhash_ray.dashboards.panels import VARIABLES, WINDOW, Query
from xhash_ray.errors import BadInput, Unreachable

TIMEOUT_S = 30.0


class Series(NamedTuple):
    """A line: its labels, Unix times in seconds, and values; neither NaN nor infinite ones."""

    labels: Mapping[str, str]
    times: list[float]
    values: list[float]


class Prometheus:
    """A Prometheus, or what speaks like one.

    Args:
        url: Such as http://localhost:9090.
    """

    def __init__(self, url: str) -> None:
        self.url, self.http = url.rstrip("/"), httpx2.Client(timeout=TIMEOUT_S)

    def ask(self, path: str, **parameters: str | float) -> Any:
        """The `data` of an answer.

        Raises:
            Unreachable: when nobody answers there, or something else than a Prometheus. BadInput: for a query that
                it refuses.
        """
        asked, do = f"Prometheus at {self.url}", "Give its URL with --prometheus, such as http://localhost:9090"
        try:
            answer = self.http.get(f"{self.url}/api/v1/{path}", params=parameters)
            found = answer.json()
            if found["status"] == "success":
                return found["data"]
        except (httpx2.HTTPError, httpx2.InvalidURL) as error:
            raise Unreachable(asked, str(error) or type(error).__name__, do) from None
        except (ValueError, KeyError, TypeError):
            raise Unreachable(asked, f"status {answer.status_code}, and no answer of a Prometheus", do) from None
        raise BadInput(f"{path} of {asked}", str(found.get("error")), f"Mend {parameters.get('query', path)}")

    def value(self, expression: str) -> list[tuple[Mapping[str, str], float]]:
        """What an expression is now: (labels, value) of each series. Errors as of `ask`."""
        found = self.ask("query", query=expression)["result"]
        return [(each["metric"], float(each["value"][1])) for each in found]

    def lines(self, expression: str, start_s: float, end_s: float, step_s: float) -> list[Series]:
        """What it was between two Unix times; series without a finite value are left out. Errors as of `ask`."""
        found = self.ask("query_range", query=expression, start=start_s, end=end_s, step=step_s)["result"]
        lines = []
        for each in found:
            points = [(float(at), float(value)) for at, value in each["values"] if math.isfinite(float(value))]
            if points:
                times, values = zip(*points, strict=True)
                lines.append(Series(each["metric"], [*times], [*values]))
        return lines


def plain(query: Query, window: str) -> str:
    """An expression as Grafana sends it when all values of its variables are chosen.

    Args:
        query: Of a panel.
        window: What Grafana's rate interval is, such as "1m".
    """
    expression = query.expression.replace(WINDOW, window)
    for label in VARIABLES:
        expression = expression.replace(f"${label}", ".*")
    return expression


def name_of(line: Series, legend: str) -> str:
    """A line's name by its legend."""
    return re.sub(r"\{\{(\w+)\}\}", lambda found: line.labels.get(found[1], ""), legend).strip() or "value"
