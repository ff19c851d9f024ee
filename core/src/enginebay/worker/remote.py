"""The contract's hooks over a worker: the same API as inline, and a request that survives its worker.

The host keeps each running request and the tokens that it has given out. When the worker dies, the request goes on where it
was, as ``GenerateRequest.resume`` on the successor. It knows no engine; the engine's own module is asked for ``health``
without a model only.

Blame: a request that was running alone when its worker died a second time is poison, and fails. When several were running,
those that have seen two deaths go on one at a time, alone, so that the next death names one of them.
"""

from __future__ import annotations

import contextlib
import hashlib
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attrs import evolve, field, frozen

from enginebay.data import (
    AppliedConstraint,
    Chunk,
    Constraint,
    EngineInfo,
    GenerateRequest,
    Health,
    LoadRequest,
    ModelInfo,
)
from enginebay.engine import Engine
from enginebay.errors import EnginebayError, EngineCrashed, RequestError, Timeout
from enginebay.hookspecs import hookimpl
from enginebay.structure import structure, unstructure
from enginebay.worker.client import Inbox, Worker, WorkerDied
from enginebay.worker.supervisor import Supervision, Supervisor, crashed

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

DEATHS_OF_ONE = 2
REFUSE_SECONDS = 600.0


@frozen
class RemoteConstraint:
    """A constraint that the worker has compiled."""

    applied: AppliedConstraint


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

    def drop_caches(self) -> None:
        """Forget idle prefixes: memory is short."""
        self.supervisor.worker().ask({"k": "call", "hook": "drop_caches", "arguments": {}}).result()


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
        """Whether the next chunk is there already."""
        return self._inbox is not None and not self._inbox.empty()

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
                    break
                except WorkerDied:
                    dead = worker
        except BaseException:
            self._end()
            raise
        if self._cancelled:
            worker.end(self._number, "cancel")

    def _left(self) -> float | None:
        timeout = self._request.timeout_seconds
        if timeout is None:
            return None
        left = timeout - (time.monotonic() - self._began)
        if left <= 0:
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
                self._model.poison[_identity(self._request)] = time.monotonic() + REFUSE_SECONDS
            error = crashed(f"{self._model.info.engine} died with this request", died.death)
            error.fields.update(deaths=self._deaths, completion_tokens=len(self._given))
            raise error
        self._alone = self._deaths >= DEATHS_OF_ONE


def _identity(request: GenerateRequest) -> str:
    """What makes two requests the same one sent again."""
    same = evolve(request, resume=(), request_id="", sampling=evolve(request.sampling, seed=None))
    return hashlib.sha256(repr(same).encode()).hexdigest()


class RemotePlugin:
    """An engine plugin whose models live in workers. Register it in place of the engine's own module."""

    def __init__(
        self, plugin: object, info: EngineInfo, supervision: Supervision | None = None, *, recovers: bool = True
    ) -> None:
        self.engine = info
        self._local = Engine(plugin, info)
        self._supervision = supervision or Supervision()
        self._recovers = recovers

    @hookimpl
    def load(self, request: LoadRequest) -> RemoteModel:
        supervisor = Supervisor(self.engine.name, request, self._supervision)
        try:
            supervisor.worker()
        except BaseException:
            supervisor.stop(0)
            raise
        info = supervisor.info
        if info is None:
            raise EngineCrashed(f"{self.engine.name} loaded {request.path} without saying what it is.")
        return RemoteModel(info, supervisor, Gate(), self._recovers)

    @hookimpl
    def generate(self, model: RemoteModel, request: GenerateRequest) -> RemoteStream:
        until = model.poison.get(_identity(request), 0.0) if model.poison else 0.0
        if until > time.monotonic():
            raise EngineCrashed(
                "This request ended the engine's process twice and is refused for ten minutes.",
                hint="Change the request, or read the engine's log.",
                retry_after_seconds=round(until - time.monotonic()),
            )
        return RemoteStream(model, request)

    @hookimpl
    def tokenize(self, model: RemoteModel, text: str, special: bool) -> list[int]:
        tokens: list[int] = _ask(model, "tokenize", text=text, special=special)
        return tokens

    @hookimpl
    def detokenize(self, model: RemoteModel, tokens: Sequence[int]) -> bytes:
        return bytes.fromhex(_ask(model, "detokenize", tokens=list(tokens)))

    @hookimpl
    def grammar(self, model: RemoteModel, constraint: Constraint) -> RemoteConstraint:
        applied = _ask(model, "grammar", constraint=unstructure(constraint))
        return RemoteConstraint(structure(applied, AppliedConstraint, error=RequestError))

    @hookimpl
    def health(self, model: RemoteModel | None) -> Health:
        if model is None:
            return self._local.health(None)
        return structure(_ask(model, "health"), Health, error=RequestError)

    @hookimpl
    def embed(self, model: RemoteModel, texts: Sequence[str], normalize: bool) -> npt.NDArray[np.float32]:
        import numpy as np

        return np.asarray(_ask(model, "embed", texts=list(texts), normalize=normalize), dtype=np.float32)

    @hookimpl
    def rerank(self, model: RemoteModel, query: str, documents: Sequence[str]) -> list[float]:
        scores: list[float] = _ask(model, "rerank", query=query, documents=list(documents))
        return scores

    @hookimpl
    def save_session(self, model: RemoteModel, tokens: Sequence[int]) -> bytes:
        with _private_file() as file:
            _ask(model, "save_session", tokens=list(tokens), file=str(file))
            return file.read_bytes()

    @hookimpl
    def load_session(self, model: RemoteModel, tokens: Sequence[int], state: bytes) -> int:
        with _private_file() as file:
            file.write_bytes(state)
            restored: int = _ask(model, "load_session", tokens=list(tokens), file=str(file))
            return restored


def _ask(model: RemoteModel, hook: str, **arguments: Any) -> Any:
    """Call a hook in the worker; if that worker dies, once more in its successor."""
    worker = model.supervisor.worker()
    try:
        return worker.ask({"k": "call", "hook": hook, "arguments": arguments}).result()
    except WorkerDied:
        pass
    successor = model.supervisor.worker(worker)
    try:
        return successor.ask({"k": "call", "hook": hook, "arguments": arguments}).result()
    except WorkerDied as died:
        raise crashed(f"{model.info.engine} died twice during {hook}", died.death) from None


@contextlib.contextmanager
def _private_file() -> Iterator[Path]:
    """A file that only this user can read: state is larger than a frame may be."""
    with tempfile.TemporaryDirectory(prefix="enginebay-") as folder:
        file = Path(folder) / "state"
        file.touch(mode=0o600)
        yield file
