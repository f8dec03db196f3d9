"""Scenarios by name and what they need; the table and what it calls a failure."""

import json

import pytest

from xhash_ray import reports
from xhash_ray.drilling import table
from xhash_ray.drilling.ledger import Event, summarise
from xhash_ray.drilling.scenarios import BY_NAME, LOCAL, REDIS, SCENARIOS, chosen, hindrance
from xhash_ray.errors import BadOption

SEEN = summarise(
    [
        Event(1.0, 0.02, "exact", generation=1),
        Event(2.0, 1.5, "error", "no answer", said="endpoint: no answer"),
        Event(3.0, 0.1, "incomplete", generation=1, missing=(4, 5)),
    ]
)
WORSE = SEEN._replace(wrong=2, reasons=["2 hits instead of 3"])
NODE, HEAD = BY_NAME["node-killed"], BY_NAME["head-restarted"]


def result_of(*rows):
    return {"setting": {"cluster": "three nodes"}, "rows": list(rows), "failures": table.failures(rows)}


def test_all_scenarios_or_some_in_the_drills_own_order():
    assert chosen(["all"]) == list(SCENARIOS)
    assert [each.name for each in chosen(["swaps", "node-killed"])] == ["node-killed", "swaps"]


@pytest.mark.parametrize(("names", "said"), [(["node-kiled"], "Did you mean 'node-killed'"), ([], "no scenario")])
def test_unknown_scenarios_are_refused_before_anything_starts(names, said):
    with pytest.raises(BadOption, match=said):
        chosen(names)


def test_what_is_lacking_is_said_and_what_wakes_people_must_be_asked_for():
    assert hindrance(HEAD, {}, joined=False, destructive=False) == ""
    assert hindrance(HEAD, {REDIS: "no redis-server"}, joined=False, destructive=False) == "no redis-server"
    assert hindrance(NODE, {REDIS: "no redis-server"}, joined=False, destructive=False) == ""
    assert hindrance(NODE, {LOCAL: "not ours"}, joined=True, destructive=True) == "not ours"
    gone = BY_NAME["shard-gone"]
    assert "--destructive" in hindrance(gone, {}, joined=True, destructive=False)
    assert hindrance(gone, {}, joined=True, destructive=True) == ""
    assert hindrance(BY_NAME["replica-killed"], {}, joined=True, destructive=False) == ""


def test_wrong_answers_and_no_recovery_are_failures_and_what_could_not_be_run_is_not():
    good = table.row(NODE, SEEN, 4.25, 19.0, 8.0, "")
    wrong = table.row(NODE, WORSE, 4.25, 19.0, 8.0, "")
    lost = table.row(HEAD, SEEN, None, None, 8.0, "it ended")
    absent = table.unavailable(HEAD, "no redis-server")
    assert table.failures([good, absent]) == []
    assert table.failures([good, wrong]) == ["node-killed: 2 wrong answers (2 hits instead of 3)"]
    assert table.failures([lost]) == ["head-restarted: no recovery: it ended"]


def test_the_table_in_markdown_and_json():
    rows = [table.row(NODE, SEEN, 4.25, 19.04, 8.0, "came back"), table.unavailable(HEAD, "no redis-server")]
    text = table.markdown(result_of(*rows)).splitlines()
    assert "cluster: three nodes" in text
    assert "| node killed | 3 | 1 no answer | 1 | 0 | 4.2 | 19 | 1.50 |" in text
    assert "| head killed and restarted | not available: no redis-server |  |  |  |  |  |  |" in text
    assert "- node killed: came back" in text
    assert len({line.count("|") for line in text if line.startswith("|")}) == 1
    assert json.loads(json.dumps(rows)) == rows


def test_the_table_for_people():
    rows = [
        table.row(NODE, WORSE, None, None, 8.0, "came back"),
        table.unavailable(HEAD, "no redis-server"),
        table.row(BY_NAME["swaps"], SEEN, 0.0, 3.0, 8.0, ""),
    ]
    text = reports.render("drill", result_of(*rows))
    assert "never" in text
    assert "node-killed: WRONG: 2 hits instead of 3; 1 no answer; came back" in text
    assert "head-restarted: not available: no redis-server" in text


def test_every_scenario_says_what_it_does():
    assert len({each.name for each in SCENARIOS}) == len(SCENARIOS) >= 10
    assert all(each.title and len(each.does) > 20 for each in SCENARIOS)
