"""The typed façade over one plugin's hooks: the only user of ``pm.hook``. It knows no engine by name.

Every exception that is not of the tree is translated here, also while a stream is read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

import pluggy

from enginebay.data import Chunk, Constraint, EngineInfo, GenerateRequest, Health, LoadRequest, MemoryEstimate
from enginebay.errors import (
    ContractError,
    EnginebayError,
    EngineError,
    GenerationError,
    ModelLoadError,
    OutOfMemory,
    Unsupported,
)
from enginebay.hookspecs import PROJECT, CompiledConstraint, EngineHooks, LoadedModel, OptionalHooks
from enginebay.mailbox import Pump

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

T = TypeVar("T")


def plugin_manager(plugin: object, observers: Iterable[object] = ()) -> pluggy.PluginManager:
    """A manager of one engine and its observers, with the contract's hooks; misspelt ones are a ``ContractError``."""
    manager = pluggy.PluginManager(PROJECT)
    manager.add_hookspecs(EngineHooks)
    manager.add_hookspecs(OptionalHooks)
    try:
        manager.register(plugin, "engine")
        for observer in observers:
            manager.register(observer)
        manager.check_pending()
    except pluggy.PluginValidationError as error:
        raise ContractError(
            f"A plugin does not fit the hooks: {error}", hint="Compare it with the hook reference."
        ) from error
    return manager


class Stream(Iterator[Chunk]):
    """The chunks of one request. ``cancel`` (from any thread) ends it with a last chunk; ``close`` with nothing."""

    def __init__(self, chunks: Iterator[Chunk], engine: str) -> None:
        self._chunks = chunks
        self._engine = engine

    def __next__(self) -> Chunk:
        try:
            return next(self._chunks)
        except (StopIteration, EnginebayError):
            raise
        except Exception as error:
            raise translated(error, GenerationError, f"{self._engine} failed while generating") from error

    def ready(self) -> bool:
        """Whether the next chunk is known to be there, or the stream to be over: ``next`` does not wait."""
        return bool(getattr(self._chunks, "ready", bool)())

    def due(self) -> bool:
        """Whether ``next`` has something to do, which may take a while: the request goes on in another worker, say."""
        return bool(getattr(self._chunks, "due", bool)())

    def tell(self, told: Callable[[], None]) -> None:
        """Call ``told``, from any thread, whenever ``ready`` or ``due`` may have changed; then nobody needs to wait.

        An engine whose chunks cannot tell is read on a thread from now on.
        """
        tell = getattr(self._chunks, "tell", None)
        if tell is None:
            self._chunks = Pump(self._chunks, told)
        else:
            tell(told)

    def cancel(self) -> None:
        """Ask for the end; the last chunk then has the reason ``cancelled``. Engines that cannot do that are closed."""
        getattr(self._chunks, "cancel", self.close)()

    def close(self) -> None:
        """Give the request up and free its sequence."""
        close = getattr(self._chunks, "close", None)
        if close is not None:
            close()

    def __enter__(self) -> Stream:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self.close()


class Engine:
    """One engine plugin, called through its hooks and those of its observers."""

    def __init__(self, plugin: object, info: EngineInfo, observers: Iterable[object] = ()) -> None:
        self.info = info
        self._hook = plugin_manager(plugin, observers).hook

    def load(self, request: LoadRequest) -> LoadedModel:
        what = f"{self.info.name} could not load {request.path}"
        loaded: LoadedModel = self._call("load", ModelLoadError, what, request=request)
        if not hasattr(loaded, "info") or not hasattr(loaded, "close"):
            raise ContractError(
                f"The hook load of {self.info.name} returned {type(loaded).__name__}, not a loaded model."
            )
        return loaded

    def estimate(self, request: LoadRequest) -> MemoryEstimate | None:
        """What loading would take; None if the engine does not say."""
        estimate: MemoryEstimate | None = self._hook.estimate(request=request)
        return estimate

    def generate(self, model: LoadedModel, request: GenerateRequest) -> Stream:
        what = f"{self.info.name} failed while generating"
        return Stream(iter(self._call("generate", GenerationError, what, model=model, request=request)), self.info.name)

    def tokenize(self, model: LoadedModel, text: str, special: bool) -> list[int]:
        what = f"{self.info.name} could not tokenize"
        return list(self._call("tokenize", EngineError, what, model=model, text=text, special=special))

    def detokenize(self, model: LoadedModel, tokens: Sequence[int]) -> bytes:
        what = f"{self.info.name} could not detokenize"
        return bytes(self._optional("detokenize", model, what, tokens=tokens))

    def grammar(self, model: LoadedModel, constraint: Constraint) -> CompiledConstraint:
        what = f"{self.info.name} could not compile the constraint"
        compiled: CompiledConstraint = self._call("grammar", EngineError, what, model=model, constraint=constraint)
        return compiled

    def health(self, model: LoadedModel | None) -> Health:
        try:
            health = self._call("health", EngineError, f"{self.info.name} could not tell its health", model=model)
        except EnginebayError as error:
            return Health(False, self.info.name, reason=error.message, hint=error.hint)
        return (
            health if isinstance(health, Health) else Health(False, self.info.name, reason="health returned no Health")
        )

    def embed(self, model: LoadedModel, texts: Sequence[str], normalize: bool) -> npt.NDArray[np.float32]:
        what = f"{self.info.name} could not embed"
        vectors: npt.NDArray[np.float32] = self._optional("embed", model, what, texts=texts, normalize=normalize)
        return vectors

    def rerank(self, model: LoadedModel, query: str, documents: Sequence[str]) -> list[float]:
        what = f"{self.info.name} could not rerank"
        return list(self._optional("rerank", model, what, query=query, documents=documents))

    def save_session(self, model: LoadedModel, tokens: Sequence[int]) -> bytes:
        what = f"{self.info.name} could not save its state"
        return bytes(self._optional("save_session", model, what, tokens=tokens))

    def load_session(self, model: LoadedModel, tokens: Sequence[int], state: bytes) -> int:
        what = f"{self.info.name} could not restore its state"
        return int(self._optional("load_session", model, what, tokens=tokens, state=state))

    def _optional(self, hook: str, model: LoadedModel, what: str, **arguments: Any) -> Any:
        if hook not in model.info.capabilities:
            raise Unsupported(
                f"{self.info.name} does not offer {hook} for this model.",
                hint="enginebay engines lists what each engine can do.",
                engine=self.info.name,
                capability=hook,
            )
        return self._call(hook, EngineError, what, model=model, **arguments)

    def _call(self, hook: str, kind: type[EngineError], what: str, **arguments: Any) -> Any:
        caller: Callable[..., Any] = getattr(self._hook, hook)
        try:
            value = caller(**arguments)
        except EnginebayError:
            raise
        except Exception as error:
            raise translated(error, kind, what) from error
        if value is None:
            raise ContractError(
                f"The hook {hook} of {self.info.name} returned nothing.", engine=self.info.name, hook=hook
            )
        return value


def translated(error: Exception, kind: type[EngineError], what: str) -> EnginebayError:
    """An error of the tree for a native one, with its text."""
    if isinstance(error, MemoryError):
        return OutOfMemory(f"{what}: memory ran out.", hint="Use a smaller context or model.")
    return kind(f"{what}: {type(error).__name__}: {error}".rstrip(": "))
