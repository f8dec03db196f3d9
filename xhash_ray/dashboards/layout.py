"""What stands where: dashboards, their rows, their panels. The only part of them that is chosen by hand."""

from __future__ import annotations

from dataclasses import dataclass, replace

from xhash_ray.dashboards.panels import Panel, formula, heatmap, number, quantiles, seldom, shown
from xhash_ray.telemetry import CODES, INDEX, RUNS, SERVING, TRAINING


@dataclass(frozen=True)
class Row:
    """A line of panels under a title; those beyond 24 columns stand below."""

    title: str
    panels: tuple[Panel, ...]


@dataclass(frozen=True)
class Dashboard:
    """A page.

    Attributes:
        uid: Its address in Grafana, and the name of its file.
        title: For people.
        group: Of the metrics that it shows all of.
        rows: From top to bottom.
    """

    uid: str
    title: str
    group: str
    rows: tuple[Row, ...]

    def panels(self) -> list[Panel]:
        """All panels."""
        return [panel for row in self.rows for panel in row.panels]


def wide(panel: Panel, width: int = 12) -> Panel:
    """The same panel, so wide."""
    return replace(panel, width=width)


OVERVIEW = Dashboard("xhash-overview", "xhash: overview", INDEX, (
    Row("Now", (
        number(formula("Alerts", "short", "Alerts of deploy/prometheus/rules.yaml that fire",
                       ('count(ALERTS{alertname=~"Xhash.*", alertstate="firing"}) or vector(0)', "firing"))),
        number(formula("Gateways", "short", "Processes that take searches",
                       ("count(count by (gateway) (xhash_activated_generation))", "gateways"))),
        number(formula("Shards without replica", "short", "Shards that some gateway gets no answer from",
                       ("sum(min by (shard) (xhash_shard_answering) == bool 0)", "shards"))),
        number(formula("Failing", "percentunit", "Share of searches that failed or found the endpoint overloaded",
                       ("xhash:searches_failing:ratio5m", "failing"))),
        number(formula("Incomplete", "percentunit", "Share of answers that lack shards",
                       ("xhash:searches_incomplete:ratio5m", "incomplete"))),
        number(formula("p99", "s", "One search in a hundred takes longer",
                       ('xhash:search_seconds:p99_5m{part="total"}', "p99"))),
    )),
    Row("Searches", (
        wide(formula("Searches per second", "short", "By outcome, over five minutes",
                     ("xhash:searches:rate5m", "{{outcome}}"))),
        wide(formula("Latency against its objective", "s", "Of whole searches, over five minutes",
                     ('xhash:search_seconds:p50_5m{part="total"}', "p50"),
                     ('xhash:search_seconds:p99_5m{part="total"}', "p99"),
                     ("xhash:search_seconds:objective", "objective"))),
        formula("Codes compared per second", "short", "By group of shards, over five minutes",
                ("xhash:scanned_codes:rate5m", "group {{group}}")),
        formula("Share of memory's bandwidth", "percentunit", "Bytes per second of scanning over plain reading's",
                ("xhash:scan_bandwidth:ratio5m", "group {{group}}")),
        formula("Coalescing factor", "short", "Queries that share a scan, on average over five minutes",
                ("xhash:queries_per_scan:mean5m", "queries per scan")),
    )),
    Row("Runs and trainings", (
        shown("xhash_run_active", "Runs under way"),
        shown("xhash_training_active", "Trainings under way"),
        seldom(formula("Rejected pairs", "percentunit", "Share of the pairs read in 15 minutes that could not be used",
                       ("xhash:rejected_pairs:ratio15m", "{{verb}}"))),
        wide(formula("Bytes of runs", "binBps", "Over five minutes",
                     ("xhash:read_bytes:rate5m", "{{verb}} reads"),
                     ("xhash:written_bytes:rate5m", "{{verb}} writes")), 24),
    )),
    Row("Indexes", (
        wide(shown("xhash_index_reachable", "Readable"), 6),
        wide(shown("xhash_index_generation", "Generation"), 6),
        wide(shown("xhash_index_committed_timestamp_seconds", "Age"), 6),
        wide(shown("xhash_index_pairs", "Pairs"), 6),
        wide(shown("xhash_index_deleted_pairs", "Deleted, not compacted"), 6),
        wide(shown("xhash_index_segments", "Segments"), 6),
        wide(shown("xhash_index_bytes", "Size"), 6),
    )),
    Row("Artefacts", (
        shown("xhash_artefact_reachable", "Readable"),
        shown("xhash_artefact_pairs", "Pairs"),
        shown("xhash_artefact_written_timestamp_seconds", "Age"),
    )),
    Row("Machines", (
        wide(formula("Scrapes", "short", "1 where a source of metrics answers", ("min by (job) (up)", "{{job}}")), 6),
        wide(formula("CPU", "percent", "Ray's figure of every node",
                ("max by (ip) (ray_node_cpu_utilization)", "{{ip}}")), 6),
        wide(formula("Memory", "percentunit", "Used share of every node's memory",
                ("max by (ip) (ray_node_mem_used) / max by (ip) (ray_node_mem_total)", "{{ip}}")), 6),
        wide(formula("Free disk", "percentunit", "Of the disk of fetched segments, and of Ray's",
                ("xhash:disk_free:ratio", "{{disk}} {{node}}")), 6),
    )),
))  # fmt: skip

EXTRACTION = Dashboard("xhash-extraction", "xhash: extraction and encoding", RUNS, (
    Row("Progress", (
        number(shown("xhash_run_active", "Under way")),
        number(shown("xhash_run_left_seconds", "Left")),
        number(shown("xhash_run_pairs", "Pairs of the input")),
        number(shown("xhash_run_progress_timestamp_seconds", "Last unit, ago")),
        wide(shown("xhash_run_done_pairs", "Pairs done"), 8),
    )),
    Row("Speed", (
        shown("xhash_run_pairs_per_second", "Pairs per second"),
        shown("xhash_run_units", "Units per second"),
        shown("xhash_step_pairs", "Pairs per second through each step"),
        shown("xhash_step_utilisation_ratio", "How busy each step's workers are"),
        shown("xhash_step_busy_seconds", "Busy workers of each step"),
        seldom(shown("xhash_rejected_pairs", "Rejected pairs per second")),
    )),
    Row("Bytes", (
        wide(shown("xhash_read_bytes", "Read")),
        wide(shown("xhash_written_bytes", "Written")),
    )),
    Row("Finished stages", (
        shown("xhash_stage_seconds", "Wall time"),
        shown("xhash_stage_pairs", "Pairs"),
        shown("xhash_stage_rejected_pairs", "Rejected pairs"),
        seldom(shown("xhash_stage_rejected_by_kind_pairs", "Rejected pairs by kind")),
        shown("xhash_stage_finished_timestamp_seconds", "Ended, ago"),
        shown("xhash_stage_succeeded", "Came to a result"),
    )),
))  # fmt: skip

TRAININGS = Dashboard("xhash-training", "xhash: training", TRAINING, (
    Row("Progress", (
        number(shown("xhash_training_active", "Under way"), 6),
        number(shown("xhash_training_epochs", "Epochs"), 6),
        number(shown("xhash_training_progress_timestamp_seconds", "Last heard of, ago"), 6),
        number(shown("xhash_training_validation_map_ratio", "Validation MAP"), 6),
    )),
    Row("Learning", (
        wide(shown("xhash_training_loss", "Loss terms")),
        wide(shown("xhash_training_validation_map_ratio", "Validation MAP over time")),
        shown("xhash_training_bit_balance_ratio", "Bit balance"),
        shown("xhash_training_quantisation_error_ratio", "Quantisation error"),
        shown("xhash_training_learning_rate", "Learning rate"),
    )),
    Row("Speed", (
        wide(shown("xhash_training_pairs_per_second", "Pairs per second of the last epoch")),
        wide(shown("xhash_training_pairs", "Pairs per second")),
    )),
))  # fmt: skip

SEARCHES = Dashboard("xhash-serving", "xhash: serving", SERVING, (
    Row("Searches", (
        shown("xhash_searches", "Searches per second by outcome", by=["outcome"]),
        shown("xhash_searches", "Searches per second by kind", by=["kind"]),
        quantiles("xhash_search_seconds", "Latency", where='part="total"'),
        wide(quantiles("xhash_search_seconds", "Latency by part, 99th percentile", by=["part"], shares=[0.99])),
        heatmap("xhash_search_seconds", "Searches by latency", 'part="total"'),
    )),
    Row("Load", (
        shown("xhash_waiting_searches", "Waiting for their turn"),
        formula("Coalescing factor", "short", "Queries that share a scan, on average",
                ("sum(rate(xhash_queries_per_scan_sum[$__rate_interval])) / "
                 "sum(rate(xhash_queries_per_scan_count[$__rate_interval]))", "queries per scan")),
        heatmap("xhash_queries_per_scan", "Scans by queries that share them", width=8),
    )),
    Row("Scans", (
        shown("xhash_scanned_codes", "Codes compared per second"),
        wide(formula("Bandwidth of scans", "binBps", "Bytes per second of scanning, and of plain reading",
                     ("sum by (group) (rate(xhash_scanned_bytes_total[$__rate_interval])) / "
                      "sum by (group) (rate(xhash_scan_busy_seconds_total[$__rate_interval]))", "group {{group}}"),
                     ("avg by (group) (xhash_memory_bandwidth_bytes_per_second)", "plain reading, group {{group}}")),
             8),
        shown("xhash_scan_busy_seconds", "Scans at once"),
    )),
    Row("Shards", (
        shown("xhash_shard_answering", "Answering, in the eyes of each gateway"),
        seldom(shown("xhash_missing_shard_answers", "Answers per second that lack a shard")),
        shown("xhash_group_pairs", "Pairs held"),
    )),
    Row("Generations", (
        shown("xhash_activated_generation", "Served by each gateway"),
        shown("xhash_loaded_generation", "Newest that each replica holds"),
        quantiles("xhash_swap_seconds", "Time of all activations", by=["outcome"], window=""),
    )),
    Row("Memory and disk", (
        shown("xhash_group_code_bytes", "Codes in memory"),
        shown("xhash_process_resident_bytes", "Resident memory of processes"),
        shown("xhash_cache_disk_free_ratio", "Free share of the cache's disk", by=["node"], over="min"),
    )),
))  # fmt: skip

HEALTH = Dashboard("xhash-codes", "xhash: code health", CODES, (
    Row("Drift", (
        wide(shown("xhash_code_drift_ratio", "Queries against the index", by=["modality"])),
        wide(shown("xhash_code_sample_size", "Codes looked at", by=["source", "modality"])),
    )),
    Row("Bits", (
        wide(shown("xhash_code_bit_mean_ratio", "Lowest and highest share of ones of any bit",
                   by=["source", "modality", "bound"])),
        wide(shown("xhash_code_entropy_ratio", "Mean entropy of the bits", by=["source", "modality"], over="min")),
        wide(shown("xhash_code_correlation_ratio", "The two most alike bits", by=["source", "modality"])),
        wide(shown("xhash_code_distinct_ratio", "Distinct codes", by=["source", "modality"], over="min")),
    )),
))  # fmt: skip

DASHBOARDS = (OVERVIEW, EXTRACTION, TRAININGS, SEARCHES, HEALTH)
