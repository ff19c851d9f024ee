"""Continuous batching: which tokens go into the next step, and what becomes of its logits. It knows no native library.

Every turn admits waiting requests, makes one step over all sequences, draws a token for each row of logits, and gives it
out. Feeding is one rule: a sequence is fed what its cache lacks; a prompt is a lack of many tokens, a decoding sequence lacks
one. So a rewind (after a failed step, or when context was shifted) needs nothing but an emptied cache.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import TYPE_CHECKING

from enginebay.data import GenerateRequest, TokenLogprob
from enginebay.decode.job import Job
from enginebay.decode.pace import Pace
from enginebay.decode.protocol import Copies, Feed, Interrupts, StepInterrupted, StepModel
from enginebay.decode.sampler import log_probabilities, sample
from enginebay.decode.slots import WORTH_SHARING_TOKENS, Slot, Slots, common_prefix
from enginebay.errors import Cancelled, EnginebayError, GenerationError, OutOfMemory, QueueFull, Timeout

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from enginebay.decode.protocol import Logits

BATCH_TURN = 8
"""A request of priority ``batch`` goes first once this many interactive ones have passed it."""


class Scheduler:
    """Runs jobs on a model. ``submit``, ``cancel`` and ``shut`` may be called from any thread; ``work`` from the owner only."""

    def __init__(self, model: StepModel, *, queue_requests: int, cache_bytes: int) -> None:
        self._model = model
        self.slots = Slots(model, cache_bytes)
        self._lock = threading.Lock()
        self._waiting: deque[Job] = deque()
        self._queue_requests = queue_requests
        self._shut: EnginebayError | None = None
        self._cancels = False
        self._sole: frozenset[Job] = frozenset()
        self._pace = Pace(model.step_tokens)
        self._end_mask: npt.NDArray[np.bool_] | None = None
        self.steps = 0

    # --- from any thread ----------------------------------------------------------------------------------------

    def submit(self, job: Job) -> None:
        """Put a job in line.

        :raises QueueFull: as many wait as may wait
        :raises Cancelled: the model is closed
        """
        with self._lock:
            if self._shut:
                raise self._shut
            waiting = len(self._waiting)
            if waiting > self._queue_requests or (waiting == self._queue_requests and not self.slots.has_room):
                raise QueueFull(
                    f"{waiting} requests wait already, and at most {self._queue_requests} may.",
                    hint="Try again shortly, or load the model with a larger queue_requests.",
                    retry_after_seconds=1,
                )
            self._waiting.append(job)

    def cancel(self, job: Job) -> None:
        """End a job soon, between two steps or, where the engine can, inside one that serves nobody else."""
        job.cancelled = True
        self._cancels = True
        if job in self._sole and isinstance(self._model, Interrupts):
            self._model.interrupt()

    def shut(self, error: EnginebayError) -> None:
        """Take no more jobs and fail those that run or wait with ``error``."""
        with self._lock:
            self._shut = error
        self._cancels = True
        if self._sole and isinstance(self._model, Interrupts):
            self._model.interrupt()

    # --- on the owner thread ------------------------------------------------------------------------------------

    def work(self) -> bool:
        """One turn. Returns whether another is wanted now."""
        self._end_unwanted()
        self._admit()
        busy = self.slots.busy
        if not busy:
            return bool(self._waiting) and not self._shut
        self._step(busy)
        return True

    def _end_unwanted(self) -> None:
        if self._cancels or any(job.deadline for job in tuple(self._waiting)):
            self._cancels = False
            with self._lock:
                for job in [job for job in self._waiting if self._unwanted(job)]:
                    self._waiting.remove(job)
        for slot in self.slots.busy:
            if slot.job and self._unwanted(slot.job):
                self.slots.free(slot)

    def _unwanted(self, job: Job) -> bool:
        if job.over is not None:
            return True
        if self._shut:
            job.fail(self._shut)
        elif job.cancelled:
            job.finish("cancelled")
        elif job.deadline and time.monotonic() > job.deadline:
            seconds = job.request.timeout_seconds
            job.fail(Timeout(f"The request did not finish within {seconds:g} seconds.", hint="Raise timeout_seconds."))
        return job.over is not None

    def _admit(self) -> None:
        while self._waiting and self.slots.has_room:
            with self._lock:
                job = self._next()
                if job is None:
                    return
                self._waiting.remove(job)
            job.admitted = time.monotonic()
            try:
                self.slots.take(job)
            except Exception as error:
                job.fail(_translated(error))

    def _next(self) -> Job | None:
        """The job whose turn it is: first come first served, interactive before batch; one that can share a prompt waits."""
        ready = [job for job in self._waiting if not self._will_share(job)]
        if not ready:
            return None
        first = ready[0]
        if first.request.priority == "batch" and first.passed_over < BATCH_TURN:
            chosen = next((job for job in ready if job.request.priority == "interactive"), first)
            if chosen is not first:
                first.passed_over += 1
            return chosen
        return first

    def _will_share(self, job: Job) -> bool:
        """Whether a prompt that is being computed now will soon give this job more than anything in the cache."""
        if not job.request.cache_prompt or not isinstance(self._model, Copies):
            return False
        for slot in self.slots.busy:
            other = slot.job
            if other is None or len(other.tokens) - len(slot.tokens) < WORTH_SHARING_TOKENS:
                continue
            shared = common_prefix(other.tokens, job.tokens[:-1])
            if shared >= len(slot.tokens) + WORTH_SHARING_TOKENS:
                return True
        return False

    def _step(self, busy: list[Slot]) -> None:
        feeds, chosen, decoding = self._feeds(busy)
        self._sole = frozenset(slot.job for slot in chosen if slot.job) if len(chosen) == 1 else frozenset()
        began = time.monotonic()
        try:
            if self._cancels and self._sole:
                return
            logits = self._model.step(feeds)
        except Exception as error:
            self._recover(chosen, error)
            return
        finally:
            self._sole = frozenset()
        self.steps += 1
        rows: list[Slot] = []
        for slot, feed in zip(chosen, feeds, strict=True):
            slot.tokens.extend(feed.tokens)
            if slot.job:
                slot.job.computed_tokens += len(feed.tokens) if slot.job.first_token is None else 0
                slot.job.suspect = False
            if feed.outputs:
                rows.append(slot)
        if rows:
            self._draw(rows, logits)
        prompt_tokens = sum(len(feed.tokens) for feed in feeds) - decoding
        self._pace.learn(decoding, prompt_tokens, time.monotonic() - began)

    def _feeds(self, busy: list[Slot]) -> tuple[list[Feed], list[Slot], int]:
        """What goes into the next step: every decoding sequence, and pieces of prompts, the oldest first.

        :returns: the feeds, their slots, and how many of them decode
        """
        suspect = next((slot for slot in busy if slot.job and slot.job.suspect), None)
        if suspect:
            busy = [suspect]
        lacks = [(slot, slot.job, slot.job.tokens[len(slot.tokens) :]) for slot in busy if slot.job]
        decoding = [entry for entry in lacks if len(entry[2]) == 1]
        prompts = sorted((entry for entry in lacks if len(entry[2]) > 1), key=lambda entry: entry[1].admitted or 0.0)
        # Who arrived before any of those that decode was under way: they came together.
        since = min((job.under_way or job.submitted for _, job, _ in decoding), default=0.0)
        before = [entry for entry in prompts if entry[1].submitted <= since]
        if self._pace.holds(sum(len(lack) for _, _, lack in before)):
            decoding, prompts = [], before
        feeds = [Feed(slot.index, lack) for slot, _, lack in decoding]
        chosen = [slot for slot, _, _ in decoding]
        budget = self._model.step_tokens - len(decoding)
        if any(job.request.priority == "interactive" for _, job, _ in decoding):
            budget = min(budget, self._pace.allowance(len(decoding), len(prompts)))
        for slot, _, lack in prompts:
            piece = lack[:budget]
            if not piece:
                break
            budget -= len(piece)
            feeds.append(Feed(slot.index, piece, int(len(piece) == len(lack))))
            chosen.append(slot)
        return feeds, chosen, len(decoding)

    def _draw(self, rows: list[Slot], logits: Logits) -> None:
        vocabulary = self._model.vocabulary
        logits = logits[:, : len(vocabulary.pieces)]
        jobs = [slot.job for slot in rows if slot.job]
        allowed: list[npt.NDArray[np.bool_] | None] = []
        failed: dict[Job, EnginebayError] = {}
        for job in jobs:
            try:
                allowed.append(self._allowed(job, logits.shape[1]))
            except EnginebayError as error:
                failed[job] = error
                allowed.append(None)
        try:
            drawn = sample(logits, [job.sampler for job in jobs], allowed)
        except EnginebayError:
            drawn = self._draw_each(jobs, logits, allowed, failed)
        for slot, job, row, token in zip(rows, jobs, logits, drawn, strict=True):
            if job in failed:
                job.fail(failed[job])
            else:
                try:
                    job.accept(token, _logprob(job, row, token))
                except EnginebayError as error:
                    job.fail(error)
            if job.over is not None:
                self.slots.free(slot)
            elif len(job.tokens) <= len(slot.tokens):
                self.slots.cut(slot, common_prefix(slot.tokens, job.tokens[:-1]))

    def _draw_each(
        self,
        jobs: list[Job],
        logits: Logits,
        allowed: list[npt.NDArray[np.bool_] | None],
        failed: dict[Job, EnginebayError],
    ) -> list[int]:
        """One row has nothing to draw from: find out which, and let the others go on."""
        drawn = []
        for i, job in enumerate(jobs):
            try:
                drawn.extend(sample(logits[i : i + 1], [job.sampler], allowed[i : i + 1]))
            except EnginebayError as error:
                failed[job] = error
                drawn.append(0)
        return drawn

    def _allowed(self, job: Job, width: int) -> npt.NDArray[np.bool_] | None:
        mask = job.matcher.allowed(width) if job.matcher else None
        if not job.request.ignore_end:
            return mask
        if self._end_mask is None:
            import numpy as np

            self._end_mask = np.ones(width, dtype=np.bool_)
            self._end_mask[list(self._model.vocabulary.end)] = False
        return self._end_mask if mask is None else mask & self._end_mask

    def _recover(self, chosen: list[Slot], error: Exception) -> None:
        """After a failed step: its sequences are empty. Alone, a job fails; together, each is tried alone once."""
        interrupted = isinstance(error, StepInterrupted)
        for slot in chosen:
            slot.tokens.clear()
            self._model.keep(slot.index, 0)
            job = slot.job
            if job is None or interrupted:
                continue
            if len(chosen) == 1:
                job.fail(_translated(error))
                self.slots.free(slot)
            else:
                job.suspect = True


def _logprob(job: Job, row: npt.NDArray[np.float32], token: int) -> TokenLogprob | None:
    top = job.request.logprobs
    return None if top is None else log_probabilities(row, token, top)


def _translated(error: Exception) -> EnginebayError:
    if isinstance(error, EnginebayError):
        return error
    if isinstance(error, MemoryError):
        wrapped: EnginebayError = OutOfMemory(
            "Memory ran out in a step of the model.", hint="Use a smaller context_tokens."
        )
    elif isinstance(error, StepInterrupted):
        wrapped = Cancelled("The step was given up.")
    else:
        wrapped = GenerationError(f"The engine failed in a step: {type(error).__name__}: {error}")
    wrapped.__cause__ = error
    return wrapped


def unknown_tokens(request: GenerateRequest, vocabulary_tokens: int) -> list[int]:
    """Token ids of a request that are not in the vocabulary."""
    given = {*request.prompt, *request.resume, *request.sampling.logit_bias}
    return sorted(token for token in given if not 0 <= token < vocabulary_tokens)[:8]
