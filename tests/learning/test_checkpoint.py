"""Checkpoints: a training stopped anywhere and continued takes the steps it would have taken, bit for bit."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from tests.learning.conftest import CLASSES, IMAGE_LENGTH, TEXT_LENGTH, made_rows
from xhash_ray import methods
from xhash_ray.errors import Mismatch, XhashError
from xhash_ray.learning import checkpoint
from xhash_ray.learning.checkpoint import FACTS, Checkpoints, load_into, state_of
from xhash_ray.learning.loop import Loop, Training, schedule
from xhash_ray.learning.sources import Position, Resident
from xhash_ray.methods.base import Batch, Method, Settings, Shape, TrainingPairs, World

SHAPE = Shape(16, IMAGE_LENGTH, TEXT_LENGTH, CLASSES)
BATCH, STEPS, EPOCHS, SEED = 16, 3, 2, 9
SMALL = {"epochs": EPOCHS, "batch_size": BATCH, "hidden": 32}  # for methods that have such a setting
SMALL |= {"semantic": 16, "label_passes": 3, "image_passes": 3, "text_passes": 3}
LOOKED_AT = 5  # positions of a method; of the one below all
IDENTITY = {"method": "some", "bits": 16, "settings": {"epochs": 2}, "seed": 9}

every_method = pytest.mark.parametrize("name", methods.available())


class Everything(Method):
    """A method with whatever there may be: two phases in two passes, momenta, a memory, draws, schedules."""

    phases = ("first", "second")

    def __init__(self, settings: Any = Settings(epochs=3, batch_size=BATCH)) -> None:  # noqa: B008
        super().__init__(SHAPE, settings)
        self.nets = torch.nn.ModuleDict({phase: torch.nn.Linear(IMAGE_LENGTH, 16) for phase in self.phases})
        self.register_buffer("ends", torch.zeros(()))
        self.noise = torch.zeros(())

    def prepare(self, pairs: TrainingPairs, seed: int) -> None:
        super().prepare(pairs, seed)
        self.register_buffer("memory", torch.zeros(pairs.total, 16), persistent=False)

    def passes(self, epoch: int) -> tuple[tuple[str, ...], ...]:
        return (("first", "second"), ("second",))

    def start_epoch(self, epoch: int) -> None:
        self.noise = torch.rand(())

    def end_epoch(self, epoch: int, world: World) -> None:
        self.ends += torch.rand(())

    def optimizer_of(self, phase: str) -> torch.optim.Optimizer:
        parameters = self.nets[phase].parameters()
        if phase == "first":
            return torch.optim.SGD(parameters, lr=0.1, momentum=0.9)
        return torch.optim.Adam(parameters, lr=0.01)

    def learning_rates(self, epoch: int, number: int) -> dict[str, float]:
        return {"first": 0.1 / (epoch + 1)} if number == 0 else {}

    def forward(self, batch: Batch, phase: str, world: World) -> dict[str, torch.Tensor]:
        outputs = self.nets[phase](self.scale_image(batch.image)) * (torch.rand(len(batch.image), 1) > 0.2)
        wanted = self.memory[batch.rows] + self.noise + self.ends
        return {"error": (outputs - wanted).square().mean()}

    def after_step(self, batch: Batch, phase: str, world: World) -> None:
        self.memory[batch.rows] = 0.5 * self.nets[phase](self.scale_image(batch.image))


def created(name: str) -> Method:
    """A method with fixed first weights."""
    torch.manual_seed(5)
    if name == "everything":
        return Everything()
    known = {field.name for field in dataclasses.fields(methods.load(name).settings_type)}
    return methods.create(name, SHAPE, {key: value for key, value in SMALL.items() if key in known})


def source() -> Resident:
    """Three batches of pairs."""
    rows = made_rows(BATCH * STEPS)
    image, text, labels = (torch.from_numpy(array) for array in (rows.image, rows.text, rows.labels))
    return Resident(image, text, labels.float(), BATCH, SEED, World())


class Stopped(Exception):
    """What stops a training, as a lost machine would."""


class Once:
    """Continues from one named checkpoint and keeps none."""

    def __init__(self, folder: Path, name: str | None) -> None:
        self.folder, self.name = folder, name

    def restore(self, training: Training) -> None:
        if self.name:
            load_into(training, *kept_in(self.folder).read(self.name))

    def offer(self, training: Training, force: bool = False) -> None:
        pass


def kept_in(folder: Path, interval_s: float = 0.0, **identity: Any) -> Checkpoints:
    """Checkpoints in a folder, one after every step."""
    return Checkpoints(str(folder), IDENTITY | identity, World(), interval_s)


def ended(name: str, keeper: Any, **options: Any) -> Training:
    """A training with some keeper of checkpoints, at its end."""
    return Loop(created(name), source(), World(), SEED, lambda *_: None, keeper=keeper, **options).run()


def stopped(name: str, keeper: Checkpoints, at: Position, **options: Any) -> None:
    """A training that dies after a step, before that step is kept."""

    def stop(position: Position, steps: int) -> None:
        if position == at:
            raise Stopped

    with pytest.raises(Stopped):
        ended(name, keeper, on_step=stop, **options)


def assert_same(found: Training, wanted: Training) -> None:
    """Equal weights, buffers, memories, momenta and reports, to the last bit."""
    first, second = state_of(found.method), state_of(wanted.method)
    assert first.keys() == second.keys()
    assert [key for key, value in first.items() if not torch.equal(value, second[key])] == []
    for phase, optimizer in wanted.optimizers.items():
        torch.testing.assert_close(
            found.optimizers[phase].state_dict()["state"], optimizer.state_dict()["state"], rtol=0, atol=0
        )
    assert without_speed(found) == without_speed(wanted)


def without_speed(training: Training) -> list[dict[str, float]]:
    """Reports less what depends on the clock."""
    return [{name: value for name, value in report.items() if name != "pairs_per_s"} for report in training.reports]


@pytest.mark.parametrize("name", ["everything", *methods.available()])
def test_a_training_continued_from_any_position_ends_bit_for_bit_as_undisturbed(name, tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint, "KEPT", 1000)
    undisturbed = ended(name, kept_in(tmp_path))
    names = kept_in(tmp_path).names()
    assert len(names) == STEPS * len(schedule(created(name)))
    for state in names if name == "everything" else names[:: max(1, len(names) // LOOKED_AT)]:
        assert_same(ended(name, Once(tmp_path, state)), undisturbed)


@every_method
def test_a_training_that_died_twice_ends_bit_for_bit_as_undisturbed(name, tmp_path):
    passes = len(schedule(created(name)))
    if not passes:
        pytest.skip(f"{name} takes no steps: nothing to continue")
    stopped(name, kept_in(tmp_path), Position(0, 2))
    stopped(name, again := kept_in(tmp_path), Position(passes - 1, 2))
    assert again.restored == (0, 1)
    keeper = kept_in(tmp_path)
    assert_same(ended(name, keeper), ended(name, None))
    assert keeper.restored == (passes - 1, 1)


def test_without_a_checkpoint_a_training_starts_anew(tmp_path):
    keeper = kept_in(tmp_path, interval_s=1000.0)
    ended("everything", keeper)
    assert keeper.restored is None
    assert keeper.latest() is None
    assert not keeper.settle(start_again=False)
    assert keeper.reports() == []


def test_the_last_two_are_kept_and_all_are_cleared(tmp_path):
    keeper = kept_in(tmp_path)
    stopped("everything", keeper, Position(2, 2))
    assert keeper.names() == ["state-000002-00000000.safetensors", "state-000002-00000001.safetensors"]
    assert keeper.latest() == "state-000002-00000001.safetensors"
    (tmp_path / "epochs.csv").write_text("kept")
    keeper.clear()
    assert [path.name for path in tmp_path.iterdir()] == ["epochs.csv"]


def test_only_the_first_worker_writes(tmp_path):
    class Second(World):
        rank, size = 1, 2

    keeper = Checkpoints(str(tmp_path), IDENTITY, Second(), 0.0)
    keeper.offer(Training(created("everything"), {}), force=True)
    assert keeper.names() == []


def test_a_checkpoint_tells_its_reports(tmp_path):
    stopped("everything", keeper := kept_in(tmp_path), Position(3, 2))
    (report,) = keeper.reports()
    assert report.keys() >= {"loss", "first.error", "second.error", "learning_rate", "pairs_per_s"}


class Falling:
    """Finds the first epoch best."""

    def __call__(self, method: Method, epoch: int) -> dict[str, float]:
        return {"validation_map": 0.9 - 0.1 * epoch}


@pytest.mark.parametrize("at", [Position(2, 1), Position(4, 2)])
def test_the_best_weights_survive_a_restart(tmp_path, at):
    stopped("everything", kept_in(tmp_path), at, examine=Falling(), keep_best=True)
    keeper = kept_in(tmp_path)
    found = ended("everything", keeper, examine=Falling(), keep_best=True)
    assert keeper.restored
    assert keeper.restored.passes >= 2
    assert found.best == (0, 0.9)
    wanted = ended("everything", None, examine=Falling(), keep_best=True)
    assert_same(found, wanted)
    last = ended("everything", None)
    assert not torch.equal(found.method.nets["first"].weight, last.method.nets["first"].weight)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"method": "other"}, "method = some, asked was other"),
        ({"bits": 32}, "bits = 16, asked was 32"),
        ({"settings": {"epochs": 3}}, "settings = .*'epochs': 2.*asked was .*'epochs': 3"),
        ({"seed": 1}, "seed = 9, asked was 1"),
        ({"later": True}, "later = None, asked was True"),
    ],
)
def test_a_checkpoint_of_another_training_is_refused_naming_the_difference(tmp_path, changed, words):
    stopped("everything", kept_in(tmp_path), Position(0, 2))
    other = kept_in(tmp_path, **changed)
    with pytest.raises(Mismatch, match=words):
        other.settle(start_again=False)
    with pytest.raises(Mismatch, match=words):
        ended("everything", other)
    assert kept_in(tmp_path).settle(start_again=False)  # nothing was touched
    assert not other.settle(start_again=True)
    assert other.names() == []


def test_a_checkpoint_of_the_same_training_is_continued_even_where_it_may_be_replaced(tmp_path):
    stopped("everything", kept_in(tmp_path), Position(0, 2))
    assert kept_in(tmp_path).settle(start_again=True)


def test_weights_of_another_shape_are_refused_naming_them(tmp_path):
    stopped("jdsh", kept_in(tmp_path), Position(0, 2))
    with pytest.raises(Mismatch, match=r"nets\.first\.weight' is absent"):
        ended("everything", kept_in(tmp_path))


def header(facts: Any) -> bytes:
    """A file that says something else where facts are looked for."""
    text = json.dumps(facts).encode()
    return len(text).to_bytes(8, "little") + text


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"nothing of the kind",
        b"\xff" * 64,
        header("text"),
        header({}),
        header({"__metadata__": {"facts": "{"}}),
        safetensors.torch.save({"a": torch.zeros(1)}),
        safetensors.torch.save({"a": torch.zeros(1)}, {"facts": json.dumps({"identity": IDENTITY})}),
        "cut off",
    ],
)
def test_a_damaged_checkpoint_is_refused_with_its_name(tmp_path, content):
    stopped("everything", keeper := kept_in(tmp_path), Position(1, 2))
    path = tmp_path / keeper.latest()
    path.write_bytes(path.read_bytes()[:-1] if content == "cut off" else content)
    for action in (lambda: keeper.settle(start_again=False), lambda: ended("everything", keeper)):
        with pytest.raises(Mismatch, match=rf"{path.name} in .*: damaged: .* Delete that file to continue"):
            action()
    path.unlink()
    assert_same(ended("everything", keeper), ended("everything", None))
    assert keeper.restored == (1, 0)


def test_what_a_checkpoint_must_say_is_what_it_says(tmp_path):
    stopped("everything", keeper := kept_in(tmp_path), Position(0, 2))
    assert keeper.read(keeper.latest())[1].keys() == set(FACTS)


def test_workers_that_found_different_checkpoints_start_again(tmp_path):
    class Torn(World):
        def mean(self, values: torch.Tensor) -> torch.Tensor:
            return values + 0.5

    stopped("everything", kept_in(tmp_path), Position(0, 2))
    keeper = Checkpoints(str(tmp_path), IDENTITY, Torn(), 0.0)
    with pytest.raises(XhashError, match="workers found different checkpoints"):
        ended("everything", keeper)
