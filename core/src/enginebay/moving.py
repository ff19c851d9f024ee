"""A stream that can change models between two tokens. It knows neither engines nor workers."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import TypeAlias

from attrs import evolve

from enginebay.data import Chunk, GenerateRequest
from enginebay.engine import Stream
from enginebay.mailbox import Told
from enginebay.model import Model

Release: TypeAlias = "Callable[[MovingStream], None]"


class MovingStream(Iterator[Chunk]):
    """The chunks of one request. After ``move`` they come from another model with the same vocabulary.

    The first model is asked to cancel; what it had drawn until then counts, and the next one resumes from there.
    ``release`` is called once the model is not needed any more, with the stream.
    """

    def __init__(self, model: Model, request: GenerateRequest, release: Release) -> None:
        self._request = request
        self._given = list(request.resume)
        self._release = release
        self._lock = threading.Lock()
        self._target: tuple[Model, Release] | None = None
        self._cancelled, self._closed = threading.Event(), threading.Event()
        self._told: Told | None = None
        self.over = False
        self._stream: Stream = model.submit(request)

    def __next__(self) -> Chunk:
        while not self.over:
            try:
                chunk = next(self._stream)
            except BaseException:
                self._end()
                raise
            self._given.extend(chunk.tokens)
            if chunk.finish is None:
                return chunk
            if chunk.finish.reason != "cancelled" or self._target is None or self._cancelled.is_set():
                self._end()
                return chunk
            # The text of a cancelled end is what had been held back; the next model will give it in its time.
            with self._lock:
                (target, release), self._target = self._target, None
                release, self._release = self._release, release
            release(self)
            try:
                self._stream = target.submit(evolve(self._request, resume=tuple(self._given)))
            except BaseException:
                self._end()
                raise
            if self._told:
                self._stream.tell(self._told)
            if self._closed.is_set():
                self._stream.close()
            elif self._cancelled.is_set():
                self._stream.cancel()
            if chunk.tokens:
                return evolve(chunk, text="", finish=None)
        raise StopIteration

    def ready(self) -> bool:
        """Whether the next chunk can be had at once; a change of models takes its time."""
        return self.over or (self._target is None and self._stream.ready())

    def due(self) -> bool:
        """Whether ``next`` has something to do."""
        return self.over or self._stream.due()

    def tell(self, told: Told) -> None:
        """Call ``told``, from any thread, whenever something may have come, whichever model it is from."""
        self._told = told
        self._stream.tell(told)

    def move(self, target: Model, release: Release) -> bool:
        """Go on on ``target`` as soon as the present model lets go. False if it is over, or moving already."""
        with self._lock:
            if self.over or self._target:
                return False
            self._target = target, release
        self._stream.cancel()
        return True

    def cancel(self) -> None:
        """Ask for the end; the last chunk follows."""
        self._cancelled.set()
        self._stream.cancel()

    def close(self) -> None:
        """Give the request up."""
        self._closed.set()
        self._stream.close()
        self._end()

    def _end(self) -> None:
        with self._lock:
            over, self.over = self.over, True
            target, self._target = self._target, None
        if not over:
            self._release(self)
            if target:
                target[1](self)

    def __del__(self) -> None:
        if not self.over:
            self.close()
