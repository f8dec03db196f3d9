"""The encoder's process without Ray: batches, bad contents that harm nobody, models that are others, a memory."""

import asyncio

import numpy as np
import pytest
import torch

from xhash_ray.errors import BadInput, Mismatch, XhashError
from xhash_ray.methods.artefacts import to_method
from xhash_ray.serving.encoders import EncoderServer
from xhash_ray.storage.artefact import read_artefact

GOOD = [[0.1, -0.5, 0.3, 0.9], [1.0, 2.0, -3.0, 0.5], [0.0, 0.0, 1.0, 0.0]]


def test_each_content_is_answered_for_itself(model):
    async def scene():
        server, asked = EncoderServer(None, 1), (model.uri, model.fingerprint, "vector", "image")
        contents = [GOOD[0], [1.0], GOOD[1], [float("nan")] * 4, GOOD[2]]
        every = (server.encode(asked, each, 30.0) for each in contents)
        found = await asyncio.gather(*every, return_exceptions=True)
        assert server.coalescer.batches == 2, "the first alone, those that came meanwhile together"
        assert isinstance(found[1], Mismatch)
        assert isinstance(found[3], BadInput)
        method = to_method(read_artefact(model.uri))
        for query, vector in zip((found[0], found[2], found[4]), GOOD, strict=True):
            feature = torch.tensor([vector])
            outputs = method.outputs("image", feature).detach().numpy()[0]
            assert query.code == method.encode("image", feature)[0].tobytes()
            np.testing.assert_allclose(np.frombuffer(query.outputs, np.float32), outputs, atol=1e-6)
            np.testing.assert_array_equal(np.frombuffer(query.feature, np.float32), np.float32(vector))

    asyncio.run(scene())


@pytest.mark.parametrize("kind", ["text", "image"])
def test_an_index_without_an_encoder_says_so(model, kind):
    server = EncoderServer(None, 1)
    with pytest.raises(BadInput, match="Send a vector, a code or an id"):
        asyncio.run(server.encode((model.uri, model.fingerprint, kind, kind), "red", 30.0))


def test_another_model_than_the_generations_is_refused(model):
    with pytest.raises(XhashError, match="holds model"):
        EncoderServer(None, 1).encoder(model.uri, "f" * 64)


def test_the_latest_activation_is_remembered():
    server = EncoderServer(None, 1)
    assert server.recall() is None
    for activated in ((5, 3), (9, 2), (7, 8)):
        server.remember(activated)
    assert server.recall() == (9, 2)
