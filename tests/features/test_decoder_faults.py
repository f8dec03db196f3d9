"""What a picture does to the decoder's process costs that picture; what happens to processes costs nothing."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from tests.features.pictures import plain
from xhash_ray.errors import XhashError
from xhash_ray.features import decoder_child
from xhash_ray.features.arena import CHUNK_BYTES
from xhash_ray.features.decoder_child import Child
from xhash_ray.features.decoding import Decoder
from xhash_ray.features.faults import Fault

PATIENCE_S = 120.0
WORK = "tests.features.works:misbehave"
SHADES = [plain(shade) for shade in range(6)]
ORPHAN = f"""
import sys
from xhash_ray.features.decoding import Decoder
decoder = Decoder({{"size": 16}}, 600, work="{WORK}")
decoder.decode([])
run = decoder.begin([sys.argv[1].encode()]) if sys.argv[1] else None
print(decoder.started().process.pid, flush=True)
run.finish() if run else sys.stdin.read()
"""


def bad_decoder(timeout_s: float = PATIENCE_S, **options) -> Decoder:
    return Decoder({"size": 16}, timeout_s, work=WORK, **options)


def alive(process: int) -> bool:
    """Whether a process runs; one that only waits to be reaped does not."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def wait_for(what, limit_s: float = PATIENCE_S) -> bool:
    """Waits until something is true."""
    end_s = time.monotonic() + limit_s
    while not what() and time.monotonic() < end_s:
        time.sleep(0.01)
    return what()


@pytest.mark.parametrize(
    ("deed", "fault"),
    [
        (b"segfault", Fault("crash", "the decoder died of SIGSEGV")),
        (b"exit:3", Fault("crash", "the decoder ended with exit code 3")),
        (b"exit:0", Fault("crash", "the decoder ended with exit code 0")),
        (b"quit:4", Fault("crash", "the decoder ended with exit code 4")),
        (b"short", Fault("crash", "the decoder ended with exit code 1")),
        (b"hoard", Fault("crash", "the decoder ran out of memory")),
        (b"killed", Fault("crash", "the decoder died of SIGKILL")),
    ],
)
def test_only_the_guilty_is_blamed(deed, fault):
    contents = [SHADES[0], SHADES[1], deed, SHADES[2], b"text", SHADES[3], deed, SHADES[4]]
    with bad_decoder(memory_limit=2**28) as decoder:
        found = decoder.decode(contents)
        again = decoder.decode([SHADES[5]])
    assert found.kept == [0, 1, 3, 5, 7]
    assert found.pixels[:, 0, 0, 0].tolist() == [0, 1, 2, 3, 4]
    assert found.errors[2] == found.errors[6] == fault
    assert found.errors[4].kind == "wrong type"
    assert again.pixels[0, 0, 0, 0] == 5


def test_one_killed_from_outside_is_tried_once_more(tmp_path):
    with bad_decoder() as decoder:
        found = decoder.decode([SHADES[1], b"killed once:" + os.fsencode(tmp_path), SHADES[2]])
    assert found.errors == {}
    assert found.pixels[:, 0, 0, 0].tolist() == [1, 0, 2]


class Impatient(Decoder):
    """One whose first process has half a second a picture, and every other all the time it wants."""

    hurried = None

    @property
    def timeout_s(self) -> float:
        return 0.5 if self.child is not None and self.child is self.hurried else PATIENCE_S

    @timeout_s.setter
    def timeout_s(self, _: float) -> None:
        """Stays as it is."""


def test_a_picture_that_takes_too_long_is_the_only_one_blamed():
    with Impatient({"size": 16}, work=WORK) as decoder:
        running = decoder.begin([SHADES[0], SHADES[1], b"hang", SHADES[2], b"text", SHADES[3]])
        assert wait_for(lambda: decoder.arena.working_on == 3)
        decoder.hurried = decoder.started()  # nobody else is at work there any more
        found = running.finish()
        again = decoder.decode([SHADES[5]])
    assert found.kept == [0, 1, 3, 5]
    assert found.pixels[:, 0, 0, 0].tolist() == [0, 1, 2, 3]
    assert found.errors[2] == Fault("timeout", "decoding took more than 0.5 s")
    assert found.errors[4].kind == "wrong type"
    assert again.pixels[0, 0, 0, 0] == 5


class Pretended:
    """The clock, the arena and the news of a process that takes so many seconds for every picture in turn."""

    def __init__(self, *takes_s: float) -> None:
        self.ends_s = [1000.0 + sum(takes_s[:n]) for n in range(len(takes_s) + 1)]
        self.now_s = 1000.0

    def monotonic(self) -> float:
        return self.now_s

    @property
    def working_on(self) -> int:
        return sum(end_s <= self.now_s for end_s in self.ends_s)

    @property
    def since(self) -> float:
        return self.ends_s[self.working_on - 1]

    def poll(self, wait_ms: float) -> bool:
        self.now_s = min(self.now_s + wait_ms / 1000, self.ends_s[-1])
        return self.now_s == self.ends_s[-1]

    def read(self, _: int) -> bytes:
        return b"done"

    def kill(self) -> None:
        self.ends_s = self.ends_s[: self.working_on]


@pytest.mark.parametrize(
    ("takes_s", "overdue"),
    [((0.6,) * 9, 0), ((1.4, 1.4), 0), ((0.6, 0.6, 9.0, 0.6), 3), ((9.0,), 1), ((1.4, 1.6), 2)],
)
def test_the_time_limit_is_each_pictures_own(monkeypatch, takes_s, overdue):
    pretended, child = Pretended(*takes_s), Child.__new__(Child)
    monkeypatch.setattr(decoder_child, "time", pretended)
    child.arena, child.news, child.answers, child.process, child.overdue = *[pretended] * 4, 0
    assert child.answered(1.5) == (overdue == 0)
    assert child.overdue == overdue
    if overdue:
        assert pretended.now_s - pretended.since == pytest.approx(1.5)


def test_all_may_be_guilty():
    with bad_decoder() as decoder:
        found = decoder.decode([b"segfault"] * 3)
    assert found.kept == []
    assert {fault.kind for fault in found.errors.values()} == {"crash"}


def test_a_process_killed_between_two_calls_is_replaced():
    with bad_decoder() as decoder:
        decoder.decode(SHADES)
        first = decoder.started().process
        first.kill()
        found = decoder.decode(SHADES)
        assert decoder.started().process.pid != first.pid
    assert found.errors == {}
    assert found.pixels[:, 0, 0, 0].tolist() == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize("moment_s", [0.0, 0.003, 0.03, 0.1])
def test_a_process_killed_while_it_is_fed_is_replaced(moment_s):
    contents = [SHADES[i % 6] + bytes(50_000) for i in range(5 * CHUNK_BYTES // 50_000)]
    with bad_decoder() as decoder:
        decoder.decode(SHADES)
        running = decoder.begin(contents)
        time.sleep(moment_s)
        decoder.started().process.kill()
        found = running.finish()
    assert found.errors == {}
    assert np.array_equal(found.pixels[:, 0, 0, 0], np.arange(len(contents)) % 6)


def test_a_stopped_process_is_one_that_takes_too_long(tmp_path):
    go = tmp_path / "go"
    with Impatient({"size": 16}, work=WORK) as decoder:
        running = decoder.begin([SHADES[1], b"until:" + os.fsencode(go), SHADES[2]])
        assert wait_for(lambda: decoder.arena.working_on == 2)
        decoder.hurried = decoder.started()
        os.kill(decoder.hurried.process.pid, signal.SIGSTOP)
        go.touch()
        found = running.finish()
    assert found.kept == [0, 2]
    assert found.errors[1].kind == "timeout"


def test_what_was_not_finished_is_dropped():
    with bad_decoder() as decoder:
        decoder.begin([b"hang", SHADES[1]])
        assert decoder.decode([SHADES[2]]).pixels[0, 0, 0, 0] == 2


@pytest.mark.parametrize("work", ["tests.features.works:missing", "no.such.module:work"])
def test_a_decoder_that_cannot_start_says_why(work):
    with (
        Decoder({"size": 16}, work=work) as decoder,
        pytest.raises(XhashError, match=r"starting a decoder of pictures: it died 3 times; .*(missing|no)"),
    ):
        decoder.decode(SHADES)


def test_closing_ends_the_process_at_once(monkeypatch):
    monkeypatch.setattr(decoder_child, "END_LIMIT_S", 600.0)  # after which it would be killed
    decoder = bad_decoder(600)
    decoder.begin([b"hang"])
    process = decoder.started().process
    assert wait_for(lambda: decoder.arena.working_on != 0)
    decoder.close()
    assert process.returncode == -signal.SIGIO


def test_a_forgotten_decoder_ends_too():
    decoder = bad_decoder()
    decoder.decode(SHADES)
    process = decoder.started().process.pid
    del decoder
    assert wait_for(lambda: not alive(process))


@pytest.mark.parametrize("deed", ["", "hang", "sleep:600"])
def test_a_process_dies_with_its_parent(deed):
    with subprocess.Popen(
        [sys.executable, "-c", ORPHAN, deed], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        process = int(parent.stdout.readline())
        assert alive(process)
        parent.kill()
        parent.wait()
    assert wait_for(lambda: not alive(process))


def test_a_process_outlives_the_thread_that_started_it():
    with bad_decoder() as decoder:
        thread = threading.Thread(target=lambda: decoder.decode(SHADES))
        thread.start()
        thread.join()
        first = decoder.started().process
        time.sleep(0.05)
        assert decoder.decode(SHADES).errors == {}
        assert decoder.started().process is first
        assert first.poll() is None
