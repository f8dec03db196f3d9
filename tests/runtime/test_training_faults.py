"""Trainings that lose a worker, their driver or their storage end with the weights of an undisturbed run."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.learning.conftest import FILES, made_rows, write_features
from tests.runtime.conftest import end
from tests.waiting import wait_until
from xhash_ray.errors import BadInput, Mismatch
from xhash_ray.learning.checkpoint import NAME
from xhash_ray.options import Train
from xhash_ray.runtime import training
from xhash_ray.runtime.training import train
from xhash_ray.storage import uri as places
from xhash_ray.storage.artefact import read_artefact

ROWS = sum(count for count, _ in FILES)
XHASH = Path(sys.executable).parent / "xhash"
PATIENCE_S = 900  # the machine may be busy
STARTS = 10  # of a training that may be through before it can be killed, where this process stands still for a while
EPOCHS = 24


@pytest.fixture(autouse=True)
def one_thread():
    """As the programs below: the number of threads decides the order of sums."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def features(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Four files of few rows."""
    return write_features(tmp_path_factory.mktemp("features"), made_rows(ROWS))


def asked(features: str, out: str | Path, **options: Any) -> Train:
    """A training of many short epochs, kept after every step."""
    settings = {"epochs": EPOCHS, "batch_size": 16, "hidden": 16} | options.pop("settings", {})
    given = {
        "method": "jdsh",
        "bits": 16,
        "workers": 0,
        "stream": "always",
        "checkpoint_s": 0.0,
        "settings": settings,
        **options,
    }
    return Train(features=features, out=str(out), **given)


def weights(out: str | Path) -> dict[str, np.ndarray]:
    """Of a finished model."""
    return read_artefact(str(out)).weights


def assert_equal(found: dict[str, np.ndarray], wanted: dict[str, np.ndarray]) -> None:
    """Equal to the last bit."""
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        np.testing.assert_array_equal(found[name], value, err_msg=name)


def assert_near(found: dict[str, np.ndarray], wanted: dict[str, np.ndarray]) -> None:
    """Equal but for the order of sums of two workers."""
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        assert np.linalg.norm(found[name] - value) <= 1e-5 * np.linalg.norm(value), name


def passes_kept(out: str) -> int:
    """Passes that the last checkpoint of a run has behind it, -1 without one."""
    folder = places.join(out, "run")
    if not places.exists(folder):
        return -1
    names = [NAME.match(places.name_of(uri)) for uri in places.list_files(folder, (".safetensors",))]
    return max((int(match[1]) for match in names if match), default=-1)


@pytest.fixture(scope="module")
def undisturbed(features: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, np.ndarray]:
    """The weights of one process, in the lanes of two workers."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    out = tmp_path_factory.mktemp("undisturbed") / "model"
    train(asked(features, out, max_workers=2, checkpoint_s=1000.0))
    torch.set_num_threads(threads)
    return weights(out)


def worker_pids() -> list[int]:
    """Processes of the cluster's training workers."""
    from ray.util.state import list_actors

    found = list_actors(filters=[("state", "=", "ALIVE"), ("class_name", "=", "RayTrainWorker")], detail=True)
    return [actor.pid for actor in found if actor.pid]


class Told:
    """Takes the place of progress lines and writes down which epochs were told."""

    def __init__(self, *_: Any) -> None:
        self.epochs: list[int] = []
        self.seconds = 0.0

    def say(self, text: str) -> None:
        """A line."""

    def step(self, **_: int) -> None:
        """A step of a pass."""

    def epoch(self, epoch: int, report: dict[str, float]) -> None:
        """A finished epoch."""
        self.epochs.append(epoch)


def train_and_kill(options: Train) -> tuple[dict[str, Any], int]:
    """What a training gives of which a worker is killed when some passes are kept, and its pid, 0 for nobody's."""
    killed, over = [0], threading.Event()

    def kill() -> None:
        while not over.wait(0.05) and passes_kept(options.out) < 2:
            pass
        pids = worker_pids()
        if len(pids) == 2 and 2 <= passes_kept(options.out) < EPOCHS:
            os.kill(pids[0], signal.SIGKILL)
            killed[0] = pids[0]

    killer = threading.Thread(target=kill)
    killer.start()
    result = train(options)
    over.set()
    killer.join()
    return result, killed[0]


@pytest.mark.faults
def test_a_worker_killed_in_an_epoch_is_replaced_and_the_weights_are_those_of_an_undisturbed_run(
    ray_cluster, features, undisturbed, monkeypatch
):
    for number in range(STARTS):
        out, told = f"s3://xhash/killed/model-{number}", Told()
        monkeypatch.setattr(training, "TrainingProgress", lambda *_, told=told: told)
        result, killed = train_and_kill(asked(features, out, workers=2))
        if killed:
            break
    assert killed, "every training was through before"
    assert not Path(f"/proc/{killed}").exists()
    assert told.epochs[-1] == EPOCHS - 1
    assert told.epochs.count(0) == 1  # it went on from a checkpoint, not from the start
    assert result["streamed"]
    assert_near(weights(out), undisturbed)
    assert passes_kept(out) == -1


@pytest.mark.faults
def test_one_worker_of_at_most_two_takes_the_steps_of_one_process(ray_cluster, features, undisturbed, tmp_path):
    train(asked(features, tmp_path / "model", workers=1, max_workers=2))
    assert_near(weights(tmp_path / "model"), undisturbed)


def started_workers() -> int:
    """Training workers that the cluster has ever started."""
    from ray.util.state import list_actors

    return len(list_actors(filters=[("class_name", "=", "RayTrainWorker")], limit=10_000))


def test_what_cannot_be_used_is_said_once_and_no_model_is_left(ray_cluster, tmp_path):
    rows = made_rows(ROWS)
    rows.image[:] = 0.5
    constant = write_features(tmp_path / "features", rows)
    before = started_workers()
    with pytest.raises(BadInput, match="scaling image features: all rows are the same") as raised:
        train(asked(constant, tmp_path / "model", workers=2, stream="never"))
    assert "\n" not in str(raised.value)
    assert not (tmp_path / "model" / "model.json").exists()
    wait_until(lambda: started_workers() == before + 2)  # trying again would say the same


def program(*words: str, **variables: str) -> subprocess.Popen[str]:
    """`xhash` as a program in a session of its own, on a Ray of its own."""
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    environment |= {"OMP_NUM_THREADS": "1", "RAY_AUTH_MODE": "disabled", "RAY_worker_niceness": "0", **variables}
    return subprocess.Popen(
        [str(XHASH), *words], env=environment, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        start_new_session=True,
    )  # fmt: skip


def command(options: Train) -> list[str]:
    """The words of a training."""
    words = ["train", "--features", options.features, "--out", options.out]
    words += ["--method", options.method, "--bits", str(options.bits)]
    words += ["--workers", str(options.workers), "--stream", options.stream, "--checkpoint-s", "0"]
    for name, value in options.settings.items():
        words += ["--set", f"settings.{name}={value}"]
    return words


def finished(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Exit code and standard error of a program."""
    try:
        _, said = process.communicate(timeout=PATIENCE_S)
    finally:
        if process.poll() is None:
            end(process)
    return process.returncode, said


def over(process: subprocess.Popen[str]) -> str:
    """Why a program does nothing any more, if so."""
    return "" if process.poll() is None else f"it ended with {process.returncode}"


def killed_on_the_way(options: Train) -> None:
    """Runs a training until some passes are kept, then kills its driver."""
    for _ in range(STARTS):
        process = program(*command(options))
        wait_until(lambda process=process: passes_kept(options.out) >= 2 or over(process), patience_s=PATIENCE_S)
        process.kill()
        assert process.wait(PATIENCE_S) in (0, -signal.SIGKILL)
        process.stderr.close()
        process.stdout.close()
        if not (Path(options.out) / "model.json").exists():
            break
        shutil.rmtree(options.out)
    assert 2 <= passes_kept(options.out) < options.settings["epochs"]
    assert not (Path(options.out) / "model.json").exists()


def test_a_killed_driver_is_continued_by_the_same_command_and_by_no_other(features, tmp_path):
    train(asked(features, tmp_path / "undisturbed"))
    options = asked(features, tmp_path / "model")
    killed_on_the_way(options)
    other = asked(features, tmp_path / "other", settings={"epochs": 3})
    shutil.copytree(options.out, other.out)
    with pytest.raises(Mismatch, match="a checkpoint with settings = "):
        train(other)
    train(asked(features, other.out, settings={"epochs": 3}, overwrite=True))
    train(asked(features, tmp_path / "three", settings={"epochs": 3}))
    assert_equal(weights(other.out), weights(tmp_path / "three"))
    code, said = finished(program(*command(options)))
    assert code == 0, said
    assert "continuing from state-" in said
    assert_equal(weights(options.out), weights(tmp_path / "undisturbed"))
    epochs = [line.split(",")[0] for line in (tmp_path / "model" / "run" / "epochs.csv").read_text().splitlines()]
    assert epochs == ["epoch", *(str(number + 1) for number in range(EPOCHS))]


@pytest.mark.faults
def test_a_killed_driver_of_its_own_ray_is_continued_by_the_same_command(features, tmp_path):
    train(asked(features, tmp_path / "undisturbed"))
    options = asked(features, tmp_path / "model", workers=1)
    killed_on_the_way(options)
    code, said = finished(program(*command(options)))
    assert code == 0, said
    assert "continuing from state-" in said
    assert_equal(weights(options.out), weights(tmp_path / "undisturbed"))


class Gate:
    """A door before a server: shut, it cuts every connection and refuses new ones."""

    def __init__(self, port: int) -> None:
        self.target = ("127.0.0.1", port)
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.open, self.connections = True, []
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self) -> None:
        """Joins every caller with the server."""
        while True:
            try:
                caller, _ = self.listener.accept()
            except OSError:
                return
            if not self.open:
                caller.close()
                continue
            server = socket.create_connection(self.target)
            self.connections += [caller, server]
            for ends in ((caller, server), (server, caller)):
                threading.Thread(target=self.carry, args=ends, daemon=True).start()

    @staticmethod
    def carry(source: socket.socket, sink: socket.socket) -> None:
        """Carries bytes one way until either end is closed."""
        try:
            while data := source.recv(65536):
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    def shut(self) -> None:
        """The server is gone."""
        self.open = False
        for connection in self.connections:
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue
        self.connections.clear()


@pytest.fixture
def gate(s3_endpoint: str) -> Iterator[Gate]:
    """A door before the S3 server."""
    door = Gate(int(s3_endpoint.rsplit(":", 1)[1]))
    yield door
    door.shut()
    door.listener.close()


@pytest.mark.faults
def test_a_store_that_goes_away_is_said_in_a_line_and_the_training_is_continued_when_it_is_back(
    gate, features, tmp_path
):
    for path in sorted(Path(features).iterdir()):
        places.write_bytes(f"s3://xhash/gone/features/{path.name}", path.read_bytes())
    train(asked(features, tmp_path / "undisturbed"))
    options = asked("s3://xhash/gone/features", "s3://xhash/gone/model")
    through = {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{gate.port}"}
    process = program(*command(options), **through)
    wait_until(lambda: passes_kept(options.out) >= 1, lambda: over(process), PATIENCE_S)
    gate.shut()
    code, said = finished(process)
    assert code == 1, said
    assert "Traceback" not in said
    assert said.splitlines()[-1].startswith("xhash: ")
    assert "s3://xhash/gone/" in said.splitlines()[-1]
    assert not places.exists(f"{options.out}/model.json")
    gate.open = True
    code, said = finished(program(*command(options), **through))
    assert code == 0, said
    assert "continuing from state-" in said
    assert_equal(weights(options.out), weights(tmp_path / "undisturbed"))
