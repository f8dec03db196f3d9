"""One training from options to a model folder, in this process: refused before it starts, continued, chosen."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.learning.conftest import FILES, made_rows, write_features
from xhash_ray import methods
from xhash_ray.errors import BadInput, BadOption, Mismatch
from xhash_ray.learning.loop import schedule
from xhash_ray.learning.run import Outcome, Plan, hand_in, learn, plan_training
from xhash_ray.learning.sources import Position
from xhash_ray.methods.base import World
from xhash_ray.options import Train
from xhash_ray.storage.artefact import read_artefact

ROWS = sum(count for count, _ in FILES)
SMALL = {"epochs": 2, "batch_size": 16, "hidden": 32}  # for methods that have such a setting
SHORT = {"semantic": 16, "label_passes": 3, "image_passes": 3, "text_passes": 3}  # likewise

every_method = pytest.mark.parametrize("name", methods.available())
supervised = [name for name in methods.available() if methods.load(name).supervised]
streamable = [name for name in methods.available() if not methods.load(name).needs_all_rows]


def asked(features: str, out: Path, **options: Any) -> Train:
    """A small training of this process."""
    name = options.get("method", "jdsh")
    known = {field.name for field in dataclasses.fields(methods.load(name).settings_type)}
    small = {key: value for key, value in (SMALL | SHORT).items() if key in known} | options.pop("settings", {})
    given = {"method": name, "bits": 16, "workers": 0, "seed": 3, "checkpoint_s": 0.0, "settings": small, **options}
    return Train(features=features, out=str(out), **given)


def learned(plan: Plan, stop_at: Position | None = None) -> tuple[Outcome, list[dict[str, float]]]:
    """What comes of a plan, and the report of every epoch."""
    reports: list[dict[str, float]] = []

    def stop(position: Position, steps: int) -> None:
        if position == stop_at:
            raise KeyboardInterrupt

    pairs = None if plan.streamed else plan.data.resident()
    outcome = learn(plan, World(), pairs, lambda _, report: reports.append(report), stop)
    return outcome, reports


def weights(features: str, out: Path, **options: Any) -> dict[str, np.ndarray]:
    """The weights of a training."""
    return learned(plan_training(asked(features, out, **options)))[0].weights


def assert_equal(found: dict[str, np.ndarray], wanted: dict[str, np.ndarray]) -> None:
    """Equal to the last bit."""
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        np.testing.assert_array_equal(found[name], value, err_msg=name)


@pytest.mark.parametrize(
    ("changed", "error", "words"),
    [
        ({"settings": {"epoch": 3}}, BadOption, "Did you mean 'epochs'"),
        ({"bits": 30}, BadInput, "multiple of 8"),
        ({"where": "split=nothing"}, BadInput, "no rows"),
        ({"validation": "split=nothing"}, BadInput, "validation pairs .*no rows"),
        ({"workers": 3}, BadInput, "a batch of 16 pairs for 3 workers"),
        ({"workers": 2, "max_workers": 3}, BadInput, "a batch of 16 pairs for 3 workers"),
        ({"settings": {"batch_size": 81}}, BadInput, "80 pairs for batches of 81"),
        ({"stream": "always", "settings": {"batch_size": 81}}, BadInput, "80 pairs for batches of 81"),
        ({"features": "/nowhere"}, BadInput, "no such file"),
        ({"select": "best"}, BadInput, "--select best: no --validation"),
    ],
)
def test_what_cannot_be_trained_is_said_before_anything_is_written(features, tmp_path, changed, error, words):
    options = dataclasses.replace(asked(features, tmp_path / "model"), **changed)
    if "batch_size" in changed.get("settings", {}):
        options = dataclasses.replace(options, settings={**SMALL, **changed["settings"]})
    with pytest.raises(error, match=words):
        plan_training(options)
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_method_is_said_with_the_nearest(features, tmp_path):
    with pytest.raises(BadOption, match=r"unknown method 'jdhs'.*Did you mean 'jdsh'"):
        plan_training(Train(features=features, out=str(tmp_path / "model"), method="jdhs"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", supervised)
def test_a_supervised_method_without_labels_is_refused(tmp_path, name):
    unlabelled = write_features(tmp_path / "features", made_rows(ROWS), labelled=False)
    with pytest.raises(BadInput, match="no labels, and the method is supervised"):
        plan_training(asked(unlabelled, tmp_path / "model", method=name))
    assert not (tmp_path / "model").exists()


def test_the_best_epoch_cannot_be_told_without_labels(tmp_path):
    unlabelled = write_features(tmp_path / "features", made_rows(ROWS), labelled=False)
    with pytest.raises(BadInput, match="--select best: no labels"):
        plan_training(asked(unlabelled, tmp_path / "model", select="best", validation="id%5=0"))


@pytest.mark.parametrize("stream", ["always", "never"])
@pytest.mark.parametrize("column", ["image", "text"])
def test_a_modality_that_is_all_the_same_is_named_and_nothing_is_left(tmp_path, column, stream):
    rows = made_rows(ROWS)
    getattr(rows, column)[:] = 0.5
    constant = write_features(tmp_path / "features", rows)
    with pytest.raises(BadInput, match=f"scaling {column} features: all rows are the same"):
        learned(plan_training(asked(constant, tmp_path / "model", stream=stream)))
    assert not (tmp_path / "model").exists()


def test_a_method_that_needs_all_pairs_is_not_streamed(features, tmp_path, monkeypatch):
    monkeypatch.setattr(methods.load("jdsh"), "needs_all_rows", True)
    with pytest.raises(BadInput, match="jdsh, which needs all pairs at once: 80 pairs"):
        plan_training(asked(features, tmp_path, stream="always"))
    with pytest.raises(BadInput, match="needs all pairs at once"):
        plan_training(asked(features, tmp_path, stream="auto", memory_mb=0))
    assert not plan_training(asked(features, tmp_path, stream="auto")).streamed


@pytest.mark.parametrize(("stream", "memory_mb", "streamed"), [("auto", 1, 0), ("auto", 0, 1), ("never", 0, 0)])
def test_pairs_are_streamed_that_do_not_fit(features, tmp_path, stream, memory_mb, streamed):
    assert plan_training(asked(features, tmp_path, stream=stream, memory_mb=memory_mb)).streamed == streamed


@every_method
def test_every_method_is_trained_and_looked_at_in_bf16(features, tmp_path, name):
    options = asked(features, tmp_path, method=name, precision="bf16", validation="id%5=0", validate_every=1)
    plan = plan_training(options)
    outcome, reports = learned(plan)
    assert len(reports) == (plan.settings.epochs if schedule(plan.method()) else 1)
    assert all(math.isfinite(value) for report in reports for value in report.values())
    assert all(0 <= report["validation_map"] <= 1 for report in reports)
    assert all(np.isfinite(value).all() for value in outcome.weights.values())
    assert {value.dtype for value in outcome.weights.values()} <= {np.dtype(kind) for kind in ("f4", "i8", "?")}


def test_bf16_is_not_fp32(features, tmp_path):
    full, half = (weights(features, tmp_path / kind, precision=kind) for kind in ("fp32", "bf16"))
    assert not np.array_equal(full["image_net.weight"], half["image_net.weight"])
    np.testing.assert_allclose(full["image_net.weight"], half["image_net.weight"], atol=0.05)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU on this machine")
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@every_method
def test_every_method_is_trained_on_a_gpu(features, tmp_path, name, precision):
    plan = plan_training(asked(features, tmp_path, method=name, precision=precision))
    reports: list[dict[str, float]] = []
    outcome = learn(plan, World(), plan.data.resident(), lambda _, found: reports.append(found), device="cuda")
    assert all(math.isfinite(value) for report in reports for value in report.values())
    assert all(np.isfinite(value).all() for value in outcome.weights.values())


@pytest.mark.parametrize("name", streamable)
def test_every_method_that_may_be_streamed_is(features, tmp_path, name):
    options = asked(features, tmp_path / "first", method=name, stream="always", settings={"epochs": 1})
    found = learned(plan_training(options))[0].weights
    assert all(np.isfinite(value).all() for value in found.values())
    again = learned(plan_training(dataclasses.replace(options, out=str(tmp_path / "again"))))[0].weights
    assert_equal(again, found)


def test_more_lanes_than_workers_are_one_training(features, tmp_path):
    """One process takes the steps that one to two workers take."""
    options = {"stream": "always", "max_workers": 2}
    elastic = plan_training(asked(features, tmp_path / "model", workers=1, **options))
    alone = plan_training(asked(features, tmp_path / "alone", workers=0, **options))
    assert elastic.lanes == alone.lanes == 2
    assert elastic.identity() == alone.identity()


@pytest.mark.parametrize("stream", ["always", "never"])
@pytest.mark.parametrize("seed", [-5, 20_260_728, 2**40])
def test_any_seed_is_trained_with(features, tmp_path, seed, stream):
    found = weights(features, tmp_path, seed=seed, stream=stream, settings={"epochs": 1})
    assert all(np.isfinite(value).all() for value in found.values())


@pytest.mark.parametrize("stream", ["always", "never"])
def test_an_interrupted_training_is_continued_to_the_same_weights(features, tmp_path, stream):
    undisturbed = weights(features, tmp_path / "undisturbed", stream=stream)
    plan = plan_training(asked(features, tmp_path / "model", stream=stream))
    with pytest.raises(KeyboardInterrupt):
        learned(plan, Position(1, 3))
    assert plan.checkpoints(World()).latest() == "state-000001-00000002.safetensors"
    outcome, reports = learned(plan)
    assert len(reports) == 1  # the first epoch was not taken again
    assert_equal(outcome.weights, undisturbed)


def test_a_training_that_died_after_its_last_step_tells_what_it_reported(features, tmp_path):
    plan = plan_training(asked(features, tmp_path))
    outcome, reports = learned(plan)
    again, nothing = learned(plan)
    assert nothing == []
    assert again.terms == outcome.terms == reports[-1]
    assert_equal(again.weights, outcome.weights)


@pytest.mark.parametrize(
    ("changed", "name"),
    [
        ({"method": "cca_itq", "settings": {}}, "method"),
        ({"bits": 32}, "bits"),
        ({"settings": {**SMALL, "learning_rate": 0.5}}, "settings"),
        ({"seed": 4}, "seed"),
        ({"where": "split!=query"}, "where"),
        ({"validation": "id%5=0"}, "validation"),
        ({"stream": "always"}, "streamed"),
        ({"precision": "bf16"}, "precision"),
        ({"features": "others"}, "features"),
        ({"features": "wider"}, "image_length"),
    ],
)
def test_a_checkpoint_of_other_options_is_refused_naming_them(features, tmp_path, changed, name):
    with pytest.raises(KeyboardInterrupt):
        learned(plan_training(asked(features, tmp_path / "model")), Position(0, 2))
    if "features" in changed:
        rows = made_rows(ROWS, seed=2)
        rows = rows._replace(image=np.hstack([rows.image] * 2)) if changed["features"] == "wider" else rows
        changed = {"features": write_features(tmp_path / "features", rows)}
    other = plan_training(dataclasses.replace(asked(features, tmp_path / "model"), **changed))
    with pytest.raises(Mismatch, match=f"a checkpoint with {name} = "):
        other.checkpoints(World()).settle(start_again=False)
    assert not other.checkpoints(World()).settle(start_again=True)


def test_a_checkpoint_of_a_stream_for_other_workers_is_refused(features, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        learned(plan_training(asked(features, tmp_path, stream="always")), Position(0, 2))
    other = plan_training(asked(features, tmp_path, stream="always", workers=2))
    with pytest.raises(Mismatch, match="a checkpoint with lanes = 1, asked was 2"):
        other.checkpoints(World()).settle(start_again=False)


@pytest.mark.parametrize("changed", [{"workers": 2}, {"checkpoint_s": 5.0}, {"features": "moved"}])
def test_what_changes_no_weight_may_change_when_a_training_is_continued(features, tmp_path, changed):
    with pytest.raises(KeyboardInterrupt):
        learned(plan_training(asked(features, tmp_path / "model")), Position(0, 2))
    if "features" in changed:
        changed = {"features": write_features(tmp_path / "features", made_rows(ROWS))}
    other = plan_training(dataclasses.replace(asked(features, tmp_path / "model"), **changed))
    assert other.checkpoints(World()).settle(start_again=False)


def test_a_finished_model_takes_the_checkpoints_away_and_is_not_replaced_unasked(features, tmp_path):
    options = asked(features, tmp_path / "model")
    plan = plan_training(options)
    hand_in(plan, learned(plan)[0], 1.0)
    assert plan.checkpoints(World()).names() == []
    facts = read_artefact(plan.out).facts
    assert (facts["training"]["pairs"], facts["training"]["streamed"]) == (ROWS, False)
    with pytest.raises(BadInput, match="a model is there"):
        plan_training(options)
    assert plan_training(dataclasses.replace(options, overwrite=True)).out == plan.out


def test_the_best_epoch_is_chosen_and_the_card_says_so(features, tmp_path):
    options = {"validation": "id%3=0", "validate_every": 1, "settings": {"epochs": 6, "learning_rate": 0.3}}
    plan = plan_training(asked(features, tmp_path / "best", select="best", **options))
    outcome, reports = learned(plan)
    scores = [report["validation_map"] for report in reports]
    best = int(np.argmax(scores))
    assert 0 < best < len(scores) - 1  # or it would prove nothing
    last = weights(features, tmp_path / "last", **options)
    options["settings"] |= {"epochs": best + 1}
    assert_equal(outcome.weights, weights(features, tmp_path / "shorter", **options))
    assert any(not np.array_equal(value, outcome.weights[name]) for name, value in last.items())
    hand_in(plan, outcome, 1.0)
    card = (tmp_path / "best" / "README.md").read_text()
    assert f"epoch {best + 1}, with a validation MAP of {scores[best]:.4f} (pairs with id%3=0, never trained on" in card


def test_the_card_of_the_last_epoch_says_that_nothing_chose_it(features, tmp_path):
    plan = plan_training(asked(features, tmp_path))
    hand_in(plan, learned(plan)[0], 1.0)
    assert "No labels and no queries were used to choose this model" in (tmp_path / "README.md").read_text()


def test_methods_without_steps_have_no_checkpoints(features, tmp_path):
    for name in methods.available():
        plan = plan_training(asked(features, tmp_path / name, method=name))
        if not schedule(plan.method()):
            outcome, reports = learned(plan)
            assert [report["loss"] for report in reports] == [0.0]
            assert outcome.codes
            assert plan.checkpoints(World()).names() == []
