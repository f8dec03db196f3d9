"""What people see of a run: one line that fits, not too often."""

import dataclasses
import doctest

import pytest

from xhash_ray.pipeline import words
from xhash_ray.pipeline.lines import WatchProgress, line
from xhash_ray.pipeline.watching import Bottleneck, Snapshot, Stage, UnitDone, Watch

BUSY = {"read": 0.12, "prepare": 0.97, "embed": 0.88, "write": 0.03}
RUNNING = Snapshot(
    verb="extract",
    done=12_288,
    total=20_000,
    before=0,
    units=24,
    rows=12_257,
    elapsed_s=10.7,
    pairs_per_s=1204.4,
    pairs_per_s_overall=1149.6,
    left_s=6.6,
    rejected=31,
    rejected_by={"prepare: truncated": 31},
    bytes_read=1_200_000_000,
    bytes_written=50_000_000,
    bytes_read_per_s=48_000_000,
    utilisation=BUSY,
    utilisation_overall=BUSY,
    bottleneck=Bottleneck("prepare", 0.97),
)
HUGE = dataclasses.replace(
    RUNNING,
    done=1_912_288_000_123,
    total=2_000_000_000_000,
    pairs_per_s=1_204_000.0,
    left_s=1e7,
    rejected=31_000_000_000,
    bytes_read=10**15,
    utilisation={f"a rather long stage {number}": 1.0 for number in range(9)},
    bottleneck=Bottleneck("a rather long stage 0", 1.0),
)


def test_a_line_that_has_room_says_everything():
    assert line(RUNNING, 200) == (
        "[extract] 12,288 of 20,000 pairs (61%), 1,204/s now, 1,150/s overall, 7 s left, 31 rejected, "
        "1.2 GB read (48 MB/s); busy: read 12%, prepare 97%, embed 88%, write 3%: limited by prepare"
    )


def test_a_line_that_has_less_room_keeps_what_matters():
    assert line(RUNNING) == (
        "[extract] 12,288 of 20,000 pairs (61%), 1,204/s now, 7 s left, 31 rejected, 48 MB/s read; "
        "busy: read 12%, prepare 97%, embed 88%, write 3%: limited by prepare"
    )
    assert line(RUNNING, 120) == (
        "[extract] 12,288 of 20,000 pairs (61%), 1,204/s now, 7 s left, 31 rejected; limited by prepare (97% busy)"
    )
    assert line(RUNNING, 60) == "[extract] 12,288 of 20,000 pairs (61%), 7 s left"


@pytest.mark.parametrize("width", [10, 40, 80, 100, 160])
@pytest.mark.parametrize("snapshot", [RUNNING, HUGE], ids=["running", "huge"])
def test_no_line_is_too_long(snapshot, width):
    assert 0 < len(line(snapshot, width)) <= width


def test_what_is_not_known_is_not_said():
    early = Watch("encode", 0, [Stage("read"), Stage("write")], clock=lambda: 0.0).snapshot()
    assert line(early) == "[encode] 0 pairs, 0/s now, 0/s overall"


def test_a_stage_that_rests_is_not_called_the_limit():
    idle = dataclasses.replace(RUNNING, utilisation={"read": 0.2, "write": 0.1}, bottleneck=Bottleneck("read", 0.2))
    assert line(idle, 200).endswith("; busy: read 20%, write 10%")
    assert "limited" not in line(idle, 90)


def test_lines_come_when_it_is_time_and_at_once_when_asked(capsys):
    now = [50.0]
    watch = Watch("extract", 100, [Stage("read")], clock=lambda: now[0])
    progress = WatchProgress(watch, interval_s=2.0)
    said = []
    for _ in range(9):  # half a second each: due after 2 and after 4 of them
        now[0] += 0.5
        watch.add(UnitDone(0, 10, 10))
        said.append(progress.update() is not None)
    assert said == [False, False, False, True, False, False, False, True, False]
    last = progress.update(at_once=True)
    assert last.done == 90
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("[extract] 40 of 100 pairs (40%), 20/s now")
    assert lines[1:] == [lines[1], line(last)]
    assert lines[1].startswith("[extract] 80 of 100")


def test_the_examples_in_words():
    result = doctest.testmod(words)
    assert result.attempted > 0
    assert result.failed == 0
