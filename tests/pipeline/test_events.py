"""Events that any JSON parser reads, and a history that stays small."""

import dataclasses
import itertools
import json
import math
from collections import Counter
from types import MappingProxyType

import numpy as np
import pytest

from xhash_ray.errors import BadInput
from xhash_ray.pipeline.events import Events, History
from xhash_ray.pipeline.watching import Snapshot, Stage, UnitDone, Watch

STAGES = (Stage("read", 2), Stage("write"))
DONE = UnitDone(
    7, 97, 100, Counter({"read: missing text": 3}), 1000, 50, MappingProxyType({"read": 1.5, "write": 0.25})
)
MOMENT = {
    *("pairs_done", "pairs_total", "pairs_before", "units", "rows", "elapsed_s", "pairs_per_s", "pairs_per_s_overall"),
    *("left_s", "rejected_pairs", "rejected_pairs_by", "bytes_read", "bytes_written", "bytes_read_per_s"),
    *("utilisation", "utilisation_overall", "bottleneck"),
}
ALWAYS = {"event", "time_unix_s", "verb"}


def snapshot(elapsed_s: float = 10.0) -> Snapshot:
    """A run of one unit."""
    times = iter((0.0, elapsed_s, elapsed_s))
    watch = Watch("extract", 1000, STAGES, 300, clock=lambda: next(times))
    watch.add(DONE)
    return watch.snapshot()


def parsed(text: str) -> list[dict]:
    """Lines of JSON, by a parser that takes no NaN."""

    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is no JSON")

    return [json.loads(line, parse_constant=refuse) for line in text.splitlines()]


@pytest.fixture
def whole_run(tmp_path) -> list[dict]:
    """Every event that there is."""
    with Events(str(tmp_path / "events.jsonl"), clock=lambda: 1234.5678) as events:
        events.started("extract", 1000, STAGES, before=300, settings={"batch_size": 64})
        events.unit(DONE)
        events.progress(snapshot())
        events.finished(snapshot(), out="s3://bucket/features")
        events.failed("too many rejects", snapshot())
        events.failed("no such bucket")
    return parsed((tmp_path / "events.jsonl").read_text())


def test_every_event_has_the_fields_it_is_documented_with(whole_run):
    expected = [
        ("started", {"pairs_total", "pairs_before", "stages", "settings"}),
        ("unit", {"unit", "rows", "pairs", "rejected_pairs", "bytes_read", "bytes_written", "busy_s"}),
        ("progress", MOMENT),
        ("finished", MOMENT | {"out"}),
        ("failed", MOMENT | {"reason"}),
        ("failed", {"reason"}),
    ]
    assert [(event["event"], set(event) - ALWAYS) for event in whole_run] == expected
    assert {(event["time_unix_s"], event["verb"]) for event in whole_run} == {(1234.568, "extract")}


def test_events_say_what_happened(whole_run):
    started, unit, progress = whole_run[:3]
    assert started["stages"] == [{"name": "read", "workers": 2}, {"name": "write", "workers": 1}]
    assert (unit["unit"], unit["rejected_pairs"]) == (7, {"read: missing text": 3})
    assert unit["busy_s"] == {"read": 1.5, "write": 0.25}
    assert (progress["pairs_done"], progress["pairs_total"], progress["pairs_before"]) == (400, 1000, 300)
    assert progress["pairs_per_s"] == 10
    assert progress["left_s"] == 60
    assert progress["bottleneck"] == {"stage": "read", "utilisation": 0.075}


def test_what_is_no_number_is_null_and_what_json_lacks_is_text(tmp_path):
    strange = dataclasses.replace(snapshot(), left_s=math.inf, utilisation={"read": math.nan})
    with Events(str(tmp_path / "e")) as events:
        events.progress(strange)
        events.finished(
            strange, loss=np.float32("nan"), n=np.int64(3), sizes=(1, {2.5}), at=np.array([1.0, np.inf]), p=tmp_path
        )
    first, second = parsed((tmp_path / "e").read_text())
    assert first["left_s"] is None
    assert first["utilisation"] == {"read": None}
    assert (second["loss"], second["n"], second["sizes"], second["at"]) == (None, 3, [1, [2.5]], [1.0, None])
    assert second["p"] == str(tmp_path)


def test_text_stays_one_line_and_whatever_it_is(tmp_path):
    reason = 'two\nlines, "quotes", \u2028, ü, a name that is no UTF-8: \udc80'
    with Events(str(tmp_path / "e")) as events:
        events.failed(reason)
    (event,) = parsed((tmp_path / "e").read_text())
    assert event["reason"] == reason


def test_an_event_can_be_read_at_once_and_a_second_start_appends(tmp_path):
    path = tmp_path / "e"
    with Events(str(path)) as events:
        events.started("extract", 10)
        assert [event["event"] for event in parsed(path.read_text())] == ["started"]
    with Events(str(path)) as events:
        events.started("extract", 10, before=4)
    assert [event["pairs_before"] for event in parsed(path.read_text())] == [0, 4]


def test_a_dash_is_standard_error_and_none_remembers_only(capsys):
    for path in ("-", None):
        with Events(path) as events:
            events.started("encode", 10)
            events.progress(snapshot())
            assert len(events.history.points) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert [event["event"] for event in parsed(captured.err)] == ["started", "progress"]


@pytest.mark.parametrize("path", ["s3://bucket/events", "", "{folder}", "{folder}/nowhere/events"])
def test_a_file_that_cannot_be_opened_is_said_before_the_run(tmp_path, path):
    with pytest.raises(BadInput, match="Name a local file in a folder that exists"):
        Events(path.format(folder=tmp_path))


def test_a_full_disk_ends_the_events_and_not_the_run(capsys):
    with Events("/dev/full") as events:
        events.started("extract", 10)
        events.progress(snapshot())
    assert len(events.history.points) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("[extract] no more events in /dev/full: ")


@pytest.mark.parametrize("count", [0, 1, 2, 9, 10, 11, 99, 1234])
def test_a_history_thins_out_evenly_and_keeps_its_ends(count):
    history, moments = History(limit=10), [snapshot(1.0 + number) for number in range(count)]
    for number, moment in enumerate(moments):
        history.add(moment)
        assert history.points[-1] is moment
        assert len(history.points) <= min(10, number + 1)
    kept = [moment.elapsed_s for moment in history.points]
    gaps = {b - a for a, b in itertools.pairwise(kept[:-1])}
    assert len(gaps) <= 1
    if count:
        assert history.points[0] is moments[0]
        assert len(kept) >= min(count, 5)
