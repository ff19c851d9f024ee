"""A request that survives its worker: its chunks, whatever becomes of the processes that make them. It knows no hook.

The host keeps the tokens that it has given out. When the worker dies, the request goes on where it was, as
``GenerateRequest.resume`` on the successor.

Blame: a request that was running alone when its worker died a second time is poison, and fails. When several were running,
those that have seen two deaths go on one at a time, alone, so that the next death names one of them.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from attrs import evolve, field, frozen

from enginebay.data import Chunk, GenerateRequest, ModelInfo
from enginebay.errors import EnginebayError, RequestError, Timeout
from enginebay.mailbox import Told
from enginebay.worker.client import Inbox, Worker, WorkerDied
from enginebay.worker.supervisor import Supervisor, crashed

DEATHS_OF_ONE = 2
REFUSE_SECONDS = 600.0
LEAST_SECONDS = 0.001
"""A request with less time left than it may ask for has none."""


@frozen
class RemoteModel:
    """A model in a worker: what ``load`` returns."""

    info: ModelInfo
    supervisor: Supervisor
    gate: Gate
    recovers: bool = True
    poison: dict[str, float] = field(factory=dict)

    def close(self) -> None:
        self.supervisor.stop()

    def ask(self, hook: str, **arguments: Any) -> Any:
        """Call a hook in the worker; if that worker dies, once more in its successor."""
        message = {"k": "call", "hook": hook, "arguments": arguments}
        worker = self.supervisor.worker()
        try:
            return worker.ask(message).result()
        except WorkerDied:
            pass
        try:
            return self.supervisor.worker(worker).ask(message).result()
        except WorkerDied as died:
            raise crashed(f"{self.info.engine} died twice during {hook}", died.death) from None

    def render(self, messages: Sequence[Mapping[str, Any]], variables: Mapping[str, Any]) -> str:
        """The prompt for chat messages. The template is the model file's, so it runs where the file was read."""
        try:
            text: str = self.ask("render", messages=list(messages), variables=dict(variables))
        except (TypeError, ValueError) as error:
            raise RequestError(f"messages: expected plain data, as in JSON: {error}") from error
        return text

    def drop_caches(self) -> None:
        """Forget idle prefixes: memory is short."""
        self.ask("drop_caches")


class Gate:
    """Lets requests through together, or one alone."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._together = 0
        self._alone = 0
        self._occupied = False

    def enter(self, alone: bool) -> None:
        with self._changed:
            if alone:
                self._alone += 1
                while self._together or self._occupied:
                    self._changed.wait()
                self._alone -= 1
                self._occupied = True
            else:
                while self._occupied or self._alone:
                    self._changed.wait()
                self._together += 1

    def leave(self, alone: bool) -> None:
        with self._changed:
            if alone:
                self._occupied = False
            else:
                self._together -= 1
            self._changed.notify_all()


class RemoteStream(Iterator[Chunk]):
    """The chunks of one request, whatever becomes of the workers that make them."""

    def __init__(self, model: RemoteModel, request: GenerateRequest) -> None:
        self._model = model
        self._request = request
        self._given = list(request.resume)
        self._began = time.monotonic()
        self._deaths = 0
        self._alone = False
        self._inside = False
        self._over = False
        self._cancelled = False
        self._worker: Worker | None = None
        self._number = 0
        self._inbox: Inbox | None = None
        self._told: Told | None = None
        self._start()

    def __next__(self) -> Chunk:
        while not self._over:
            if self._inbox is None:
                self._start()
                continue
            item = self._inbox.get()
            if isinstance(item, WorkerDied):
                self._mourn(item)
            elif isinstance(item, Chunk):
                self._given.extend(item.tokens)
                if item.finish:
                    self._end()
                return item
            else:
                self._end()
                raise item
        raise StopIteration

    def ready(self) -> bool:
        """Whether the next chunk can be had at once; going on in another worker takes its time."""
        item = self._inbox.look() if self._inbox else None
        return self._over or (item is not None and not isinstance(item, WorkerDied))

    def due(self) -> bool:
        """Whether ``next`` has something to do."""
        return self._over or self._inbox is None or self._inbox.look() is not None

    def tell(self, told: Told) -> None:
        """Call ``told``, from any thread, whenever something may have come, whichever worker it is from."""
        self._told = told
        if self._inbox:
            self._inbox.tell(told)

    def cancel(self) -> None:
        """Ask for the end; the last chunk follows."""
        self._cancelled = True
        worker = self._worker
        if worker:
            worker.end(self._number, "cancel")

    def close(self) -> None:
        """Give the request up."""
        if not self._over:
            worker, inbox = self._worker, self._inbox
            self._end()
            if worker:
                worker.end(self._number, "close")
            if inbox:
                inbox.put(EnginebayError("The stream was closed."))

    def __del__(self) -> None:
        self.close()

    def _end(self) -> None:
        self._over = True
        self._leave()

    def _leave(self) -> None:
        if self._inside:
            self._inside = False
            self._model.gate.leave(self._alone)

    def _start(self) -> None:
        """Submit the request, or what is left of it, to the worker that serves."""
        self._model.gate.enter(self._alone)
        self._inside = True
        dead = self._worker
        try:
            while True:
                worker = self._model.supervisor.worker(dead, self._left())
                try:
                    self._number, self._inbox = worker.generate(self._remaining())
                    self._worker = worker
                    if self._told:
                        self._inbox.tell(self._told)
                    break
                except WorkerDied:
                    dead = worker
        except BaseException:
            self._end()
            raise
        if self._over:  # it was closed meanwhile
            self._leave()
            worker.end(self._number, "close")
        elif self._cancelled:
            worker.end(self._number, "cancel")

    def _left(self) -> float | None:
        timeout = self._request.timeout_seconds
        if timeout is None:
            return None
        left = timeout - (time.monotonic() - self._began)
        if left < LEAST_SECONDS:
            raise Timeout(f"The request did not finish within {timeout:g} seconds.", hint="Raise timeout_seconds.")
        return max(left, 0.001)  # the least that a request may say

    def _remaining(self) -> GenerateRequest:
        return evolve(self._request, resume=tuple(self._given), timeout_seconds=self._left())

    def _mourn(self, died: WorkerDied) -> None:
        """The worker died with this request: go on, go on alone, or fail."""
        self._leave()
        self._inbox = None
        self._deaths += 1
        sole = self._alone or died.running <= 1
        if not self._model.recovers or (self._deaths >= DEATHS_OF_ONE and sole):
            self._over = True
            if self._model.recovers:
                self._model.poison[identity(self._request)] = time.monotonic() + REFUSE_SECONDS
            error = crashed(f"{self._model.info.engine} died with this request", died.death)
            error.fields.update(deaths=self._deaths, completion_tokens=len(self._given))
            raise error
        self._alone = self._deaths >= DEATHS_OF_ONE


def identity(request: GenerateRequest) -> str:
    """What makes two requests the same one sent again."""
    same = evolve(request, resume=(), request_id="", sampling=evolve(request.sampling, seed=None))
    return hashlib.sha256(repr(same).encode()).hexdigest()
