"""The contract's hooks over a worker: the same API as inline. It knows no engine.

The engine's own module is asked for ``health`` without a model only; everything else happens in the worker.
"""

from __future__ import annotations

import contextlib
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from attrs import frozen

from enginebay.data import (
    AppliedConstraint,
    Constraint,
    EngineInfo,
    GenerateRequest,
    Health,
    LoadRequest,
)
from enginebay.engine import Engine
from enginebay.errors import EngineCrashed, RequestError
from enginebay.hookspecs import hookimpl
from enginebay.structure import structure, unstructure
from enginebay.worker.stream import Gate, RemoteModel, RemoteStream, identity
from enginebay.worker.supervisor import Supervision, Supervisor

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


@frozen
class RemoteConstraint:
    """A constraint that the worker has compiled."""

    applied: AppliedConstraint


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
        until = model.poison.get(identity(request), 0.0) if model.poison else 0.0
        if until > time.monotonic():
            raise EngineCrashed(
                "This request ended the engine's process twice and is refused for ten minutes.",
                hint="Change the request, or read the engine's log.",
                retry_after_seconds=round(until - time.monotonic()),
            )
        return RemoteStream(model, request)

    @hookimpl
    def tokenize(self, model: RemoteModel, text: str, special: bool) -> list[int]:
        tokens: list[int] = model.ask("tokenize", text=text, special=special)
        return tokens

    @hookimpl
    def detokenize(self, model: RemoteModel, tokens: Sequence[int]) -> bytes:
        return bytes.fromhex(model.ask("detokenize", tokens=list(tokens)))

    @hookimpl
    def grammar(self, model: RemoteModel, constraint: Constraint) -> RemoteConstraint:
        applied = model.ask("grammar", constraint=unstructure(constraint))
        return RemoteConstraint(structure(applied, AppliedConstraint, error=RequestError))

    @hookimpl
    def health(self, model: RemoteModel | None) -> Health:
        if model is None:
            return self._local.health(None)
        return structure(model.ask("health"), Health, error=RequestError)

    @hookimpl
    def embed(self, model: RemoteModel, texts: Sequence[str], normalize: bool) -> npt.NDArray[np.float32]:
        import numpy as np

        return np.asarray(model.ask("embed", texts=list(texts), normalize=normalize), dtype=np.float32)

    @hookimpl
    def rerank(self, model: RemoteModel, query: str, documents: Sequence[str]) -> list[float]:
        scores: list[float] = model.ask("rerank", query=query, documents=list(documents))
        return scores

    @hookimpl
    def save_session(self, model: RemoteModel, tokens: Sequence[int]) -> bytes:
        with _private_file() as file:
            model.ask("save_session", tokens=list(tokens), file=str(file))
            return file.read_bytes()

    @hookimpl
    def load_session(self, model: RemoteModel, tokens: Sequence[int], state: bytes) -> int:
        with _private_file() as file:
            file.write_bytes(state)
            restored: int = model.ask("load_session", tokens=list(tokens), file=str(file))
            return restored


@contextlib.contextmanager
def _private_file() -> Iterator[Path]:
    """A file that only this user can read: state is larger than a frame may be."""
    with tempfile.TemporaryDirectory(prefix="enginebay-") as folder:
        file = Path(folder) / "state"
        file.touch(mode=0o600)
        yield file
