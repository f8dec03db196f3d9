"""The commands as a person runs them: exit codes, one clear line, JSON last; jobs; object storage."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from tests.conftest import REPOSITORY
from tests.ports import free_port
from tests.runtime.conftest import RAY_BIN

XHASH = Path(sys.executable).parent / "xhash"
TIMEOUT_S = 900


def xhash(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(XHASH), *arguments],
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        env={**os.environ, **environment},
        check=False,
    )


def last_json(done: subprocess.CompletedProcess[str]) -> dict:
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.strip().splitlines()[-1])


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["train"], 2, ["'features' is missing", "--features"]),
        (["train", "--featurs", "x"], 2, ["--featurs", "Did you mean 'features'"]),
        (
            ["train", "--features", "x", "--out", "y", "--set", "bitz=3"],
            2,
            ["unknown option 'bitz'", "'bits'"],
        ),
        (["train", "--features", "x", "--out", "y", "--bits", "many"], 2, ["--bits", "int"]),
        (["frobnicate"], 2, ["frobnicate"]),
        (["evaluate", "--queries", "/nowhere", "--database", "/nowhere"], 2, ["/nowhere", "no such file"]),
        (["serve", "--index", "/nowhere", "--port", "99999"], 2, ["99999"]),
        (["query", "--text", "x", "--url", "http://127.0.0.1:9"], 1, ["no answer"]),
        (["train", "--config", "/nowhere.toml"], 2, ["/nowhere.toml", "No such file"]),
    ],
)
def test_bad_usage_is_one_clear_line(arguments, code, words):
    done = xhash(*arguments)
    assert done.returncode == code
    line = done.stderr.strip().splitlines()[-1]
    assert line.startswith("xhash")
    assert "Traceback" not in done.stderr
    for word in words:
        assert word in line


def test_the_demonstration_runs_on_a_ray_of_its_own(tmp_path):
    out = tmp_path / "demo"
    done = xhash("demo", "--out", str(out), "--pairs", "300", "--port", str(free_port()), RAY_ADDRESS="")
    result = last_json(done)
    assert (result["pairs"], result["bits"], result["shards"], result["code_bytes_per_pair"]) == (300, 64, 4, 16)
    assert result["queries"] + result["database"] < 300
    for direction in ("image_to_text", "text_to_image"):
        assert result["chance"] / 2 < result["map_codes"][direction] <= 1
    assert "MAP@all, text finds image" in done.stdout
    with Image.open(result["contact_sheet"]) as sheet:
        assert sheet.width > 600


def test_a_job_is_submitted_to_a_real_head(run, head, demo_root):
    command = [
        str(RAY_BIN), "job", "submit", "--address", head.dashboard, "--working-dir", str(REPOSITORY),
        "--", "python", "jobs/train.py", "--config", "jobs/recipes/demo.toml",
        "--set", "bits=16", "--set", "settings.epochs=2", "--set", f"out={demo_root}/job-model", "--json",
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, cwd=REPOSITORY, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    result = next(json.loads(line) for line in reversed(done.stdout.splitlines()) if line.startswith("{"))
    assert (result["bits"], result["method"], result["out"]) == (16, "dfrh", f"{demo_root}/job-model")
    assert len(list((demo_root / "job-model").glob("model-*.safetensors"))) == 1


def test_a_missing_bucket_is_said(run):
    done = xhash("evaluate", "--queries", "s3://no-such-bucket/codes", "--database", "s3://no-such-bucket/codes")
    assert done.returncode == 2
    assert "s3://no-such-bucket/codes" in done.stderr
    assert "no such file, folder or bucket" in done.stderr


def test_metrics_of_a_run_are_written_for_prometheus(run, tmp_path):
    path = tmp_path / "stage.prom"
    last_json(xhash("evaluate", "--queries", run.codes, "--database", run.codes, "--json", "--metrics-file", str(path)))
    assert 'xhash_stage_seconds{stage="evaluate"}' in path.read_text()
