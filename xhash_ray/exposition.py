"""Metrics outside Ray: collected by prometheus-client in this process, then written, pushed or served."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from http.client import HTTPException
from typing import Any

import prometheus_client

from xhash_ray import telemetry
from xhash_ray.errors import BadInput
from xhash_ray.telemetry import METRICS, Metric

KINDS = {"counter": prometheus_client.Counter, "gauge": prometheus_client.Gauge}
PUSH_TIMEOUT_S = 10.0
PUSH_INTERVAL_S = 15.0  # as often as Prometheus usually scrapes


class Reported(prometheus_client.CollectorRegistry):
    """What was reported, without the times at which prometheus-client made its counters: nobody declared those."""

    def collect(self) -> Iterator[Any]:
        """Every metric with its samples."""
        for family in super().collect():
            family.samples = [sample for sample in family.samples if not sample.name.endswith("_created")]
            yield family


class Registry:
    """What is reported in this process; a `telemetry.Backend`. A metric is there from its first report on."""

    shared = False

    def __init__(self) -> None:
        self.registry = Reported()
        self.collectors: dict[str, Any] = {}
        self.making = threading.Lock()

    def add(self, name: str, value: float, labels: Mapping[str, str]) -> None:
        """See `Backend`."""
        self.child(name, labels).inc(value)

    def set(self, name: str, value: float, labels: Mapping[str, str]) -> None:
        """See `Backend`."""
        self.child(name, labels).set(value)

    def observe(self, name: str, value: float, labels: Mapping[str, str]) -> None:
        """See `Backend`."""
        self.child(name, labels).observe(value)

    def child(self, name: str, labels: Mapping[str, str]) -> Any:
        """The time series of some labels."""
        collector = self.collectors.get(name)
        if collector is None:
            with self.making:
                if name not in self.collectors:
                    self.collectors[name] = as_collector(METRICS[name], self.registry)
                collector = self.collectors[name]
        return collector.labels(**labels) if labels else collector

    def write(self, path: str) -> None:
        """Writes everything collected in the text format, in one step (for node_exporter's textfile collector)."""
        prometheus_client.write_to_textfile(path, self.registry)

    def push(self, gateway: str, job: str, replace: bool = True) -> None:
        """Puts what is collected into a Pushgateway's group of a job.

        Args:
            gateway: Its URL, or host:port.
            job: Name of the group.
            replace: All that the group holds; else only metrics of the same names.

        Raises:
            BadInput: when nobody answers there, or refuses.
        """
        asked, do = f"pushing metrics to {gateway}", "Give the URL of a Pushgateway, such as http://host:9091"
        scheme, found, _ = gateway.rpartition("://")
        if found and scheme not in ("http", "https"):
            raise BadInput(asked, f"'{scheme}' is neither http nor https", do)
        push = prometheus_client.push_to_gateway if replace else prometheus_client.pushadd_to_gateway
        try:
            push(gateway, job=job, registry=self.registry, timeout=PUSH_TIMEOUT_S)
        except (OSError, ValueError, HTTPException) as error:
            raise BadInput(asked, str(error) or type(error).__name__, do) from None


def as_collector(metric: Metric, registry: prometheus_client.CollectorRegistry) -> Any:
    """A declaration as prometheus-client's metric."""
    if metric.kind == "histogram":
        return prometheus_client.Histogram(
            metric.name, metric.meaning, metric.labels, registry=registry, buckets=metric.buckets
        )
    return KINDS[metric.kind](metric.name, metric.meaning, metric.labels, registry=registry)


class Pushes:
    """Pushes a registry every while, in a thread that never holds the process up.

    The first push is made here, so that a wrong address is said before any work begins. Later ones must not harm the
    run: the first that fails is said in one line. While the run lasts, what an earlier one pushed under other names
    stays (when it finished, say); the last push replaces everything.

    Raises:
        BadInput: when the first push fails.
    """

    def __init__(self, registry: Registry, gateway: str, job: str, interval_s: float = PUSH_INTERVAL_S) -> None:
        self.registry, self.gateway, self.job, self.interval_s = registry, gateway, job, interval_s
        self.over, self.warned = threading.Event(), False
        registry.push(gateway, job, replace=False)
        self.thread = threading.Thread(target=self.repeat, name="metrics pushes", daemon=True)
        self.thread.start()

    def repeat(self) -> None:
        """Until the end."""
        while not self.over.wait(self.interval_s):
            self.push(replace=False)

    def push(self, replace: bool) -> None:
        """Once more; a failure is said the first time."""
        try:
            self.registry.push(self.gateway, self.job, replace)
        except BadInput as error:
            if not self.warned:
                say(f"{error.asked}: {error.found}; the run goes on")
            self.warned = True

    def close(self) -> None:
        """The last push."""
        self.over.set()
        self.thread.join()
        self.push(replace=True)


class Stage:
    """A stage that may come to a result; none while, and if, it does not."""

    result: Mapping[str, Any] | None = None


@contextlib.contextmanager
def exposed(stage: str, file: str | None, gateway: str | None, interval_s: float = PUSH_INTERVAL_S) -> Iterator[Stage]:
    """Collects whatever is reported while a stage runs, for a file and a Pushgateway; for neither, does nothing.

    Both get their last word however the stage ends. What cannot be written or pushed then is said in one line.

    Args:
        stage: The verb; its group in the Pushgateway is named `xhash_VERB`.
        file: Where to write the text format in the end, None for nowhere.
        gateway: URL of the Pushgateway, None for none.
        interval_s: Between two pushes.

    Raises:
        BadInput: before the stage begins, when the file cannot be written or the Pushgateway does not take a push.
    """
    known = Stage()
    if not file and not gateway:
        yield known
        return
    registry, started_s = Registry(), time.monotonic()
    if file:
        check_file(file)
    pushes = Pushes(registry, gateway, job_of(stage), interval_s) if gateway else None
    with telemetry.attached(registry):
        try:
            yield known
        finally:
            report_stage(stage, known.result, time.monotonic() - started_s)
            if file:
                write_in_the_end(registry, file)
            if pushes:
                pushes.close()


def job_of(stage: str) -> str:
    """A stage's group in a Pushgateway."""
    return f"xhash_{stage.replace(' ', '_')}"


def report_stage(stage: str, result: Mapping[str, Any] | None, seconds: float) -> None:
    """The closing figures of a stage; None for one that failed."""
    telemetry.set("xhash_stage_succeeded", float(result is not None), stage=stage)
    telemetry.set("xhash_stage_seconds", seconds, stage=stage)
    telemetry.set("xhash_stage_finished_timestamp_seconds", time.time(), stage=stage)
    if result is None:
        return
    telemetry.set("xhash_stage_pairs", number(result.get("pairs", result.get("rows"))), stage=stage)
    telemetry.set("xhash_stage_rejected_pairs", number(result.get("rejected")), stage=stage)
    for reason, count in result.get("rejected_by", {}).items():
        step, _, kind = reason.partition(": ")
        telemetry.set("xhash_stage_rejected_by_kind_pairs", count, stage=stage, step=step, kind=kind)


def number(value: Any) -> float:
    """A count of a result; 0 where it has none (`verify` counts pairs by what they are in)."""
    return float(value) if isinstance(value, (int, float)) else 0.0


def check_file(path: str) -> None:
    """Raises BadInput for a file that could not be written in the end."""
    folder, asked = os.path.dirname(path) or ".", f"writing metrics to {path}"
    if not os.path.isdir(folder) or os.path.isdir(path):
        found = "it is a folder" if os.path.isdir(path) else f"there is no folder {folder}"
        raise BadInput(asked, found, "Name a local file in a folder that exists")
    if not os.access(folder, os.W_OK):
        raise BadInput(asked, f"the folder {folder} may not be written to", "Name a file in another folder")


def write_in_the_end(registry: Registry, path: str) -> None:
    """Writes the file; that this fails is said, and changes nothing about the stage."""
    try:
        registry.write(path)
    except OSError as error:
        say(f"writing {path}: {error.strerror or error}")


def say(text: str) -> None:
    """One line for people."""
    print(f"[metrics] {text}", file=sys.stderr, flush=True)
