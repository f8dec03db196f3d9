"""Prometheus' rules: its own tool accepts them, every alert fires and resolves, and people find what to do."""

from __future__ import annotations

import re
import subprocess

import pytest
import yaml

from tests.dashboards.reading import CONFIG, RULES, RUNBOOKS, UNIT_TESTS, alerts, recorded, rules, strangers

every_alert = pytest.mark.parametrize("alert", alerts(), ids=[each["alert"] for each in alerts()])
every_rule = pytest.mark.parametrize("rule", rules(), ids=[each.get("alert") or each["record"] for each in rules()])
PARAGRAPHS = dict(re.findall(r"^## (\w+)\n\n(.*?)(?=^## |\Z)", RUNBOOKS.read_text(), re.MULTILINE | re.DOTALL))
ASKED_FOR = (
    *("EndpointDown", "AnswersIncomplete", "SearchesSlow", "SearchesFailing", "ShardWithoutReplica", "GenerationSkew"),
    *("IndexStale", "RejectRateHigh", "TrainingStalled", "RunStalled", "DiskNearlyFull", "QueryDrift"),
    "CodesUnhealthy",
)


@pytest.fixture
def promtool(program):
    """Runs Prometheus' tool: exit code and what it said."""

    def run(*arguments: str) -> tuple[int, str]:
        done = subprocess.run(
            [program("promtool"), *arguments], capture_output=True, text=True, timeout=300, check=False
        )
        return done.returncode, done.stdout + done.stderr

    return run


def test_promtool_accepts_configuration_and_rules(promtool):
    code, said = promtool("check", "config", str(CONFIG))
    assert code == 0, said
    assert f"{len(rules())} rules found" in said


@pytest.mark.parametrize("file", UNIT_TESTS, ids=lambda file: file.stem)
def test_alerts_fire_after_their_fault_and_resolve_after_the_remedy(promtool, file):
    code, said = promtool("test", "rules", str(file))
    assert code == 0, said


def test_promtool_finds_an_alert_that_would_never_fire(promtool, tmp_path):
    """That the tests above can fail."""
    broken = RULES.read_text().replace("xhash:disk_free:ratio < 0.1", "xhash:disk_free:ratio < 0.01")
    assert broken != RULES.read_text()
    (tmp_path / "rules.yaml").write_text(broken)
    text = UNIT_TESTS[0].read_text().replace("../../deploy/prometheus/rules.yaml", str(tmp_path / "rules.yaml"))
    head, *tests = text.split("\n  - name: ")
    (disks,) = [test for test in tests if "XhashDiskNearlyFull" in test]
    (tmp_path / "test.yaml").write_text("\n  - name: ".join([head, disks]))
    code, said = promtool("test", "rules", str(tmp_path / "test.yaml"))
    assert code != 0
    assert "XhashDiskNearlyFull" in said


@every_alert
def test_an_alert_fires_in_a_unit_test_and_resolves_later_in_it(alert):
    tests = [test for file in UNIT_TESTS for test in yaml.safe_load(file.read_text())["tests"]]
    for test in tests:
        mine = [each for each in test.get("alert_rule_test", ()) if each["alertname"] == alert["alert"]]
        firing = [bool(each.get("exp_alerts")) for each in mine]
        if True in firing and False in firing[firing.index(True) :]:
            return
    pytest.fail(f"{alert['alert']} never fires and resolves in {[file.name for file in UNIT_TESTS]}")


def test_the_faults_that_people_must_hear_of_have_alerts():
    assert {f"Xhash{name}" for name in ASKED_FOR} <= {alert["alert"] for alert in alerts()}


@every_alert
def test_an_alert_says_how_bad_it_is_what_was_found_and_where_to_read_on(alert):
    assert alert["labels"].keys() == {"severity"}
    assert alert["labels"]["severity"] in ("critical", "warning")
    assert "{{ $value" in alert["annotations"]["summary"] or "{{ $labels" in alert["annotations"]["summary"]
    assert alert["annotations"]["runbook"] == f"deploy/RUNBOOKS.md#{alert['alert'].lower()}"


@every_alert
def test_an_alert_has_its_paragraph(alert):
    for part in ("**Means:**", "**Users**", "**Look:**", "**Remedy:**"):
        assert part in PARAGRAPHS[alert["alert"]], part


def test_there_is_no_paragraph_of_an_alert_that_is_gone():
    assert PARAGRAPHS.keys() == {alert["alert"] for alert in alerts()}


@every_rule
def test_rules_name_metrics_that_exist(rule):
    assert strangers(rule["expr"]) == []


def test_runbooks_name_metrics_that_exist():
    assert strangers(RUNBOOKS.read_text()) == []


@pytest.mark.parametrize(
    ("text", "stranger"),
    [
        ("rate(xhash_searches[5m])", "xhash_searches"),
        ("xhash_run_pears", "xhash_run_pears"),
        ("xhash:nothing:rate5m", "xhash:nothing:rate5m"),
        ("ray_node_disk_fullness", "ray_node_disk_fullness"),
        ('xhash_code_sample_size{sauce="index"}', "xhash_code_sample_size{sauce}"),
    ],
)
def test_a_stranger_would_be_found(text, stranger):
    assert strangers(text) == [stranger]


def test_what_is_recorded_is_used():
    expressions = [rule["expr"] for rule in rules()] + [RUNBOOKS.read_text(), *dashboards()]
    unused = {name for name in recorded() if not any(name in text for text in expressions)}
    assert unused == set()


def dashboards() -> list[str]:
    """Queries of panels."""
    from tests.dashboards.reading import panel_expressions

    return panel_expressions()
