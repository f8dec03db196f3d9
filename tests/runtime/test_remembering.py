"""Which generation is served is remembered by the order of activations, whatever clocks say."""

import asyncio
import time

import pytest

from xhash_ray.runtime.deployed import DeployedEncoder
from xhash_ray.serving.encoders import EncoderServer

SECOND_NS = 10**9


class Broadcast:
    """What a broadcast gives."""

    def __init__(self, answers):
        self.answers = answers

    async def results_async(self, timeout_s, return_exceptions):
        return self.answers


class Handle:
    """To some copies of an encoder."""

    def __init__(self, copies=2):
        self.copies = [EncoderServer(None, 1) for _ in range(copies)]

    def broadcast(self, method, *arguments):
        return Broadcast([getattr(copy, method)(*arguments) for copy in self.copies])


@pytest.mark.parametrize("ahead_s", [0, 300, -300])
def test_the_activation_that_was_acknowledged_last_counts_though_another_nodes_clock_is_ahead(monkeypatch, ahead_s):
    async def scene():
        handle, now_ns = Handle(), time.time_ns()
        one, other = DeployedEncoder(handle), DeployedEncoder(handle)
        monkeypatch.setattr(time, "time_ns", lambda: now_ns + ahead_s * SECOND_NS)
        await one.remember(5)
        monkeypatch.setattr(time, "time_ns", lambda: now_ns)
        await other.remember(6)
        assert [await one.recall(), await other.recall()] == [6, 6]
        await one.remember(7)
        assert await other.recall() == 7

    asyncio.run(scene())


def test_a_copy_that_is_new_is_told():
    async def scene():
        handle = Handle()
        await DeployedEncoder(handle).remember(3)
        handle.copies[0] = EncoderServer(None, 1)
        assert await DeployedEncoder(handle).recall() == 3
        assert handle.copies[0].recall() == handle.copies[1].recall()
        assert await DeployedEncoder(Handle()).recall() is None

    asyncio.run(scene())
