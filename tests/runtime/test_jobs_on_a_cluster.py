"""The jobs as users run them, on three raylets with S3: each is killed in the middle, given again, and nobody can tell.

    ray job submit --working-dir . -- python jobs/extract.py --config jobs/recipes/demo.toml

The pipeline also runs undisturbed, elsewhere on S3. Features, codes and index must agree in the digest of every file,
the model in its fingerprint, the evaluation in every figure.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.conftest import REPOSITORY
from tests.runtime.conftest import RAY_BIN
from tests.waiting import wait_until
from xhash_ray.index import generations
from xhash_ray.runtime.local import processes as local_processes
from xhash_ray.runtime.local.cluster import LocalCluster
from xhash_ray.storage import tables
from xhash_ray.storage import uri as places
from xhash_ray.storage.artefact import read_facts

pytestmark = pytest.mark.faults
RECIPE, BUCKET = "jobs/recipes/demo.toml", "xhash"
PAIRS, PATIENCE_S = 400, 900.0
ENDED = ("SUCCEEDED", "FAILED", "STOPPED")


class Stage(NamedTuple):
    """A stage, and when to kill it.

    Attributes:
        verb: Of `xhash`.
        script: Below jobs/.
        settings: What differs from the recipe: small, in many steps to be killed between.
        sign: Part of the keys on S3 that tell how far it is; "" for a stage that writes nothing on its way.
        enough: How many of them there must be.
        harm: "kill", the driver's process; or "stop", as `ray job stop` asks for.
    """

    verb: str
    script: str
    settings: dict[str, Any]
    sign: str = ""
    enough: int = 0
    harm: str = "kill"


UNITS = {"rows_per_unit": 20, "actors": 2}
NO_GATES = {"gates": "{}", "held_out": ""}  # they ask for more pairs than there are
STAGES = (
    Stage("extract", "extract.py", UNITS, "/features/_log/[^/]+/units/", 4),
    Stage(
        "train",
        "train.py",
        {"method": "jdsh", "settings.epochs": 20, "bits": 32},
        "/model/run/.*safetensors",
        1,
        "stop",
    ),
    Stage("encode", "encode.py", UNITS, "/codes/_log/[^/]+/units/", 4),
    Stage("index build", "build_index.py", NO_GATES, "/index/building/", 1),
    Stage("evaluate", "evaluate.py", {}),
)
OFTEN = {"train": {"checkpoint_s": 0.0}}  # of the run that is killed: kept after every step


def options(stage: Stage, killed: bool) -> list[str]:
    """The words that a stage is asked with: the same for every attempt."""
    settings = stage.settings | (OFTEN.get(stage.verb, {}) if killed else {})
    given = [word for name, value in settings.items() for word in ("--set", f"{name}={value}")]
    return ["--config", RECIPE, *given, "--json"]


@pytest.fixture(scope="module")
def cluster(s3_endpoint: str, tmp_path_factory) -> Iterator[LocalCluster]:
    """A head that only directs, and two workers."""
    folder = str(tmp_path_factory.mktemp("jobs"))
    with LocalCluster.start(folder, workers=2, cpus=4, head_cpus=0, object_store_mb=200) as running:
        yield running


ONE_AFTER_ANOTHER = """
import json, sys
from xhash_ray.cli import main
for words in json.loads(sys.argv[1]):
    code = main(words)
    if code:
        sys.exit(code)
"""


@pytest.fixture(scope="module")
def undisturbed(cluster: LocalCluster) -> dict[str, dict[str, Any]]:
    """Corpus, CLIP weights and all stages in one process; what each stage said in the end, by verb."""
    corpus = ["corpus", "demo", "--config", RECIPE, "--set", f"pairs={PAIRS}", "--json"]
    clip = ["pretrain", "--config", RECIPE, "--set", "settings.epochs=2", "--json"]
    words = [corpus, clip, *([*stage.verb.split(), *options(stage, killed=False)] for stage in STAGES)]
    environment = {**os.environ, "RAY_ADDRESS": cluster.address, "RAY_AUTH_MODE": "disabled", **variables("calm")}
    command = [sys.executable, "-c", ONE_AFTER_ANOTHER, json.dumps(words)]
    given = {"cwd": REPOSITORY, "env": environment, "capture_output": True, "text": True}
    done = subprocess.run(command, timeout=PATIENCE_S, check=False, **given)
    assert done.returncode == 0, done.stderr[-3000:]
    said = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    return dict(zip(("corpus", "pretrain", *(stage.verb for stage in STAGES)), said, strict=True))


def variables(run: str) -> dict[str, str]:
    """Where the recipe reads and writes."""
    return {"XHASH_DEMO": f"s3://{BUCKET}/jobs/{run}"}


def keys(endpoint: str, prefix: str) -> list[str]:
    """Objects on S3, unless there are more than a thousand."""
    with urllib.request.urlopen(f"{endpoint}/{BUCKET}?list-type=2&prefix={prefix}", timeout=60) as answer:
        return re.findall("<Key>([^<]+[^/<])</Key>", answer.read().decode())  # no marks of folders


class Attempt:
    """One `ray job submit` in a process of its own."""

    def __init__(self, cluster: LocalCluster, stage: Stage, number: int, log: Path) -> None:
        self.cluster, self.stage, self.log = cluster, stage, log
        self.job = f"{stage.script.removesuffix('.py')}-{number}"
        words = [
            str(RAY_BIN), "job", "submit", "--address", cluster.dashboard, "--submission-id", self.job,
            "--runtime-env-json", json.dumps({"env_vars": variables("killed")}), "--working-dir", ".",
            "--", "python", f"jobs/{stage.script}", *options(stage, killed=True),
        ]  # fmt: skip
        where = {"RAY_AUTH_MODE": "disabled", "RAY_ADDRESS": cluster.dashboard}  # which beats --address
        environment = {**os.environ, **where}
        self.process = local_processes.spawn(words, log, environment, REPOSITORY)

    def status(self) -> str:
        """What the cluster says of the job."""
        with contextlib.suppress(OSError):
            return str(self.cluster.get(f"/api/jobs/{self.job}")["status"])
        return "UNKNOWN"

    def drivers(self) -> list[int]:
        """Processes of the job's script."""
        found = []
        for pid in local_processes.marked(self.cluster.settings.token, "head"):
            with contextlib.suppress(OSError):
                words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
                if f"jobs/{self.stage.script}".encode() in words:
                    found.append(pid)
        return found

    def harm(self) -> None:
        """Kills the driver, or has the job stopped."""
        if self.stage.harm == "kill":
            for pid in self.drivers():
                os.kill(pid, signal.SIGKILL)
            return
        url = f"{self.cluster.dashboard}/api/jobs/{self.job}/stop"
        urllib.request.urlopen(urllib.request.Request(url, method="POST"), timeout=60).close()

    def ended(self) -> str:
        """Waits until the job and its submission are over; the job's status."""
        self.process.wait(PATIENCE_S)
        wait_until(lambda: self.status() in ENDED, patience_s=PATIENCE_S)
        return self.status()


def test_every_job_is_killed_in_the_middle_and_given_again(cluster, undisturbed, s3_endpoint, tmp_path):
    copy_inputs(s3_endpoint)
    results = {}
    for stage in STAGES:
        log = tmp_path / stage.script
        first = Attempt(cluster, stage, 1, log)
        wait_until(lambda: is_far_enough(first, s3_endpoint), lambda: over(first), PATIENCE_S)  # noqa: B023
        first.harm()
        assert first.ended() in ("FAILED", "STOPPED"), f"{stage.verb} was over before it was killed"
        second = Attempt(cluster, stage, 2, log)
        assert second.ended() == "SUCCEEDED", log.read_text()[-3000:]
        said = log.read_text()
        results[stage.verb] = next(json.loads(line) for line in reversed(said.splitlines()) if line.startswith("{"))
        if stage.verb == "index build":
            assert "going on: " in said
    for verb in ("extract", "encode"):
        assert 0 < results[verb]["done_before"] < PAIRS
    for measured in ("map", "chance", "queries", "database"):
        assert results["evaluate"][measured] == undisturbed["evaluate"][measured]


def is_far_enough(attempt: Attempt, endpoint: str) -> bool:
    """Whether a job is in the middle of its work."""
    if not attempt.stage.sign:
        return bool(attempt.drivers())
    found = [key for key in keys(endpoint, "jobs/killed/") if re.search(attempt.stage.sign, key)]
    return len(found) >= attempt.stage.enough


def over(attempt: Attempt) -> str:
    """Why a job can no longer be killed in the middle; "" while it can."""
    return f"{attempt.job} ended first: {attempt.log.read_text()[-3000:]}" if attempt.process.poll() is not None else ""


def copy_inputs(endpoint: str) -> None:
    """Corpus and weights of the undisturbed run, for the other."""
    for key in keys(endpoint, "jobs/calm/corpus") + keys(endpoint, "jobs/calm/clip"):
        content = places.read_bytes(f"s3://{BUCKET}/{key}")
        places.write_bytes(f"s3://{BUCKET}/{key.replace('/calm/', '/killed/')}", content)


@pytest.mark.parametrize("folder", ["features", "codes"])
def test_every_file_has_the_digest_of_the_undisturbed_run(cluster, folder):
    calm, killed = (digests(f"s3://{BUCKET}/jobs/{run}/{folder}") for run in ("calm", "killed"))
    assert len(calm) > 10
    assert killed == calm


def digests(uri: str) -> list[tuple[int, str]]:
    """Rows and SHA-256 of every file of a finished folder."""
    manifest = places.read_json(places.join(uri, tables.MANIFEST))
    return sorted((entry["rows"], entry["sha256"]) for entry in manifest["files"])


def test_the_model_has_the_fingerprint_of_the_undisturbed_run(cluster):
    calm, killed = (read_facts(f"s3://{BUCKET}/jobs/{run}/model") for run in ("calm", "killed"))
    assert killed["fingerprint"] == calm["fingerprint"]


def test_the_index_holds_what_that_of_the_undisturbed_run_holds(cluster):
    calm, killed = (segments(f"s3://{BUCKET}/jobs/{run}/index") for run in ("calm", "killed"))
    assert len(calm) == 4
    assert killed == calm


def segments(uri: str) -> list[tuple[int, int, dict[str, str]]]:
    """Shard, rows and digests of every segment."""
    found = generations.current(uri).segments
    return sorted((each.shard, each.rows, dict(each.codes_sha256)) for each in found)
