"""Metrics: every declaration is well-formed and reported somewhere, every report is declared, backends come and go."""

import ast
import json
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

import xhash_ray
from tests.conftest import REPOSITORY
from xhash_ray import telemetry
from xhash_ray.cli import main
from xhash_ray.reports.metrics import page
from xhash_ray.telemetry import DECLARED, GROUPS, METRICS

PACKAGE = Path(xhash_ray.__file__).parent
PAGE = REPOSITORY / "deploy" / "METRICS.md"
SUFFIXES = {"s": "seconds", "bytes": "bytes", "pairs": "pairs", "pairs/s": "pairs_per_second"}
SUFFIXES |= {"bytes/s": "bytes_per_second"}
KINDS = {"add": "counter", "relay": "counter", "set": "gauge", "observe": "histogram"}
RESERVED = {"le", "quantile", "job", "instance"}  # by Prometheus
RESERVED |= {"name", "value"}  # by the calls' own arguments
SNAKE = re.compile(r"xhash(_[a-z][a-z0-9]*)+")
every_metric = pytest.mark.parametrize("metric", METRICS.values(), ids=list(METRICS))


class Report(NamedTuple):
    """A call in the source that reports something.

    Attributes:
        place: File and line.
        function: Of telemetry.
        name: A pattern of the metric's name, since some are put together; "" where it is not written there at all.
        labels: None where they are not written out.
    """

    place: str
    function: str
    name: str
    labels: frozenset[str] | None

    def metrics(self) -> list[str]:
        """Declared names that it may be about."""
        return [name for name in METRICS if re.fullmatch(self.name, name)]


def reports_in(source: str, place: str = "") -> Iterator[Report]:
    """Every call of telemetry.add, .relay, .set or .observe."""
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute) or node.func.attr not in KINDS:
            continue
        if isinstance(node.func.value, ast.Name) and node.func.value.id == "telemetry":
            name = pattern_of(node.args[0]) if node.args else ""
            given = {keyword.arg for keyword in node.keywords} - {"value"}
            labels = None if None in given else frozenset(filter(None, given))
            yield Report(f"{place}:{node.lineno}", node.func.attr, name, labels)


def pattern_of(node: ast.expr) -> str:
    """A text, or one with parts that are filled in, as a regular expression."""
    if isinstance(node, ast.Constant):
        return re.escape(str(node.value))
    if isinstance(node, ast.JoinedStr):
        return "".join(pattern_of(part) if isinstance(part, ast.Constant) else "[a-z0-9]+" for part in node.values)
    return ""


ALL_REPORTS = [
    report
    for file in sorted(PACKAGE.rglob("*.py"))
    for report in reports_in(file.read_text(encoding="utf-8"), str(file.relative_to(PACKAGE)))
]


class Collected:
    """A backend that remembers."""

    def __init__(self, shared: bool = False) -> None:
        self.shared = shared
        self.seen: list[tuple] = []

    def add(self, name, value, labels):
        self.seen.append(("add", name, value, dict(labels)))

    def set(self, name, value, labels):
        self.seen.append(("set", name, value, dict(labels)))

    def observe(self, name, value, labels):
        self.seen.append(("observe", name, value, dict(labels)))


@pytest.fixture
def collected() -> Iterator[Collected]:
    with telemetry.attached(Collected()) as backend:
        yield backend


@every_metric
def test_names_are_snake_case_with_the_projects_prefix(metric):
    assert SNAKE.fullmatch(metric.name)
    assert METRICS[metric.name] is metric


def test_no_name_is_declared_twice():
    assert sum(map(len, DECLARED.values())) == len(METRICS)
    assert tuple(DECLARED) == GROUPS


@every_metric
def test_what_is_measured_has_its_unit_last(metric):
    """Seconds, bytes and pairs in the name are those of the unit; other units are what the name counts."""
    suffix = next((word for word in SUFFIXES.values() if metric.name.endswith(f"_{word}")), None)
    assert suffix == SUFFIXES.get(metric.unit)
    if metric.name.endswith("_ratio"):
        assert metric.unit == "1"
    if metric.unit not in {*SUFFIXES, "1"}:
        assert {metric.unit, metric.unit.removesuffix("s")} & set(metric.name.split("_"))


@every_metric
def test_a_counter_counts_things(metric):
    if metric.kind == "counter":
        assert metric.unit != "1"
        assert metric.name.endswith("s")


@every_metric
def test_kinds_are_prometheus_kinds(metric):
    assert metric.kind in {"counter", "gauge", "histogram"}


@every_metric
def test_a_counter_does_not_say_total_itself(metric):
    assert not metric.name.endswith(("_total", "_created", "_count", "_sum", "_bucket"))


@every_metric
def test_labels_are_identifiers_that_nobody_reserves(metric):
    assert len(set(metric.labels)) == len(metric.labels)
    for label in metric.labels:
        assert re.fullmatch(r"[a-z][a-z0-9_]*", label)
        assert label not in RESERVED


@every_metric
def test_meanings_are_one_line(metric):
    assert metric.meaning.strip()
    assert "\n" not in metric.meaning
    assert not metric.meaning.endswith(".")


@every_metric
def test_histograms_have_ascending_buckets_and_nothing_else_has_any(metric):
    assert bool(metric.buckets) == (metric.kind == "histogram")
    assert list(metric.buckets) == sorted(set(metric.buckets))
    assert all(bound > 0 for bound in metric.buckets)  # Ray wants it so


def test_searches_are_told_apart_from_50_microseconds_on():
    assert METRICS["xhash_search_seconds"].buckets[0] == pytest.approx(50e-6)


@every_metric
def test_what_is_declared_is_reported_somewhere(metric):
    assert any(metric.name in report.metrics() for report in ALL_REPORTS)


@pytest.mark.parametrize("report", ALL_REPORTS, ids=[report.place for report in ALL_REPORTS])
def test_what_is_reported_is_declared_so(report):
    assert report.name, "write the name out, so that it can be found"
    assert report.metrics(), "declare it in xhash_ray/telemetry.py"
    for metric in map(METRICS.__getitem__, report.metrics()):
        assert KINDS[report.function] == metric.kind
        assert report.labels is None or report.labels == set(metric.labels)


def test_the_search_for_reports_finds_them():
    source = (
        "telemetry.add('xhash_a', verb='x')\nx.add('b')\ndef f():\n    telemetry.set(name, value=2, **known)\n"
        "telemetry.set(f'xhash_{what}_reachable', 1)\n"
    )
    found = sorted(reports_in(source))
    assert found[:2] == [Report(":1", "add", "xhash_a", frozenset({"verb"})), Report(":4", "set", "", None)]
    assert found[2].metrics() == ["xhash_index_reachable", "xhash_artefact_reachable"]
    assert not found[0].metrics()
    assert not found[1].metrics()


def test_reports_go_to_every_backend_that_is_attached(collected):
    with telemetry.attached(Collected()) as other:
        telemetry.add("xhash_run_units", 2, verb="extract")
        telemetry.add("xhash_run_units", verb="extract")
        telemetry.set("xhash_run_active", True, verb="extract")
    telemetry.observe("xhash_queries_per_scan", 3)
    assert other.seen == [
        ("add", "xhash_run_units", 2.0, {"verb": "extract"}),
        ("add", "xhash_run_units", 1.0, {"verb": "extract"}),
        ("set", "xhash_run_active", 1.0, {"verb": "extract"}),
    ]
    assert collected.seen == [*other.seen, ("observe", "xhash_queries_per_scan", 3.0, {})]


def test_what_others_report_themselves_is_relayed_to_private_backends_only(collected):
    with telemetry.attached(Collected(shared=True)) as shared:
        telemetry.relay("xhash_run_units", 2, verb="extract")
    assert shared.seen == []
    assert collected.seen == [("add", "xhash_run_units", 2.0, {"verb": "extract"})]


def test_attaching_twice_reports_once_and_the_outer_one_stays(collected):
    telemetry.attach(collected)
    with telemetry.attached(collected):
        telemetry.add("xhash_run_units", verb="extract")
    telemetry.add("xhash_run_units", verb="extract")
    assert len(collected.seen) == 2
    telemetry.detach(collected)
    telemetry.detach(collected)
    telemetry.add("xhash_run_units", verb="extract")
    assert len(collected.seen) == 2


@pytest.mark.parametrize("value", [np.float32(0.5), np.float64(0.5), np.int64(3), np.bool_(True), 7])
def test_numbers_of_any_library_arrive_as_plain_ones(collected, value):
    """Ray refuses numpy's."""
    telemetry.add("xhash_run_units", value, verb="extract")
    telemetry.set("xhash_run_active", value, verb="extract")
    telemetry.observe("xhash_queries_per_scan", value)
    assert [type(seen[2]) for seen in collected.seen] == [float] * 3
    assert {seen[2] for seen in collected.seen} == {float(value)}


@pytest.mark.parametrize("value", [-1, float("nan"), float("inf"), np.float32("nan")])
def test_a_counter_only_grows(collected, value):
    with pytest.raises(ValueError, match="only grows"):
        telemetry.add("xhash_run_units", value, verb="extract")
    assert collected.seen == []


@pytest.mark.parametrize(
    ("call", "name", "labels", "error"),
    [
        ("set", "xhash_nothing", {}, KeyError),
        ("set", "xhash_searches", {"kind": "text", "outcome": "ok"}, KeyError),
        ("set", "xhash_search_seconds", {"part": "scan"}, KeyError),
        ("add", "xhash_run_active", {"verb": "extract"}, KeyError),
        ("relay", "xhash_run_active", {"verb": "extract"}, KeyError),
        ("observe", "xhash_searches", {"kind": "text", "outcome": "ok"}, KeyError),
        ("set", "xhash_run_active", {}, ValueError),
        ("set", "xhash_run_active", {"verb": "extract", "step": "read"}, ValueError),
        ("set", "xhash_run_active", {"Verb": "extract"}, ValueError),
        ("add", "xhash_missing_shard_answers", {"shard": 3}, TypeError),
    ],
)
@pytest.mark.parametrize("heard", [True, False])
def test_what_is_not_declared_so_is_refused_whether_anybody_hears_it_or_not(call, name, labels, error, heard):
    backend = Collected()
    if heard:
        telemetry.attach(backend)
    try:
        with pytest.raises(error):
            getattr(telemetry, call)(name, 1.0, **labels)
    finally:
        telemetry.detach(backend)
    assert backend.seen == []


def test_backends_come_and_go_while_others_report(collected):
    """No report of a backend that stays is lost, and none is reported twice."""
    reports, over = 2000, threading.Event()

    def come_and_go() -> None:
        while not over.is_set():
            with telemetry.attached(Collected()):
                pass

    threads = [threading.Thread(target=come_and_go) for _ in range(2)]
    for thread in threads:
        thread.start()
    for _ in range(reports):
        telemetry.add("xhash_run_units", verb="extract")
    over.set()
    for thread in threads:
        thread.join()
    assert len(collected.seen) == reports


def test_the_page_is_what_the_declarations_say(capsys):
    assert main(["metrics", "--markdown"]) == 0
    assert PAGE.read_text(encoding="utf-8") == capsys.readouterr().out, (
        "declarations have changed: xhash metrics --markdown > deploy/METRICS.md"
    )


def test_the_page_has_a_row_per_metric_that_markdown_can_read():
    metric = {"name": "xhash_a_ratio", "kind": "gauge", "unit": "1", "labels": ("b", "c"), "buckets": ()}
    text = page([metric | {"meaning": "|x|", "group": "Things"}])
    assert text.endswith("## Things\n\n| name | kind | unit | labels | meaning |\n| --- | --- | --- | --- | --- |\n"
                         "| `xhash_a_ratio` | gauge | 1 | b, c | \\|x\\| |\n")  # fmt: skip


def test_the_command_lists_every_metric_by_group(capsys):
    assert main(["metrics"]) == 0
    shown = capsys.readouterr().out
    assert [group for group in GROUPS if f"{group}\n\nname" in shown] == list(GROUPS)
    assert all(f"\n{name} " in shown for name in METRICS)
    assert main(["metrics", "--json"]) == 0
    (told,) = json.loads(capsys.readouterr().out.splitlines()[-1]).values()
    assert [each["name"] for each in told] == list(METRICS)
    assert set(told[0]) == {"name", "kind", "unit", "meaning", "labels", "buckets", "group"}
