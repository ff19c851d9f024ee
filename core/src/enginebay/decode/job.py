"""One request on its way: its tokens, sampler, constraint and text, and what it gives out. It knows no cache and no step."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from attrs import evolve

from enginebay.data import Chunk, Finish, FinishReason, GenerateRequest, Timings, TokenLogprob, Usage
from enginebay.decode.sampler import SequenceSampler
from enginebay.decode.text import TextStream
from enginebay.errors import Cancelled, EnginebayError
from enginebay.mailbox import Mailbox, Told

if TYPE_CHECKING:
    from enginebay.decode.constraints import Compiled
    from enginebay.decode.protocol import Vocabulary


BEGINNING_TOKENS = 4
BEGINNING_SECONDS = 0.5
"""A request has just begun until it has so many tokens, or for so long after its first. Others may still be arriving with it."""


class Job:
    """The state of one request. Only the owner thread touches it, ``cancel`` and the ``out`` queue excepted.

    ``tokens`` is what the cache must hold before the next draw: the prompt and what was generated, less what was shifted
    out. Everything here is a function of the request and of the tokens drawn, so a resumed job is like one never stopped.
    """

    def __init__(
        self,
        request: GenerateRequest,
        seed: int,
        vocabulary: Vocabulary,
        context_tokens: int,
        compiled: Compiled | None,
    ) -> None:
        self.request = request
        self.tokens = list(request.prompt)
        self.sampler = SequenceSampler(request.sampling, seed, request.prompt)
        self.matcher = compiled.start() if compiled else None
        self.out: Mailbox[Chunk | EnginebayError] = Mailbox()
        self.cancelled = False
        self.suspect = False
        self.passed_over = 0
        self.cached_tokens = 0
        self.computed_tokens = 0
        self.submitted = time.monotonic()
        self.deadline = self.submitted + request.timeout_seconds if request.timeout_seconds else None
        self.admitted: float | None = None
        self.first_token: float | None = None
        self.under_way: float | None = None
        """From when on it no longer is one of those that have just begun."""
        self._compiled = compiled
        self._text = TextStream(vocabulary, request.stop)
        self._end = frozenset[int]() if request.ignore_end else vocabulary.end
        self._context_tokens = context_tokens
        self._generated: list[int] = []
        self._new = 0
        self._shifted = 0
        self._whole: list[str] = []
        self._make_room()
        self.over: FinishReason | None = None
        for token in request.resume:
            self._take(token)

    def _make_room(self) -> None:
        """Drop the oldest half beyond ``keep_tokens`` until a token fits. Only requests that allow it get this far full."""
        keep = self.request.keep_tokens
        while len(self.tokens) >= self._context_tokens:
            drop = max(1, (len(self.tokens) - keep) // 2)
            del self.tokens[keep : keep + drop]
            self._shifted += drop

    def _take(self, token: int) -> str:
        self._generated.append(token)
        self.sampler.accept(token)
        if token in self._end:
            self.over = "stop"
            return ""
        if self.matcher:
            self.matcher.advance(token)
        text = self._text.push(token)
        if self._compiled:
            self._whole.append(text)
        if self._text.stopped is not None:
            self.over = "stop"
        elif self._is_long_enough():
            self.over = "length"
        self.tokens.append(token)
        if self.over is None:
            self._make_room()
        return text

    def _is_long_enough(self) -> bool:
        limit = self.request.max_tokens
        if limit is not None and len(self._generated) >= limit:
            return True
        return self.request.context == "error" and len(self.tokens) + 1 >= self._context_tokens

    def accept(self, token: int, logprob: TokenLogprob | None) -> None:
        """Take the token that was drawn, and give out what it adds."""
        if self.first_token is None:
            self.first_token = time.monotonic()
            self.under_way = self.first_token + BEGINNING_SECONDS
        self._new += 1
        if self._new == BEGINNING_TOKENS and self.under_way:
            self.under_way = min(self.under_way, time.monotonic())
        text = self._take(token)
        logprobs = (logprob,) if logprob else ()
        if self.over is None:
            self.out.put(Chunk(text, (token,), logprobs))
        else:
            self.finish(self.over, text, (token,), logprobs)

    def finish(
        self,
        reason: FinishReason,
        text: str = "",
        tokens: tuple[int, ...] = (),
        logprobs: tuple[TokenLogprob, ...] = (),
    ) -> None:
        """Give out the last chunk."""
        self.over = reason
        rest = self._text.finish()
        self._whole.append(rest)
        text += rest
        usage = Usage(len(self.request.prompt), len(self._generated), self.cached_tokens)
        stop = self._text.stopped
        applied = self._compiled.applied if self._compiled else None
        finish = Finish(reason, usage, self._timings(), stop, applied, self._shifted)
        self.out.put(Chunk(text, tokens, logprobs, finish))

    def fail(self, error: EnginebayError) -> None:
        """Give out an error; nothing follows it."""
        self.over = "cancelled"
        error.fields.setdefault("completion_tokens", len(self._generated))
        self.out.put(error)

    def concluded(self, chunk: Chunk) -> Chunk:
        """The last chunk with the verdict on a weakened constraint. It can take seconds: for the reader's thread."""
        finish = chunk.finish
        if not self._compiled or finish is None or finish.reason != "stop":
            return chunk
        valid = self._compiled.verdict("".join(self._whole))
        return evolve(chunk, finish=evolve(finish, constraint=evolve(self._compiled.applied, valid=valid)))

    def has_verdict(self, item: Chunk | EnginebayError) -> bool:
        """Whether ``concluded`` has something to check."""
        return bool(self._compiled and self._compiled.checks and isinstance(item, Chunk) and item.finish)

    def _timings(self) -> Timings:
        now = time.monotonic()
        admitted = self.admitted or now
        first = self.first_token or now
        prompt_seconds, generation_seconds = first - admitted, now - first
        return Timings(
            queue_seconds=admitted - self.submitted,
            prompt_seconds=prompt_seconds,
            generation_seconds=generation_seconds,
            first_token_seconds=first - self.submitted,
            prompt_tokens_per_second=self.computed_tokens / prompt_seconds if prompt_seconds > 0 else 0.0,
            generated_tokens_per_second=(self._new - 1) / generation_seconds if generation_seconds > 0 else 0.0,
        )


class JobStream(Iterator[Chunk]):
    """The chunks of a job. ``cancel`` ends it with a last chunk; ``close`` ends it with nothing. Any thread may call either."""

    def __init__(self, job: Job, cancelled: Callable[[Job], None]) -> None:
        self._job = job
        self._cancelled = cancelled
        self._over = False

    def __next__(self) -> Chunk:
        if self._over:
            raise StopIteration
        item = self._job.out.get()
        if isinstance(item, Chunk):
            self._over = item.finish is not None
            return self._job.concluded(item) if self._over else item
        self._over = True
        raise item

    def ready(self) -> bool:
        """Whether the next chunk can be had at once. A verdict on a weakened constraint takes its time."""
        item = None if self._over else self._job.out.look()
        return self._over or (item is not None and not self._job.has_verdict(item))

    def due(self) -> bool:
        """Whether ``next`` has something to do."""
        return self._over or self._job.out.look() is not None

    def tell(self, told: Told) -> None:
        """Call ``told``, from any thread, whenever something may have come."""
        self._job.out.tell(told)

    def cancel(self) -> None:
        """Ask for the end: the last chunk, with the reason ``cancelled``, follows soon."""
        self._cancelled(self._job)

    def close(self) -> None:
        """Give up: the sequence is freed soon, and iteration ends now."""
        if not self._over:
            self._over = True
            self._cancelled(self._job)
            self._job.out.put(Cancelled("The stream was closed."))

    def __del__(self) -> None:
        self.close()
