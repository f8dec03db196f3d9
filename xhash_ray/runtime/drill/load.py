"""The load of a drill: some callers who ask one question after the other, each answer judged as it comes."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Sequence

from xhash_ray.client import Client, Retry
from xhash_ray.drilling.judging import judge
from xhash_ray.drilling.ledger import SILENT, Event, Ledger, failed, judged
from xhash_ray.drilling.oracle import Oracle
from xhash_ray.drilling.questions import Question
from xhash_ray.errors import XhashError

ANSWER_S = 2.0  # the endpoint's own time for a question: what has not answered by then is missing
PATIENCE_S = 6.0  # of a caller
ONCE = Retry(attempts=1)  # every failure is to be seen, none is tried away


class Load:
    """Callers, from the beginning of a block to its end.

    Args:
        urls: Of the endpoint's entrances. A caller who gets no answer goes to the next one, as a load balancer does.
        key: API key.
        questions: Asked in turn.
        oracle: That judges.
        ledger: That is written.
        callers: So many at once.
        pause_s: Between an answer and the next question: nodes of one machine that come back need some of its time.
    """

    def __init__(
        self,
        urls: Sequence[str],
        key: str,
        questions: Sequence[Question],
        oracle: Oracle,
        ledger: Ledger,
        callers: int,
        pause_s: float,
    ) -> None:
        self.urls, self.key, self.questions, self.oracle, self.ledger = list(urls), key, questions, oracle, ledger
        self.pause_s, self.stopped = pause_s, threading.Event()
        self.broken: BaseException | None = None
        self.threads = [threading.Thread(target=self.work, args=(number, callers)) for number in range(callers)]

    def __enter__(self) -> Load:
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stopped.set()
        for thread in self.threads:
            thread.join()

    def check(self) -> None:
        """Raises what a caller died of: an error of the drill itself."""
        if self.broken is not None:
            raise self.broken

    def work(self, number: int, callers: int) -> None:
        """One caller, who begins at a place of their own."""
        try:
            start = number * len(self.questions) // callers
            self.ask_all(number, itertools.cycle([*self.questions[start:], *self.questions[:start]]))
        except BaseException as error:
            self.broken = error
            raise

    def ask_all(self, number: int, questions: itertools.cycle[Question]) -> None:
        """One question after the other, at one entrance as long as it answers."""
        for entrance in itertools.count(number):
            with Client(self.urls[entrance % len(self.urls)], PATIENCE_S, self.key, ONCE) as client:
                for question in questions:
                    if self.stopped.wait(self.pause_s):
                        return
                    event = self.asked(client, question)
                    self.ledger.note(event)
                    if event.detail == SILENT:
                        break

    def asked(self, client: Client, question: Question) -> Event:
        """One question and what became of it. The clock stops before the answer is judged."""
        started_s = time.monotonic()
        try:
            answer = client.search(**question.arguments(), timeout_s=ANSWER_S)
        except XhashError as error:
            ended_s = time.monotonic()
            return failed(ended_s, ended_s - started_s, error)
        ended_s = time.monotonic()
        verdict = judge(self.oracle, question, answer)
        return judged(ended_s, ended_s - started_s, verdict, answer.generation, answer.missing_shards)
