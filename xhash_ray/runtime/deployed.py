"""What is deployed, as the gateway sees it: groups of shards and the encoder behind handles of Ray Serve."""

import asyncio
import contextlib
import time
from collections.abc import Callable
from typing import Any

from ray.exceptions import RayError, RayTaskError
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError
from ray.serve.handle import DeploymentBroadcastResponse, DeploymentHandle

from xhash_ray.errors import Overloaded, XhashError
from xhash_ray.serving.answers import Query
from xhash_ray.serving.backends import Hedging, Lost, raised
from xhash_ray.serving.gateway import Encoder, Memory

PAUSE_S = 0.05  # before another replica is tried
UNAVAILABLE = (RayError, DeploymentUnavailableError, BackPressureError, asyncio.TimeoutError)
LATER_S = 0.25  # before replicas that are not there yet are asked again
PREPARE_S, RECALL_S = 600.0, 10.0
ENCODING = 1024  # contents on their way to the encoder: a whole batch


async def answered(call: Callable[[], Any], deadline_s: float) -> Any:
    """What a deployment answers: where a replica dies it is another one's turn, until the deadline.

    Args:
        call: Asks it, once.
        deadline_s: On the clock of time.monotonic.

    Raises:
        Lost: when nobody answers in time.
        XhashError: what was answered; RayTaskError: an error of ours in the replica, which asking again does not mend.
    """
    while True:
        left_s = max(0.001, deadline_s - time.monotonic())
        try:
            return raised(await asyncio.wait_for(call(), left_s))
        except RayTaskError:
            raise
        except UNAVAILABLE as error:
            if time.monotonic() + PAUSE_S >= deadline_s:
                raise Lost(str(error).splitlines()[0][:200] if str(error) else type(error).__name__) from None
            await asyncio.sleep(PAUSE_S)


class Deployed:
    """A backend behind a handle.

    Args:
        handle: To the replicas of a group of shards.
        hedged: Whether there are several, so that a slow one can be overtaken.
    """

    def __init__(self, handle: DeploymentHandle, hedged: bool) -> None:
        self.handle, self.hedging = handle, Hedging() if hedged else None

    async def call(self, method: str, deadline_s: float, *arguments: Any) -> Any:
        """See `Backend`. All replicas prepare; one of them, or the quicker of two, answers everything else."""
        if method == "prepare":
            told = await everywhere(
                lambda left_s: self.handle.broadcast("call", method, left_s, *arguments), deadline_s
            )
            return told[0]

        async def ask() -> Any:
            return await self.handle.call.remote(method, deadline_s - time.monotonic(), *arguments)

        hedging = self.hedging
        return await answered(ask if hedging is None else lambda: hedging.first(ask), deadline_s)


async def everywhere(ask: Callable[[float], DeploymentBroadcastResponse], deadline_s: float) -> list[Any]:
    """What every replica answers, as soon as there is one; one that dies meanwhile will load what it is asked for.

    Args:
        ask: Asks all of them, told how many seconds are left.
        deadline_s: On the clock of time.monotonic.

    Raises:
        Lost: when none answers in time. XhashError, RayTaskError: what one answered.
    """
    while True:
        left_s = max(0.001, deadline_s - time.monotonic())
        try:
            answers = await ask(left_s).results_async(timeout_s=left_s, return_exceptions=True)
        except (*UNAVAILABLE, TimeoutError) as error:
            answers = [error]
        for answer in answers:
            if isinstance(answer, (RayTaskError, XhashError)):
                raise answer
        good = [answer for answer in answers if not isinstance(answer, BaseException)]
        if good:
            return good
        if time.monotonic() + LATER_S >= deadline_s:
            raise Lost("no replica answers")
        await asyncio.sleep(LATER_S)


class DeployedEncoder(Encoder, Memory):
    """The encoder behind its handle."""

    def __init__(self, handle: DeploymentHandle) -> None:
        self.handle, self.encoding = handle, 0

    async def prepare(self, model_uri: str, fingerprint: str) -> None:
        """See `Encoder`."""
        deadline_s = time.monotonic() + PREPARE_S
        try:
            await everywhere(lambda _: self.handle.broadcast("prepare", model_uri, fingerprint), deadline_s)
        except Lost as error:
            raise Overloaded("the encoder", str(error), "Ask again") from None

    async def encode(
        self, model_uri: str, fingerprint: str, kind: str, content: Any, modality: str, deadline_s: float
    ) -> Query:
        """See `Encoder`."""
        if self.encoding >= ENCODING:
            raise Overloaded(f"encoding a {kind} query", f"{self.encoding} others wait", "Ask again in a second")
        asked = (model_uri, fingerprint, kind, modality)
        self.encoding += 1
        try:
            found: Query = await answered(
                lambda: self.handle.encode.remote(asked, content, deadline_s - time.monotonic()), deadline_s
            )
        except Lost as error:
            raise Overloaded(f"encoding a {kind} query", str(error), "Ask again") from None
        finally:
            self.encoding -= 1
        return found

    async def recall(self) -> int | None:
        """See `Memory`. All copies are asked: the latest counts, and those that know less are told."""
        latest = await self.latest()
        return None if latest is None else latest[1]

    async def latest(self) -> tuple[int, int] | None:
        """When which generation was activated last. Raises as `recall` does."""
        known = await everywhere(lambda _: self.handle.broadcast("recall"), time.monotonic() + RECALL_S)
        latest: tuple[int, int] | None = max((tuple(each) for each in known if each is not None), default=None)
        if latest is not None and any(each != latest for each in known):
            await self.tell(latest)
        return latest

    async def remember(self, generation: int) -> None:
        """See `Memory`. It is later than whatever is known, though the clock of whoever told that be ahead of ours."""
        known = None
        with contextlib.suppress(Lost, RayTaskError):
            known = await self.latest()
        await self.tell((max(time.time_ns(), known[0] + 1 if known else 0), generation))

    async def tell(self, activated: tuple[int, int]) -> None:
        """Has all copies remember when which generation was activated; who does not hear it is told later."""
        with contextlib.suppress(Lost, RayTaskError):
            await everywhere(lambda _: self.handle.broadcast("remember", activated), time.monotonic() + RECALL_S)
