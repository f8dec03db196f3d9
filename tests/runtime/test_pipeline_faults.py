"""Drivers, workers and nodes are killed 30 times under one extraction (pipeline_faults.py): the result is the same."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.faults
KILLS = 30


@pytest.fixture(scope="module")
def seen(tmp_path_factory):
    """What happened."""
    folder = tmp_path_factory.mktemp("killed")
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    command = [sys.executable, "-m", "tests.runtime.pipeline_faults", str(folder), str(KILLS), "3"]
    ended = subprocess.run(
        command,
        env={**environment, "RAY_AUTH_MODE": "disabled"},
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=1500,
    )
    assert ended.returncode == 0, ended.stderr[-3000:]
    return json.loads(ended.stdout.splitlines()[-1])


def test_thirty_times_something_was_killed_of_every_kind(seen):
    assert not seen["ended_before_all_kills"]
    assert sum(seen["killed"].values()) == KILLS
    assert min(seen["killed"].values()) >= 3


def test_the_features_equal_those_of_an_undisturbed_run_byte_for_byte(seen):
    assert seen["exit_code"] == 0, seen["result"]
    assert seen["equal"]


def test_later_starts_went_on_where_earlier_ones_were_killed(seen):
    assert 0 < seen["result"]["done_before"] < seen["result"]["pairs"] == seen["result"]["input_pairs"]
