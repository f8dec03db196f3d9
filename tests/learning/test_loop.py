"""The training loop: batches are a function of seed and epoch, and workers take one process' steps."""

import dataclasses
import datetime
import multiprocessing
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from hypothesis import given, settings
from hypothesis import strategies as st

from xhash_ray import methods
from xhash_ray.errors import BadInput, XhashError
from xhash_ray.learning.loop import fit, schedule
from xhash_ray.learning.sources import Position, Resident, check_batches
from xhash_ray.methods.base import Batch, Method, Settings, Shape, TrainingPairs, World
from xhash_ray.runtime.collectives import DistributedWorld

SHAPE = Shape(bits=16, image_length=6, text_length=5, classes=3)
BATCH, STEPS, SEED = 16, 3, 9
SMALL = {"epochs": 1, "batch_size": BATCH, "hidden": 32}  # for methods that have such a setting
SMALL |= {"semantic": 16, "label_passes": 3, "image_passes": 3, "text_passes": 3}
SIZES = (2, 4)
PRELOADED = [
    "hypothesis",
    "pytest",
    "torch.distributed",
    "xhash_ray.methods.jdsh",
    "xhash_ray.runtime.collectives",
]

every_method = pytest.mark.parametrize("name", methods.available())
every_size = pytest.mark.parametrize("size", SIZES)


class Worker(World):
    """One of several workers, without the others."""

    def __init__(self, rank: int, size: int) -> None:
        self.rank, self.size = rank, size


class Recorder(Method):
    """A method of two phases that writes down what is asked of it."""

    phases = ("first", "second")

    def __init__(self, settings: Any = Settings(epochs=2, batch_size=4)) -> None:  # noqa: B008
        super().__init__(Shape(8, 2, 2), settings)
        self.weights = torch.nn.ParameterDict({phase: torch.zeros(()) for phase in ("first", "second")})
        self.calls: list[str] = []
        self.value = 1.0

    def prepare(self, pairs: TrainingPairs, seed: int) -> None:
        self.calls.append(f"prepare {len(pairs.image)} {seed}")

    def start_epoch(self, epoch: int) -> None:
        self.calls.append(f"epoch {epoch} {'training' if self.training else 'resting'}")

    def optimizer_of(self, phase: str) -> torch.optim.Optimizer:
        return torch.optim.SGD([self.weights[phase]], lr=1.0)

    def forward(self, batch: Batch, phase: str, world: World) -> dict[str, torch.Tensor]:
        self.calls.append(f"{phase} {len(batch.image)}")
        slope = self.weights["first"] + self.weights["second"]
        return {phase: self.value + 0 * slope, "tilt": slope - slope.detach()}


class WithoutGradients(Recorder):
    """A method that is finished when it is prepared."""

    phases = ()


def source(world: World) -> Resident:
    """Three batches of pairs, made from what a pair has in common; classes by its strongest part."""
    generator = torch.Generator().manual_seed(4)
    shared = torch.randn(BATCH * STEPS, 3, generator=generator)
    image, text = (shared @ torch.randn(3, length, generator=generator) for length in SHAPE[1:3])
    labels = torch.nn.functional.one_hot(shared.argmax(dim=1), SHAPE.classes).float()
    return Resident(image, text, labels, BATCH, SEED, world)


def rows(n: int, batch_size: int, world: World, seed: int, number: int) -> list[list[int]]:
    """A worker's row numbers of every batch of one pass."""
    nothing = torch.zeros(n, 1)
    return [part.tolist() for part in Resident(nothing, nothing, None, batch_size, seed, world).rows_of(number)]


def ones(n: int, batch_size: int = 4) -> Resident:
    """As many pairs that are all alike."""
    return Resident(torch.ones(n, 2), torch.ones(n, 2), None, batch_size, 7, World())


def created(name: str) -> Method:
    """A method with fixed first weights."""
    torch.manual_seed(5)
    known = {field.name for field in dataclasses.fields(methods.load(name).settings_type)}
    return methods.create(name, SHAPE, {key: value for key, value in SMALL.items() if key in known})


def gradients(name: str, world: World) -> dict[str, torch.Tensor]:
    """Gradients of every phase on the first batch, averaged over the workers."""
    method, data, found = created(name), source(world), {}
    method.prepare(data.known(), SEED)
    method.start_epoch(0)
    batch = next(data.batches(Position(), 1))
    phases = dict.fromkeys(phase for entry in schedule(method) for phase in entry.phases)
    for phase in [phase for phase in phases if phase not in method.gradient_free]:
        torch.manual_seed(SEED)
        method.zero_grad()
        sum(method(batch, phase, world).values()).backward()
        world.average_gradients(list(method.parameters()))
        moved = {key: value.grad for key, value in method.named_parameters() if value.grad is not None}
        found |= {f"{phase} {key}": value.clone() for key, value in moved.items()}
    return found


def trained(name: str, world: World) -> dict[str, dict[str, torch.Tensor]]:
    """Weights and buffers after three steps, and the terms reported of them."""
    method, reported = created(name), {}
    fit(method, source(world), world, SEED, lambda _, terms: reported.update(terms))
    reported.pop("pairs_per_s")
    terms = {term: torch.tensor(value) for term, value in reported.items()}
    return {"weights": method.state_dict(), "terms": terms}


def outcome(world: World) -> dict[str, dict[str, dict[str, torch.Tensor]]]:
    """What one worker has at the end, of every method."""
    return {name: {"gradients": gradients(name, world), **trained(name, world)} for name in methods.available()}


def work(rank: int, folder: str) -> None:
    """One process of several: takes part wherever there are enough workers for its rank."""
    patience = datetime.timedelta(minutes=10)
    torch.set_num_threads(1)
    for size in (size for size in SIZES if rank < size):
        dist.init_process_group("gloo", f"file://{folder}/meet-{size}", patience, rank=rank, world_size=size)
        torch.save(outcome(DistributedWorld()), f"{folder}/{size}-{rank}.pt")
        dist.destroy_process_group()


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> dict[int, list[dict]]:
    """What every worker has at the end, by number of workers."""
    folder = Path(tmp_path_factory.mktemp("workers"))
    multiprocessing.set_forkserver_preload(PRELOADED)
    torch.multiprocessing.start_processes(work, (str(folder),), nprocs=max(SIZES), start_method="forkserver")
    found = {size: [torch.load(folder / f"{size}-{rank}.pt") for rank in range(size)] for size in SIZES}
    return {1: [outcome(World())], **found}


def relative_error(found: dict[str, torch.Tensor], wanted: dict[str, torch.Tensor]) -> float:
    """The largest over all entries of |found - wanted| / |wanted|, in norms."""
    assert found.keys() == wanted.keys()
    pairs = [(found[key].double(), value.double()) for key, value in wanted.items()]  # flags are 0 or 1
    errors = [(one - other).norm() / other.norm().clamp(min=1e-12) for one, other in pairs]
    return max((float(error) for error in errors), default=0.0)


@every_method
@every_size
def test_workers_have_the_gradients_of_one_process(outcomes, name, size):
    (alone,) = outcomes[1]
    for worker in outcomes[size]:
        assert relative_error(worker[name]["gradients"], alone[name]["gradients"]) < 1e-5


@every_method
@every_size
def test_workers_arrive_at_the_weights_of_one_process(outcomes, name, size):
    (alone,) = outcomes[1]
    for worker in outcomes[size]:
        assert relative_error(worker[name]["weights"], alone[name]["weights"]) < 1e-5


@every_method
@every_size
def test_workers_report_the_terms_of_one_process(outcomes, name, size):
    (alone,) = outcomes[1]
    for worker in outcomes[size]:
        assert relative_error(worker[name]["terms"], alone[name]["terms"]) < 1e-5


@every_method
@every_size
def test_all_workers_arrive_at_the_same_weights(outcomes, name, size):
    first, *others = (worker[name]["weights"] for worker in outcomes[size])
    for other in others:
        assert all(torch.equal(value, other[key]) for key, value in first.items())


@settings(deadline=None, max_examples=50)
@given(
    workers=st.sampled_from([1, 2, 3, 4]),
    share=st.integers(1, 5),
    n=st.integers(0, 60),
    seed=st.integers(0, 99),
    epoch=st.integers(0, 9),
)
def test_workers_slices_make_up_the_batches_of_one_process(workers, share, n, seed, epoch):
    batch_size = workers * share
    alone = rows(n, batch_size, World(), seed, epoch)
    slices = [rows(n, batch_size, Worker(rank, workers), seed, epoch) for rank in range(workers)]
    together = [[row for part in parts for row in part] for parts in zip(*slices, strict=True)]
    assert together == alone


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 60), st.integers(1, 20), st.integers(0, 99), st.integers(0, 9))
def test_an_epoch_takes_each_pair_at_most_once_in_full_batches(n, batch_size, seed, epoch):
    found = rows(n, batch_size, World(), seed, epoch)
    taken = [row for batch in found for row in batch]
    assert len(found) == n // batch_size
    assert {len(batch) for batch in found} <= {batch_size}
    assert len(set(taken)) == len(taken)
    assert set(taken) <= set(range(n))


def test_the_order_is_a_function_of_seed_and_pass():
    def order(seed: int, number: int) -> tuple[int, ...]:
        return tuple(row for batch in rows(100, 10, World(), seed, number) for row in batch)

    assert order(1, 0) == order(1, 0)
    assert len({order(seed, number) for seed in range(3) for number in range(3)}) == 9


def test_batches_from_a_position_are_those_that_are_left():
    data = ones(14)
    everything = [batch.rows.tolist() for batch in data.batches(Position(), 3)]
    assert len(everything) == 9
    for passes, steps in [(0, 1), (0, 2), (1, 0), (2, 2)]:
        left = [batch.rows.tolist() for batch in data.batches(Position(passes, steps), 3)]
        assert left == everything[passes * 3 + steps :]


@pytest.mark.parametrize("pairs", [0, 1, 15])
def test_fewer_pairs_than_a_batch_are_refused(pairs):
    with pytest.raises(BadInput, match=f"{pairs} pairs for batches of 16"):
        check_batches(pairs, 16, 1)


@pytest.mark.parametrize(("batch_size", "workers"), [(16, 3), (2, 4)])
def test_a_batch_that_workers_cannot_share_evenly_is_refused(batch_size, workers):
    with pytest.raises(BadInput, match=f"a batch of {batch_size} pairs for {workers} workers"):
        check_batches(100, batch_size, workers)


@pytest.mark.parametrize(("n", "batch_size", "workers"), [(16, 16, 1), (16, 16, 4), (100, 6, 3)])
def test_batches_that_fit_pass(n, batch_size, workers):
    check_batches(n, batch_size, workers)


def test_training_checks_before_it_prepares():
    method = Recorder()
    with pytest.raises(BadInput, match="0 pairs for batches of 4"):
        fit(method, ones(3), World(), 1)
    assert method.calls == []


def test_the_loop_calls_every_phase_on_every_batch_in_order():
    method = Recorder()
    fit(method, ones(10), World(), 7)
    steps = ["first 4", "second 4"] * 2
    assert method.calls == ["prepare 10 7", "epoch 0 training", *steps, "epoch 1 training", *steps]
    assert not method.training


def test_a_phase_moves_only_what_its_optimizer_holds():
    method = Recorder(Settings(epochs=1, batch_size=4))
    method.phases = ("first",)
    fit(method, ones(8), World(), 7)
    assert {phase: weight.item() for phase, weight in method.weights.items()} == {
        "first": -2.0,
        "second": 0.0,
    }


def test_every_epoch_is_reported_with_mean_terms_and_their_sum():
    method, reports = Recorder(), []
    method.value = 2.5
    fit(method, ones(10), World(), 7, lambda *given: reports.append(given))
    assert [epoch for epoch, _ in reports] == [0, 1]
    for _, terms in reports:
        assert terms.pop("pairs_per_s") > 0
        assert terms == {
            "loss": 5.0,
            "first.first": 2.5,
            "first.tilt": 0.0,
            "second.second": 2.5,
            "second.tilt": 0.0,
            "learning_rate": 1.0,
        }


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_a_loss_that_is_no_number_stops_the_training(value):
    method = Recorder()
    method.value = value
    with pytest.raises(XhashError, match="the loss is"):
        fit(method, ones(8), World(), 7)


def test_a_method_without_gradients_is_prepared_and_reported():
    method, losses = WithoutGradients(Settings(epochs=1, batch_size=4)), []
    fit(method, ones(8), World(), 7, lambda _, terms: losses.append(terms["loss"]))
    assert method.calls == ["prepare 8 7"]
    assert losses == [0]


@pytest.mark.parametrize("size", [1, 2, 3])
def test_own_rows_partition_what_has_a_row_per_pair(size):
    everything = torch.arange(12.0).reshape(6, 2)
    parts = [Worker(rank, size).own(everything) for rank in range(size)]
    assert torch.equal(torch.cat(parts), everything)


@pytest.mark.parametrize("n", [1, 7, 8, 19])
@pytest.mark.parametrize("size", [1, 3])
def test_a_whole_pass_gives_every_pair_once(n, size):
    nothing = torch.zeros(n, 1)
    sources = [Resident(nothing, nothing, None, 8, 5, Worker(rank, size), whole=True) for rank in range(size)]
    seen = [row for source in sources for part in source.rows_of(0) for row in part.tolist()]
    assert sorted(seen) == list(range(n))


def test_sums_over_nothing_are_refused():
    method = created("dfrh")
    with pytest.raises(BadInput, match="pairs for batches"):
        fit(method, ones(10, 16), World(), SEED)
