"""Requests that run on engines, awaited on the event loop. It knows no endpoint and no form of answer.

Each choice of a request is read on a thread of its own, because a stream blocks. What is ready is handed over at once and
together. A reader that is slow stops its own threads only.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import deque
from collections.abc import Callable, Iterator
from typing import TypeAlias

from attrs import evolve, field, frozen

from enginebay.bay import Bay
from enginebay.data import Chunk, Finish, GenerateRequest, TokenLogprob
from enginebay.engine import Stream
from enginebay.errors import Cancelled
from enginebay.model import Model

Build: TypeAlias = Callable[[Model], GenerateRequest]


@frozen
class Job:
    """What to run: for each choice how its request is built once the model is known, and the model's name."""

    id: str
    builds: tuple[Build, ...]
    model: str | None = None


@frozen
class Started:
    """A choice is in line or running, on this model. It comes before the choice's first chunk."""

    model: str
    engine: str


@frozen
class Item:
    """What happened to one choice. ``pieces`` are the bytes of the tokens that ``chunk.logprobs`` names."""

    choice: int
    what: Started | Chunk | BaseException
    pieces: dict[int, bytes] = field(factory=dict)


class Running:
    """A job under way. Read it to the end with ``next``, or ``close`` it; ``cancel`` may come from anywhere.

    :param buffered_chunks: how many chunks of a choice may wait for their reader
    :param finished: told how each choice ended
    """

    def __init__(self, bay: Bay, job: Job, buffered_chunks: int, finished: Callable[[Finish], None]) -> None:
        self.job = job
        self._bay = bay
        self._finished = finished
        self._loop = asyncio.get_running_loop()
        self._items: asyncio.Queue[Item] = asyncio.Queue()
        self._held: deque[Item] = deque()
        self._room = [threading.Semaphore(buffered_chunks) for _ in job.builds]
        self._lock = threading.Lock()
        self._streams: dict[int, Stream] = {}
        self._closed = False
        self.cancelled = False
        for choice in range(len(job.builds)):
            threading.Thread(target=self._read, args=(choice,), name="enginebay-request", daemon=True).start()

    async def begin(self, load_wait_seconds: float, first_wait_seconds: float) -> list[Started]:
        """Wait until every choice has a model, and then a while for what each of them says first.

        :raises TimeoutError: a model did not come in time
        :raises BaseException: what went wrong before the first chunk
        """
        started: dict[int, Started] = {}
        heard: set[int] = set()
        async with asyncio.timeout(load_wait_seconds):
            while len(started) < len(self.job.builds):
                self._hear(await self._items.get(), started, heard)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(first_wait_seconds):
                while len(heard) < len(self.job.builds):
                    self._hear(await self._items.get(), started, heard)
        return [started[choice] for choice in range(len(self.job.builds))]

    def _hear(self, item: Item, started: dict[int, Started], heard: set[int]) -> None:
        if isinstance(item.what, BaseException):
            raise item.what
        if isinstance(item.what, Started):
            started[item.choice] = item.what
        else:
            heard.add(item.choice)
            self._held.append(item)

    async def next(self) -> tuple[int, Chunk, dict[int, bytes]]:
        """The next chunk: the choice it belongs to, and the bytes of the tokens that its log-probabilities name.

        :raises BaseException: what went wrong with a choice
        """
        item = self._held.popleft() if self._held else await self._items.get()
        if isinstance(item.what, Chunk):
            self._room[item.choice].release()
            if item.what.finish:
                self._finished(item.what.finish)
            return item.choice, item.what, item.pieces
        raise item.what if isinstance(item.what, BaseException) else AssertionError("a choice started twice")

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
        for room in self._room:
            room.release()

    # --- on the threads ---------------------------------------------------------------------------------------

    def _read(self, choice: int) -> None:
        try:
            model: list[Model] = []
            stream = self._bay.submit(lambda found: self._request(found, choice, model), self.job.model)
            with self._lock:
                if self._closed:
                    stream.close()
                    return
                self._streams[choice] = stream
                cancelled = self.cancelled
            if cancelled:
                stream.cancel()
            self._put(Item(choice, Started(model[0].name, model[0].info.engine)))
            for chunk in together(stream):
                self._room[choice].acquire()
                if self.closed:
                    return
                pieces = _pieces(model[0], chunk.logprobs) if chunk.logprobs else {}
                self._put(Item(choice, chunk, pieces))
        except BaseException as error:
            self._put(Item(choice, error))

    def _request(self, model: Model, choice: int, found: list[Model]) -> GenerateRequest:
        if self._closed:
            raise Cancelled("The client left.")
        found.append(model)
        return evolve(self.job.builds[choice](model), request_id=self.job.id)

    def _put(self, item: Item) -> None:
        try:
            self._loop.call_soon_threadsafe(self._items.put_nowait, item)
        except RuntimeError:  # the loop is gone, and so is whoever would have read this
            self.close()


def together(stream: Stream) -> Iterator[Chunk]:
    """The chunks of a stream; those that are ready at the same time as one."""
    for first in stream:
        chunks = [first]
        while chunks[-1].finish is None and len(chunks) < 64 and stream.ready():
            chunks.append(next(stream))
        yield chunks[0] if len(chunks) == 1 else joined(chunks)


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
