"""Clauses on many requests at once, and on requests that are given up. The same request alone is the judge."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable
from typing import Any, Literal

from enginebay.engine import Stream
from enginebay.errors import QueueFull, Timeout
from enginebay.model import Model
from enginebay.testing.base import Subject, refused, usable


class ConcurrencyClauses(Subject):
    """Cancelling, batching, queueing, deadlines."""

    def test_e36_close_frees_the_sequence(self, opened: Model) -> None:
        """E36 Closing a stream ends it and frees its sequence.

        Look at what becomes of a generation whose iterator is closed.
        """
        for _ in range(2):
            streams = [self._endless(opened) for _ in range(opened.info.sequences)]
            for stream in streams:
                assert self.first(stream)
            for stream in streams:
                stream.close()
                assert next(stream, None) is None
        assert self.greedy(opened).tokens

    def test_e37_cancel(self, opened: Model) -> None:
        """E37 A cancelled stream ends soon: with the reason ``cancelled``, or with nothing where the engine closes it.

        Look at whether the request goes on to ``max_tokens``.
        """
        stream = self._endless(opened)
        assert self.first(stream)
        stream.cancel()
        rest = self.collect(stream)
        assert all(chunk.finish is None for chunk in rest[:-1])
        if rest:
            assert rest[-1].finish is not None
            assert rest[-1].finish.reason == "cancelled"
        assert self.greedy(opened).tokens

    def test_e38_close_during_the_prompt(self, opened: Model) -> None:
        """E38 A request may be closed while it waits, and while its prompt is computed.

        Look at requests that have no token yet.
        """
        prompt = self.long_prompt(opened, opened.info.context_tokens // 2)
        options: dict[str, Any] = {"temperature": 0.0, "max_tokens": 2, "ignore_end": True}
        for _ in range(2):
            streams = [opened.stream(prompt[i:], **options) for i in range(opened.info.sequences + 2)]
            for stream in reversed(streams):
                stream.close()
                assert self.first(stream) is None
        assert self.greedy(opened).tokens

    def test_e39_together_is_alone(self, opened: Model) -> None:
        """E39 Requests made at once give the tokens that each gives alone, greedy and drawn.

        Look at which row of logits belongs to which sequence.
        """
        jobs = self._jobs(opened, 2 * opened.info.sequences + 1)
        alone = [self._tokens(job()) for job in jobs]
        assert len(set(alone)) > 1, "all requests gave the same tokens: give the test class another prompt"
        for _ in range(2):
            others = [self._endless(opened) for _ in range(opened.info.sequences)]
            assert all(self.first(other) for other in others)
            streams = [job() for job in jobs]
            for other in others:  # so that the requests begin together
                other.close()
            assert [self._tokens(stream) for stream in streams] == alone

    def test_e40_neighbours_do_not_matter(self, opened: Model) -> None:
        """E40 Neighbours that join, leave and are cancelled change no token of a request.

        Look at what happens to other sequences when one is cleared.
        """
        jobs = self._jobs(opened, opened.info.sequences + 1)
        alone = [self._tokens(job()) for job in jobs]
        over = threading.Event()

        def disturb() -> None:
            for i in itertools.count():
                with opened.stream(
                    f"{self.prompt} neighbour {i}", temperature=1.0, max_tokens=50, ignore_end=True
                ) as one:
                    next(one, None)
                    next(one, None)
                if over.is_set():
                    return

        disturbers = [threading.Thread(target=disturb, daemon=True) for _ in range(2)]
        for disturber in disturbers:
            disturber.start()
        try:
            for _ in range(3):
                streams = [job() for job in jobs]
                assert [self._tokens(stream) for stream in streams] == alone
        finally:
            over.set()
        for disturber in disturbers:
            self.within(disturber.join)

    def test_e41_any_thread(self, opened: Model) -> None:
        """E41 A stream may be read and closed by other threads than the one that began it.

        Look at objects that belong to a thread.
        """
        expected = self.greedy(opened)
        stream = opened.stream(self.prompt, temperature=0, max_tokens=self.tokens, ignore_end=True)
        chunks = [self.first(stream), *self.collect(stream)]
        assert tuple(token for chunk in chunks if chunk for token in chunk.tokens) == expected.tokens
        other = self._endless(opened)
        assert self.first(other)
        self.within(other.close)
        usable(opened)

    def test_e42_full_queue(self) -> None:
        """E42 More requests than may wait are refused with queue_full; those that were taken finish.

        Look at ``queue_requests`` of the load request.
        """
        with self.open(sequences=1, queue_requests=1) as model:
            running = self._endless(model)
            assert self.first(running)
            streams, ended, full = [], 0, 0
            for _ in range(8):
                try:
                    streams.append(model.stream(self.prompt, temperature=0, max_tokens=2, ignore_end=True))
                except QueueFull:
                    full += 1
            running.close()
            for stream in streams:
                try:
                    ended += self.collect(stream)[-1].finish is not None
                except QueueFull:
                    full += 1
            assert full, "eight requests were taken where one runs and one may wait"
            assert ended, "no request was taken"
            assert ended + full == 8
            assert self.greedy(model).tokens

    def test_e43_timeout(self, opened: Model) -> None:
        """E43 A request that takes longer than ``timeout_seconds`` is ended with timeout, and frees its sequence.

        Look at requests that wait as well as those that run.
        """
        prompt = self.long_prompt(opened, opened.info.context_tokens // 2)
        for _ in range(opened.info.sequences + 1):
            with refused(Timeout):
                self.greedy(opened, prompt, max_tokens=len(prompt) // 2, timeout_seconds=0.001, cache_prompt=False)
        assert self.greedy(opened).tokens

    def test_e71_priority(self) -> None:
        """E71 A request of priority ``interactive`` that waits goes before one of priority ``batch``.

        Look at the order in which waiting requests are taken.
        """
        with self.open(sequences=1) as model:

            def begin(priority: Literal["interactive", "batch"], tokens: int) -> Stream:
                return model.stream(self.prompt, temperature=0, ignore_end=True, priority=priority, max_tokens=tokens)

            running = self._endless(model)
            assert self.first(running)
            waiting = [begin("batch", 100), begin("interactive", 2)]
            running.close()
            batch, interactive = (self.collect(stream)[-1].finish for stream in waiting)
        assert batch
        assert interactive
        assert batch.timings.queue_seconds > interactive.timings.queue_seconds

    def _jobs(self, opened: Model, n: int) -> list[Callable[[], Stream]]:
        """Requests of different prompts, lengths and temperatures."""
        hot: dict[str, Any] = {"temperature": 1.5, "top_k": 0, "top_p": 1.0, "min_p": 0.0}

        def job(i: int) -> Callable[[], Stream]:
            prompt = f"{self.prompt} {'and so ' * (i % 4)}{i}"
            chosen = hot if i % 2 and not self.lacks(opened, "seed") else {"temperature": 0.0}
            asked: dict[str, Any] = {**chosen, "seed": i, "max_tokens": self.tokens + i % 3, "ignore_end": True}
            return lambda: opened.stream(prompt, **asked)

        return [job(i) for i in range(n)]

    def _tokens(self, stream: Stream) -> tuple[int, ...]:
        return tuple(token for chunk in self.collect(stream) for token in chunk.tokens)

    def _endless(self, opened: Model) -> Stream:
        """A generation that goes on until it is ended, or as long as the context allows."""
        if "context_shift" in opened.info.capabilities:
            return opened.stream(self.prompt, temperature=0, ignore_end=True, context="shift")
        room = opened.info.context_tokens - len(opened.prompt_tokens(self.prompt)) - 1
        return opened.stream(self.prompt, temperature=0, ignore_end=True, max_tokens=room)
