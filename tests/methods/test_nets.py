"""Two nets: outputs are centred where a method asks for it, relaxed as the epoch says, and similar as features are."""

import math

import pytest
import torch

from tests.methods import oracle as o
from xhash_ray import methods
from xhash_ray.methods.base import World
from xhash_ray.methods.nets import TwoNets

LINE = [name for name in methods.available() if issubclass(methods.load(name), TwoNets)]
CENTRED = [name for name in LINE if "centre" in methods.load(name).settings_type.__dataclass_fields__]


def test_the_line_is_found():
    assert set(LINE) >= {"djsrh", "jdsh", "dsah", "hnh", "agch", "cfrh"}
    assert set(CENTRED) >= {"dsah", "hnh", "agch", "cfrh"}


@pytest.mark.parametrize("name", CENTRED)
def test_a_batch_is_centred_and_the_running_mean_subtracted_afterwards(name):
    method, batch = o.ready(name, True, centre=True)
    outputs = method.train().image_outputs(batch.image, World())
    assert outputs.mean(dim=0).abs().max() < 1e-5
    assert method.centre_image.mean.abs().max() > 0
    h = method.image_net(method.scale_image(batch.image))
    assert torch.allclose(method.eval().image_outputs(batch.image), h - method.centre_image.mean)
    assert "centre_image.mean" in method.state_dict()


@pytest.mark.parametrize("name", CENTRED)
def test_centring_can_be_switched_off(name):
    method, batch = o.ready(name, True, centre=False)
    outputs = method.train().text_outputs(batch.text, World())
    assert torch.equal(outputs, method.text_net(method.scale_text(batch.text)))


@pytest.mark.parametrize("name", LINE)
def test_relaxed_codes_approach_signs_where_the_paper_says_so(name):
    method, _ = o.ready(name, True)
    method.start_epoch(8)
    a = 3.0 if method.continuation else 1.0
    (row,) = method.relaxed(torch.tensor([[0.5, -0.2]])).tolist()
    assert row == pytest.approx(o.unit([math.tanh(0.5 * a), math.tanh(-0.2 * a)]))
