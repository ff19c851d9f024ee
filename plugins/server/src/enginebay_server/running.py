"""Requests that run on engines, awaited on the event loop. It knows no endpoint and no form of answer.

Streams tell when something has come, so no thread waits for them; what is ready is taken together. A thread is used for what
takes a while: loading and submitting, and going on elsewhere when a worker dies or the engine is switched.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import deque
from collections.abc import Callable
from typing import TypeAlias

from attrs import evolve, frozen

from enginebay.aio import Bell
from enginebay.bay import Bay
from enginebay.data import Chunk, Finish, GenerateRequest, TokenLogprob
from enginebay.engine import Stream
from enginebay.errors import Cancelled
from enginebay.model import Model

TOGETHER = 64
"""The most chunks of a stream that are made one."""
Build: TypeAlias = Callable[[Model], GenerateRequest]


@frozen
class Job:
    """What to run: for each choice how its request is built once the model is known, and the model's name."""

    id: str
    builds: tuple[Build, ...]
    model: str | None = None


@frozen
class Started:
    """A choice is in line or running, on this model."""

    model: str
    engine: str


class Running:
    """A job under way. Read it to the end with ``next``, or ``close`` it; ``cancel`` may come from anywhere.

    :param finished: told how each choice ended
    """

    def __init__(self, bay: Bay, job: Job, finished: Callable[[Finish], None]) -> None:
        self.job = job
        self._bay = bay
        self._finished = finished
        self._bell = Bell()
        self._lock = threading.Lock()
        self._models: dict[int, Model] = {}
        self._streams: dict[int, Stream] = {}
        self._items: deque[tuple[int, Chunk]] = deque()
        self._failures: deque[BaseException] = deque()
        self._busy: set[int] = set()
        self._closed = False
        self.cancelled = False
        for choice in range(len(job.builds)):
            threading.Thread(target=self._submit, args=(choice,), name="enginebay-request", daemon=True).start()

    async def begin(self, load_wait_seconds: float, first_wait_seconds: float) -> list[Started]:
        """Wait until every choice has a model, and then a while for what each of them says first.

        :raises TimeoutError: a model did not come in time
        :raises BaseException: what went wrong before the first chunk
        """
        count = len(self.job.builds)
        async with asyncio.timeout(load_wait_seconds):
            await self._until(lambda: len(self._streams) == count)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(first_wait_seconds):
                await self._until(lambda: len({choice for choice, _ in self._items}) == count)
        return [Started(self._models[choice].name, self._models[choice].info.engine) for choice in range(count)]

    async def next(self) -> tuple[int, Chunk, dict[int, bytes]]:
        """The next chunk: the choice it belongs to, and the bytes of the tokens that its log-probabilities name.

        :raises BaseException: what went wrong with a choice
        """
        if not self._items:
            await self._until(lambda: bool(self._items))
        choice, chunk = self._items.popleft()
        if chunk.finish:
            self._finished(chunk.finish)
        pieces: dict[int, bytes] = {}
        if chunk.logprobs:
            pieces = await asyncio.to_thread(_pieces, self._models[choice], chunk.logprobs)
        return choice, chunk, pieces

    async def _until(self, enough: Callable[[], bool]) -> None:
        """Take chunks from the streams until there are enough. Chunks that came before a failure come first."""
        while True:
            self._bell.silence()
            if not self._items or not enough():
                self._take()
            if enough():
                return
            if self._failures:
                raise self._failures[0]
            await self._bell.wait()

    def _take(self) -> None:
        """What is ready now, from every choice in turn; what takes a while is waited for on a thread."""
        with self._lock:
            streams = [(choice, stream) for choice, stream in self._streams.items() if choice not in self._busy]
        for choice, stream in streams:
            chunks: list[Chunk] = []
            try:
                while len(chunks) < TOGETHER and stream.due() and stream.ready():
                    chunks.append(next(stream))
                    if chunks[-1].finish:
                        self._busy.add(choice)  # for good
                        break
            except BaseException as error:
                self._failures.append(error)
                self._busy.add(choice)
            if chunks:
                self._items.append((choice, chunks[0] if len(chunks) == 1 else joined(chunks)))
            elif choice not in self._busy and stream.due() and not stream.ready():
                self._busy.add(choice)
                threading.Thread(target=self._wait, args=(choice, stream), name="enginebay-wait", daemon=True).start()

    @property
    def closed(self) -> bool:
        """Whether nobody waits for it any more."""
        return self._closed

    def cancel(self) -> None:
        """Ask for the end."""
        with self._lock:
            self.cancelled = True
            streams = list(self._streams.values())
        for stream in streams:
            stream.cancel()

    def close(self) -> None:
        """Give the request up and free its sequences."""
        with self._lock:
            self._closed = True
            streams, self._streams = list(self._streams.values()), {}
        for stream in streams:
            stream.close()

    # --- on threads -------------------------------------------------------------------------------------------

    def _submit(self, choice: int) -> None:
        """Load the model if that is needed, build the request, and put it in line."""
        try:
            stream = self._bay.submit(lambda model: self._request(model, choice), self.job.model)
            with self._lock:
                closed = self._closed
                if not closed:
                    self._streams[choice] = stream
                cancelled = self.cancelled
            if closed:
                stream.close()
                return
            if cancelled:
                stream.cancel()
            stream.tell(self._bell.ring)
        except BaseException as error:
            self._failures.append(error)
            self._bell.ring()

    def _request(self, model: Model, choice: int) -> GenerateRequest:
        if self._closed:
            raise Cancelled("The client left.")
        self._models[choice] = model
        return evolve(self.job.builds[choice](model), request_id=self.job.id)

    def _wait(self, choice: int, stream: Stream) -> None:
        """Take one chunk that does not come at once: the request goes on in another worker, or on another engine."""
        try:
            chunk = next(stream)
            self._items.append((choice, chunk))
            if not chunk.finish:
                self._busy.discard(choice)
        except BaseException as error:
            self._failures.append(error)
        self._bell.ring()


def joined(chunks: list[Chunk]) -> Chunk:
    """Several chunks in a row as one."""
    return Chunk(
        text="".join(chunk.text for chunk in chunks),
        tokens=tuple(token for chunk in chunks for token in chunk.tokens),
        logprobs=tuple(one for chunk in chunks for one in chunk.logprobs),
        finish=chunks[-1].finish,
    )


_known_pieces: dict[tuple[str, int], bytes] = {}
MAX_KNOWN_PIECES = 1_000_000


def _pieces(model: Model, logprobs: tuple[TokenLogprob, ...]) -> dict[int, bytes]:
    """The bytes of each token that is named."""
    fingerprint = model.info.vocabulary_fingerprint
    wanted = {token for one in logprobs for token in (one.token, *(other for other, _ in one.top))}
    if len(_known_pieces) > MAX_KNOWN_PIECES:
        _known_pieces.clear()
    return {token: _piece(model, fingerprint, token) for token in wanted}


def _piece(model: Model, fingerprint: str, token: int) -> bytes:
    key = fingerprint, token
    if key not in _known_pieces:
        _known_pieces[key] = model.detokenize([token])
    return _known_pieces[key]


class Registry:
    """The requests that run now, by id."""

    def __init__(self) -> None:
        self._running: dict[str, Running] = {}

    def __len__(self) -> int:
        return len(self._running)

    def add(self, running: Running) -> None:
        self._running[running.job.id] = running

    def remove(self, running: Running) -> None:
        if self._running.get(running.job.id) is running:
            del self._running[running.job.id]

    def cancel(self, id_: str) -> bool:
        """Cancel the request with this id; False if there is none."""
        running = self._running.get(id_)
        if running:
            running.cancel()
        return running is not None
