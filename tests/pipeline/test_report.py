"""Closing reports: whole pages that load nothing, run nothing, and say what happened."""

import dataclasses
import itertools
import re
from html.parser import HTMLParser

import matplotlib
import pytest

from xhash_ray.pipeline.report import MOST_REJECTS, Report, bottleneck_sentence, flat, render, summary, write_report
from xhash_ray.pipeline.report_plots import MOST_BARS, averaged, draw_rejects, draw_speed, ranked, time_unit
from xhash_ray.pipeline.watching import Snapshot, Stage, UnitDone, Watch

VOID = {"meta", "br", "link", "img"}
EVIL = "<script>alert('x')</script><img src=http://evil.example/a.png onerror=alert(1)>"
MADE_BY = {"model": "ViT-B-32", "settings": {"batch_size": 64, "where": None, "columns": {"text": "caption"}}}


def history_of(units: int, rejected: int = 0, before: int = 0, busy: float = 1.9) -> list[Snapshot]:
    """A run of units of 100 pairs, one every second."""
    times = itertools.count(0, 0.5)
    watch = Watch("extract", before + 2000, [Stage("read", 2), Stage("prepare", 2)], before, lambda: next(times))
    moments = []
    for number in range(units):
        lost = {"prepare: truncated": rejected} if rejected else {}
        watch.add(UnitDone(number, 100 - rejected, 100, lost, 10**6, 10**5, {"read": 0.2, "prepare": busy}))
        moments.append(watch.snapshot())
    return moments


def report_of(**changes) -> Report:
    """A finished run without rejects, but for the changes."""
    history = history_of(20)
    return Report(**{"last": history[-1], "history": history, "out": "/data/features", "made_by": MADE_BY, **changes})


class Page(HTMLParser):
    """A page taken apart: tags must nest; texts and attributes are kept."""

    def __init__(self, content: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.texts: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.feed(content)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.handle_startendtag(tag, attrs)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if data.strip():
            self.texts.append(data.strip())


def rejects(count: int, reason: str = "image file is truncated") -> list[dict]:
    """Rows as a stage leaves them."""
    columns = {"source": "/data/pairs.parquet", "stage": "prepare", "kind": "truncated", "reason": reason}
    return [{"id": f"pair-{number}", "row": number, **columns} for number in range(count)]


def assert_needs_nothing(content: str) -> None:
    """No script, and every reference of any kind stays within the page."""
    page = Page(content)
    assert not {"script", "iframe", "object", "embed", "img", "link", "image", "a"} & set(page.tags)
    assert not [name for name, _ in page.attributes if name.startswith("on")]
    references = [value for name, value in page.attributes if name in {"href", "src", "xlink:href", "srcset", "data"}]
    assert all(value.startswith("#") for value in references)
    assert all(target.startswith("#") for target in re.findall(r"url\(([^)]*)\)", content))
    assert "@import" not in content
    assert any(value.startswith("default-src 'none'") for name, value in page.attributes if name == "content")


def test_a_finished_run():
    content = render(report_of())
    assert_needs_nothing(content)
    assert "http" not in content.replace("http-equiv", "")
    texts = Page(content).texts
    assert texts[0] == "xhash extract finished"
    assert {"finished", "2,000 of 2,000", "ViT-B-32", "settings.columns.text"} <= set(texts)
    assert texts[4].endswith("UTC, /data/features")
    assert "Rejected pairs" not in texts
    assert "Why it failed" not in content


def test_plots_name_their_axes_with_units_and_their_lines():
    texts = set(Page(render(report_of())).texts)
    assert {"pairs per second", "seconds since the start", "now", "since the start"} <= texts
    assert {"busy, % of its workers' time", "read", "prepare"} <= texts


def test_a_failed_run_with_rejects_says_why_and_shows_the_first_of_them():
    history = history_of(12, rejected=6)
    content = render(report_of(last=history[-1], history=history, failure="too many rejects", rejects=rejects(72)))
    assert_needs_nothing(content)
    page = Page(content)
    assert page.texts[0] == "xhash extract failed"
    assert "Why it failed: too many rejects" in page.texts
    assert {"1,200 of 2,000", "0", "72 (6% of 1,200 read)"} <= set(page.texts)
    assert {"rejected pairs", "prepare: truncated", "72 (100%)"} <= set(page.texts)  # the bars
    assert f"The first {MOST_REJECTS} of 72" in page.texts
    assert f"pair-{MOST_REJECTS - 1}" in page.texts
    assert f"pair-{MOST_REJECTS}" not in page.texts


def test_rejects_of_earlier_starts_are_shown_and_not_counted_as_this_ones():
    history = history_of(12, rejected=1, before=500)
    texts = Page(render(report_of(last=history[-1], history=history, rejects=rejects(60)))).texts
    assert {"1,700 of 2,500", "500", "12 (1% of 1,200 read)", "12 (100%)"} <= set(texts)
    assert {"By stage and kind, of this start", "50 of them, earlier starts included"} <= set(texts)


def test_all_rejects_are_called_all_of_them():
    history = history_of(3, rejected=1)
    assert "All of them" in Page(render(report_of(last=history[-1], rejects=rejects(3)))).texts


def test_nothing_that_a_corpus_holds_becomes_markup():
    history = history_of(3, rejected=1)
    last = dataclasses.replace(history[-1], verb=EVIL, rejected_by={EVIL: 3, "$x_1$ & y": 1})
    rows = [dict.fromkeys(("id", "source", "row", "stage", "kind", "reason"), EVIL + "\x00\udc80")]
    content = render(Report(last, history, EVIL, EVIL, {EVIL: EVIL, "inner": {EVIL: [EVIL]}}, rows))
    assert_needs_nothing(content)
    assert "<script" not in content
    assert "\x00" not in content
    assert "&lt;script&gt;alert(&#x27;x&#x27;)&lt;/script&gt;" in content
    assert "$x_1$ & y" in Page(content).texts  # no formula either


def test_a_run_that_ended_before_it_began():
    content = render(Report(Watch("extract", 0, []).snapshot(), failure="no such bucket"))
    assert_needs_nothing(content)
    assert "<svg" not in content
    assert "The run was over before anything was measured." in content


def test_a_reject_without_a_row_or_id_has_empty_cells():
    content = render(report_of(rejects=[{"id": "", "reason": "no row", "row": None}]))
    assert '<td></td><td class="long"></td><td class="number"></td>' in content
    assert "None" not in content


def test_the_share_of_rejects_is_of_what_this_start_read():
    last = history_of(10, rejected=5, before=100_000)[-1]
    values = dict(summary(Report(last)))
    assert values["pairs rejected"] == "50 (5% of 1,000 read)"
    assert values["by earlier starts"] == "100,000"
    assert values["rows written"] == "950"
    assert values["speed"] == f"{1000 / last.elapsed_s:.0f} pairs/s"
    assert values["read"].startswith("10 MB (")


@pytest.mark.parametrize(
    ("stage", "advice"),
    [("read", "nearer"), ("prepare", "CPUs"), ("embed", "GPUs"), ("encode", "GPUs"), ("write", "larger parts")],
)
def test_the_busiest_stage_comes_with_advice(stage, advice):
    last = dataclasses.replace(history_of(1)[0], utilisation_overall={"other": 0.3, stage: 0.97})
    assert bottleneck_sentence(last).startswith(f"Limited by {stage}: its workers were busy 97% of the time.")
    assert advice in bottleneck_sentence(last)
    assert "Close behind" not in bottleneck_sentence(last)


def test_a_stage_close_behind_is_named_and_one_unheard_of_has_advice_too():
    last = dataclasses.replace(history_of(1)[0], utilisation_overall={"weigh": 0.9, "read": 0.85, "write": 0.1})
    assert bottleneck_sentence(last).endswith("Give it more workers. Close behind: read (85%).")


def test_when_no_stage_was_busy_none_is_blamed():
    assert bottleneck_sentence(history_of(20, busy=0.3)[-1]).startswith("No stage was the limit")
    assert bottleneck_sentence(Watch("encode", 0, [Stage("read")]).snapshot()).startswith("No unit was finished")


def test_settings_are_flattened():
    assert flat({"a": 1, "b": {"c": None, "d": {"e": ["x", 2]}}, "f": "t"}) == [
        ("a", "1"),
        ("b.c", "none"),
        ("b.d.e", '["x", 2]'),
        ("f", "t"),
    ]


def test_rare_kinds_of_rejects_share_a_bar():
    bars = ranked({f"kind {number:02d}": 100 - number for number in range(MOST_BARS + 3)})
    assert bars[0] == ("kind 00", 100)
    assert bars[MOST_BARS:] == [("3 other kinds", 90 + 89 + 88)]
    assert "3 other kinds" in draw_rejects({f"kind {number:02d}": 100 - number for number in range(MOST_BARS + 3)})


def test_long_histories_are_averaged():
    history = history_of(1000)
    points = averaged(history, most=100)
    assert len(points) == 100
    assert points[1]["elapsed_s"] == pytest.approx(sum(each.elapsed_s for each in history[10:20]) / 10)
    assert points[-1]["prepare"] == pytest.approx(history[-1].utilisation["prepare"])
    assert len(draw_speed(history)) < 40_000


def test_time_axes_have_units_that_people_use():
    assert [time_unit(seconds)[0] for seconds in (0, 90, 600, 7000, 8000)] == [
        *("seconds", "seconds", "minutes", "minutes", "hours")
    ]


def test_plots_leave_matplotlib_as_it_was_and_are_the_same_again():
    before = dict(matplotlib.rcParams)
    once, again = (render(report_of(ended_unix_s=0.0)) for _ in range(2))
    assert once == again
    assert dict(matplotlib.rcParams) == before


def test_plots_follow_the_page_into_the_dark():
    content = render(report_of())
    assert "prefers-color-scheme:dark" in content
    for svg in re.findall(r"<svg.*?</svg>", content, flags=re.DOTALL):
        assert set(re.findall(r"(?:fill|stroke): ([^;\"]+)", svg)) <= {
            *("none", "var(--ink)", "var(--grid)"),
            *(f"var(--series-{number})" for number in range(6)),
        }
    used = set(re.findall(r"var\((--[a-z0-9-]+)\)", content))
    assert used <= set(re.findall(r"(--[a-z0-9-]+):", content))


def test_names_within_a_page_are_unique():
    names = [value for name, value in Page(render(report_of())).attributes if name == "id"]
    assert names
    assert len(names) == len(set(names))


def test_a_report_is_a_file(tmp_path):
    place = tmp_path / "run" / "report.html"
    write_report(str(place), report_of(failure="Größe \udc80"))
    assert "Größe" in place.read_text(encoding="utf-8")
