"""Single queries that arrive together share a scan.

Nobody waits for company: a query that finds nobody at work is answered at once. Those that arrive meanwhile are
answered together when that is done, so batches grow with the load and cost nothing without it. What is over a bound is
refused at once, and what is past its deadline before its turn is dropped.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Hashable, Sequence
from typing import Any

from xhash_ray.errors import Overloaded

GRACE_S = 0.25  # what comes at the deadline, with shards missing, is still an answer


class Waiting:
    """A query and whoever waits for its answer."""

    def __init__(self, kind: Hashable, query: Any, deadline_s: float) -> None:
        self.kind, self.query, self.deadline_s = kind, query, deadline_s
        self.answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()


class Coalescer:
    """Runs queries of one kind together.

    Args:
        run: Answers some queries of a kind, in their order.
        most: Queries in a batch.
        at_once: Batches at work.
        bound: Queries that may wait.
        until: Of a batch's answers: ends when the next batch may begin; at once by default.
    """

    def __init__(
        self,
        run: Callable[[Hashable, list[Any]], Awaitable[Sequence[Any]]],
        most: int = 64,
        at_once: int = 1,
        bound: int = 512,
        until: Callable[[Sequence[Any]], Awaitable[None]] | None = None,
    ) -> None:
        self.run, self.most, self.at_once, self.bound, self.until = run, most, at_once, bound, until
        self.waiting: list[Waiting] = []
        self.at_work: set[asyncio.Task[None]] = set()
        self.batches = self.queries = self.longest = 0

    async def ask(self, kind: Hashable, query: Any, deadline_s: float = float("inf")) -> Any:
        """The answer to one query.

        Args:
            kind: Queries of one kind (target, k, filter) can share a scan.
            query: For `run`.
            deadline_s: On the clock of time.monotonic.

        Raises:
            Overloaded: when too many wait, or the deadline passes before its turn.
        """
        if len(self.waiting) >= self.bound:
            self.drop_late()  # those whose callers have left count no more
        if len(self.waiting) >= self.bound:
            raise Overloaded("a search", f"{len(self.waiting)} others wait", "Ask again in a second")
        mine = Waiting(kind, query, deadline_s)
        self.waiting.append(mine)
        self.start()
        self.longest = max(self.longest, len(self.waiting))
        left_s = deadline_s - time.monotonic() + GRACE_S
        try:  # others of its batch may have more time
            return await asyncio.wait_for(mine.answer, left_s if left_s < float("inf") else None)
        except TimeoutError:
            raise Overloaded("a search", "its time was over", "Ask again") from None

    def waited(self) -> int:
        """How many have waited at once since this was asked last."""
        longest, self.longest = max(self.longest, len(self.waiting)), len(self.waiting)
        return longest

    def start(self) -> None:
        """Takes the next batch, if there is somebody to do it."""
        self.drop_late()
        while self.waiting and len(self.at_work) < self.at_once:
            kind = self.waiting[0].kind
            batch = [each for each in self.waiting if each.kind == kind][: self.most]
            chosen = set(map(id, batch))
            self.waiting = [each for each in self.waiting if id(each) not in chosen]
            task = asyncio.get_running_loop().create_task(self.answer_all(kind, batch))
            self.at_work.add(task)
            task.add_done_callback(self.done)

    def done(self, task: asyncio.Task[None]) -> None:
        """After a batch comes the next."""
        self.at_work.discard(task)
        self.start()

    def drop_late(self) -> None:
        """Queries whose time is over are refused; those nobody waits for any more are forgotten."""
        now_s = time.monotonic()
        for each in self.waiting:
            if each.deadline_s < now_s and not each.answer.done():
                each.answer.set_exception(Overloaded("a search", "its time was over before its turn", "Ask again"))
        self.waiting = [each for each in self.waiting if not each.answer.done()]

    async def answer_all(self, kind: Hashable, batch: list[Waiting]) -> None:
        """Runs one batch; its error is everybody's."""
        self.batches, self.queries = self.batches + 1, self.queries + len(batch)
        try:
            answers = await self.run(kind, [each.query for each in batch])
        except Exception as error:
            for each in batch:
                if not each.answer.done():
                    each.answer.set_exception(error)
            return
        for each, answer in zip(batch, answers, strict=True):
            if not each.answer.done():
                each.answer.set_result(answer)
        if self.until is not None:
            await self.until(answers)
