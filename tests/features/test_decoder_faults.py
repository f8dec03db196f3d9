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
from xhash_ray.features.arena import CHUNK_BYTES
from xhash_ray.features.decoding import Decoder
from xhash_ray.features.faults import Fault

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


def bad_decoder(timeout_s: float = 20.0, **options) -> Decoder:
    return Decoder({"size": 16}, timeout_s, work=WORK, **options)


def alive(process: int) -> bool:
    """Whether a process runs; one that only waits to be reaped does not."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def wait_for(what, limit_s: float = 20.0) -> bool:
    """Waits until something is true."""
    end_s = time.monotonic() + limit_s
    while not what() and time.monotonic() < end_s:
        time.sleep(0.01)
    return what()


@pytest.mark.parametrize(
    ("deed", "fault"),
    [
        (b"hang", Fault("timeout", "decoding took more than 1.5 s")),
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
    with bad_decoder(1.5 if deed == b"hang" else 20.0, memory_limit=2**28) as decoder:
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


def test_the_time_limit_is_each_pictures_own():
    with bad_decoder(1.5) as decoder:
        found = decoder.decode([b"sleep:0.6", b"sleep:0.6", b"sleep:0.6", b"sleep:9", SHADES[1]])
    assert found.kept == [0, 1, 2, 4]
    assert found.errors[3].kind == "timeout"


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


def test_a_stopped_process_is_one_that_takes_too_long():
    with bad_decoder(1.0) as decoder:
        running = decoder.begin([SHADES[1], b"sleep:0.3", SHADES[2]])
        assert wait_for(lambda: decoder.arena.working_on == 2)
        os.kill(decoder.started().process.pid, signal.SIGSTOP)
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


def test_closing_ends_the_process_at_once():
    decoder = bad_decoder(600)
    decoder.begin([b"hang"])
    process = decoder.started().process
    assert wait_for(lambda: decoder.arena.working_on != 0)
    before_s = time.monotonic()
    decoder.close()
    assert process.returncode == -signal.SIGIO
    assert time.monotonic() - before_s < 4


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
    assert wait_for(lambda: not alive(process), 5.0)


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
