"""What other processes use is read from where the system writes it."""

import subprocess
import sys
import time

from xhash_ray.benchmarks.processes import cpu_s, pids_of, resident_bytes

TITLE = "a-title-that-no-other-process-has"
WORK = "held = bytearray(50_000_000); print(flush=True); [i * i for i in range(10**9)]"


def test_a_process_is_found_by_its_title_and_seen_at_work():
    assert pids_of(TITLE) == []
    worker = subprocess.Popen([sys.executable, "-c", WORK, TITLE], stdout=subprocess.PIPE)
    try:
        assert worker.stdout is not None
        worker.stdout.readline()
        assert pids_of(TITLE) == [worker.pid]
        assert resident_bytes(worker.pid) > 50_000_000
        before_s = cpu_s(worker.pid)
        while cpu_s(worker.pid) < before_s + 0.02:
            time.sleep(0.01)
    finally:
        worker.kill()
        worker.communicate()
    assert pids_of(TITLE) == []


def test_of_this_process():
    before = resident_bytes()
    held = bytearray(80_000_000)
    held[::4096] = b"1" * len(held[::4096])
    assert resident_bytes() - before > 70_000_000
