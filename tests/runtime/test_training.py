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
    train(options.Train(features=run.features, out=str(tmp_path / "one"), bits=32, workers=0, settings=settings))
    one, two = read_artefact(str(tmp_path / "one")), read_artefact(run.model)
    assert one.weights.keys() == two.weights.keys()
    for name, value in one.weights.items():
        assert np.allclose(value, two.weights[name], rtol=1e-3, atol=1e-5), name


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
    given = {"features": run.features, "out": str(tmp_path / "model"), "workers": 2}
    with pytest.raises(error, match=message):
        train(options.Train(**{**given, **changed}))
    assert not (tmp_path / "model").exists()


def test_a_finished_model_is_not_replaced_unasked(run):
    with pytest.raises(BadInput, match="a model is there"):
        train(options.Train(features=run.features, out=run.model))
