"""Training on Ray Train: workers share global batches and arrive where one process arrives."""

from __future__ import annotations

import numpy as np
import pytest

from xhash_ray import options
from xhash_ray.errors import BadInput, BadOption
from xhash_ray.runtime.training import train
from xhash_ray.storage.artefact import read_artefact


def test_two_workers_learn_what_one_process_learns(run, tmp_path):
    settings = {"epochs": 3, "hidden": 64}
    alone = options.Train(
        features=run.features, out=str(tmp_path / "one"), method="jdsh", bits=32, workers=0, settings=settings
    )
    train(alone)
    assert_near(read_artefact(alone.out).weights, read_artefact(run.model).weights)


def test_the_default_method_learns_the_same_with_any_number_of_workers(run, tmp_path):
    found = []
    for workers in (0, 2):
        asked = options.Train(features=run.features, out=str(tmp_path / f"{workers}"), bits=32, workers=workers)
        train(asked)
        found.append(read_artefact(asked.out))
    assert {artefact.facts["method"] for artefact in found} == {"dfrh"}
    assert_near(found[0].weights, found[1].weights)


def assert_near(one: dict[str, np.ndarray], two: dict[str, np.ndarray]) -> None:
    assert one.keys() == two.keys()
    for name, value in one.items():
        assert np.allclose(value, two[name], rtol=1e-3, atol=1e-5), name


def test_the_model_folder_tells_where_it_comes_from(run):
    facts = read_artefact(run.model).facts
    assert (facts["method"], facts["bits"], facts["training"]["workers"]) == ("jdsh", 32, 2)
    assert facts["encoder"]["model"] == "xhash-tiny"
    card = (run.root / "model" / "README.md").read_text()
    assert "SIGIR 2020" in card
    assert "| epochs | 3 |" in card


@pytest.mark.parametrize(
    ("changed", "error", "message"),
    [
        ({"method": "jdhs"}, BadOption, "Did you mean 'jdsh'"),
        ({"settings": {"epoch": 3}}, BadOption, "Did you mean 'epochs'"),
        ({"bits": 30}, BadInput, "multiple of 8"),
        ({"where": "split=nothing"}, BadInput, "no rows"),
        ({"where": "spilt=train"}, BadInput, "Did you mean 'split'"),
        ({"workers": 3}, BadInput, "multiple of --workers"),
        ({"settings": {"batch_size": 4096}}, BadInput, "pairs for batches of 4096"),
        ({"features": "/nowhere"}, BadInput, "no such file"),
    ],
)
def test_bad_options_are_said_before_any_worker_starts(run, tmp_path, changed, error, message):
    given = {"features": run.features, "out": str(tmp_path / "model"), "method": "jdsh", "workers": 2}
    with pytest.raises(error, match=message):
        train(options.Train(**{**given, **changed}))
    assert not (tmp_path / "model").exists()


def test_a_finished_model_is_not_replaced_unasked(run):
    with pytest.raises(BadInput, match="a model is there"):
        train(options.Train(features=run.features, out=run.model))
