"""The façade: observers see and replace what passes, and no native exception gets through, from the middle of a stream either."""

from __future__ import annotations

import pickle
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve, frozen

from enginebay import hookimpl, opening, registry
from enginebay.data import Chunk, EngineInfo, GenerateRequest, Health, LoadRequest, ModelFormat, ModelInfo
from enginebay.engine import Engine
from enginebay.errors import (
    BY_CODE,
    ContractError,
    EnginebayError,
    GenerationError,
    ModelLoadError,
    OutOfMemory,
    Unsupported,
)
from enginebay.model import Model

INFO = EngineInfo("bad", "fails in every way", (ModelFormat("bad", file="*.bad"),))

MODEL = ModelInfo("bad", Path("x.bad"), "bad", 64, 1, 8, "", frozenset())


@frozen
class Handle:
    info: ModelInfo = MODEL

    def close(self) -> None:
        """Nothing to free."""


class BadPlugin:
    """What a careless plugin does: raises what its library raises, or returns nothing."""

    engine = INFO

    @hookimpl
    def load(self, request: LoadRequest) -> Handle:
        if request.path.name == "broken.bad":
            raise KeyError("weights")
        if request.path.name == "huge.bad":
            raise MemoryError
        return Handle()

    @hookimpl
    def generate(self, model: Handle, request: GenerateRequest) -> Iterator[Chunk]:
        yield Chunk("a", (1,))
        if request.max_tokens == 1:
            raise MemoryError
        raise RuntimeError("native library failed")

    @hookimpl
    def tokenize(self, model: Handle, text: str, special: bool) -> Any:
        return None

    @hookimpl
    def grammar(self, model: Handle, constraint: Any) -> Any:
        raise ZeroDivisionError("division by zero")

    @hookimpl
    def health(self, model: Handle | None) -> Health:
        raise OSError("libbad.so: cannot open shared object file")


def test_native_exceptions_become_errors_of_the_tree() -> None:
    engine = Engine(BadPlugin(), INFO)
    with pytest.raises(ModelLoadError, match="KeyError") as caught:
        engine.load(LoadRequest(Path("broken.bad"), "bad"))
    assert isinstance(caught.value.__cause__, KeyError)
    with pytest.raises(OutOfMemory):
        engine.load(LoadRequest(Path("huge.bad"), "bad"))
    handle = engine.load(LoadRequest(Path("fine.bad"), "bad"))
    stream = engine.generate(handle, GenerateRequest((1,)))
    assert next(stream).text == "a"
    with pytest.raises(GenerationError, match="native library failed"):
        next(stream)
    stream = engine.generate(handle, GenerateRequest((1,), max_tokens=1))
    assert next(stream).text == "a"
    with pytest.raises(OutOfMemory):
        next(stream)
    with pytest.raises(ContractError, match="tokenize"):
        engine.tokenize(handle, "x", False)
    with pytest.raises(EnginebayError, match="division by zero"):
        engine.grammar(handle, None)  # type: ignore[arg-type]
    health = engine.health(None)
    assert not health.healthy
    assert "libbad.so" in (health.reason or "")
    with pytest.raises(Unsupported, match="embed"):
        engine.embed(handle, ["x"], False)


def test_a_misspelt_hook_is_named() -> None:
    class Misspelt(BadPlugin):
        @hookimpl
        def generat(self, model: Handle) -> None:
            """Not a hook."""

    with pytest.raises(ContractError, match="generat"):
        Engine(Misspelt(), INFO)


def test_an_observer_sees_and_replaces_what_passes() -> None:
    class Shout:
        seen = 0

        @hookimpl(wrapper=True)
        def generate(self, model: Any, request: GenerateRequest) -> Generator[None, Any, Any]:
            chunks = yield

            def louder() -> Iterator[Chunk]:
                for chunk in chunks:
                    self.seen += len(chunk.tokens)
                    yield evolve(chunk, text=chunk.text.upper())

            return louder()

    observer = Shout()
    plugin = registry.load("echo")
    plan = opening.resolve("echo", "echo")
    engine = Engine(plugin.module, plugin.info, [observer])
    with Model(engine, engine.load(plan.request), "echo") as model:
        assert model.generate("say it", temperature=0).text.strip() == "SAY IT"
    assert observer.seen >= len("say it")


@pytest.mark.parametrize("kind", BY_CODE.values(), ids=BY_CODE)
def test_errors_survive_pickling_and_the_wire(kind: type[EnginebayError]) -> None:
    error = kind("what failed", hint="a command", tokens=3)
    for copy in (pickle.loads(pickle.dumps(error)), EnginebayError.from_dict(error.to_dict())):
        assert type(copy) is kind
        assert (copy.message, copy.hint, copy.fields) == (error.message, error.hint, error.fields)
    assert "a command" in str(error)
