"""Parts of an endpoint on several nodes are killed, and generations swapped, while it is asked (faults.py)."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.faults
SWAPS = ("another model", "pairs added", "rolled back")
SPARED = ("replica", "controller")  # where another copy answers, nobody notices
KILLED = ("node", "encoder", "gateway")
NOTICED = ("Ask again", "no answer", "still loading")


@pytest.fixture(scope="module")
def phases(tmp_path_factory):
    """What every phase saw."""
    folder = tmp_path_factory.mktemp("faults")
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    command = [sys.executable, "-m", "tests.runtime.faults", str(folder)]
    ended = subprocess.run(
        command,
        env={**environment, "RAY_AUTH_MODE": "disabled"},
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert ended.returncode == 0, ended.stderr[-3000:]
    return json.loads(ended.stdout.splitlines()[-1])


@pytest.mark.parametrize("name", [*SWAPS, *SPARED, *KILLED])
def test_nobody_is_ever_told_what_is_wrong_and_full_service_comes_back(phases, name):
    seen = phases[name]
    assert seen["recovered"], seen
    assert seen["answers"] > 10
    assert seen["wrong"] == 0
    assert seen["full_service_after_s"] < 60


@pytest.mark.parametrize(("name", "generations"), list(zip(SWAPS, ([1, 2], [2, 3], [3, 4]), strict=True)))
def test_swaps_under_load_refuse_nobody(phases, name, generations):
    seen = phases[name]
    assert (seen["refused"], seen["incomplete"], seen["errors"]) == (0, 0, [])
    assert seen["generations"] == generations


@pytest.mark.parametrize("name", SPARED)
def test_a_copy_that_dies_is_not_missed(phases, name):
    assert phases[name]["refused"] <= 1, "at most the one that was under way"


@pytest.mark.parametrize("name", KILLED)
def test_who_is_refused_is_told_to_ask_again(phases, name):
    assert all(any(said in error for said in NOTICED) for error in phases[name]["errors"])
    assert phases[name]["generations"] == [4], "a new gateway serves what the old one did"
