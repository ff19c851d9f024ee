"""What all clauses share: which engine and model are tested, how they are opened, how a hang is noticed. No clause."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import pytest
from attrs import evolve

from enginebay import opening
from enginebay.config import Config
from enginebay.data import Capability, Chunk, Isolation, LoadRequest
from enginebay.engine import Engine, Stream
from enginebay.errors import EnginebayError
from enginebay.model import Model
from enginebay.result import Result

T = TypeVar("T")


class Subject:
    """The engine under test. A subclass names it; the rest has defaults that fit a small model.

    ``options`` are the engine's own. ``tokens`` is how many tokens a clause generates where it may choose, ``draws``
    how many times a distribution is drawn from: lower both for a slow engine. ``patience_seconds`` is how long a
    request may take before a clause calls it hung. ``prompt`` is any text that the model continues.
    """

    engine: ClassVar[str] = ""
    model: ClassVar[str] = ""
    options: ClassVar[Mapping[str, Any]] = {}
    isolation: ClassVar[Isolation | None] = None
    prompt: ClassVar[str] = "Once upon a time"
    tokens: ClassVar[int] = 16
    draws: ClassVar[int] = 100
    patience_seconds: ClassVar[float] = 120.0

    @pytest.fixture(scope="class")
    @classmethod
    def opened(cls) -> Iterator[Model]:
        """One open model for all clauses that do not close it."""
        with cls.open() as model:
            yield model

    @classmethod
    def plan(cls, **fields: Any) -> opening.Plan:
        """How the model is opened, with fields of ``LoadRequest`` replaced."""
        plan = opening.resolve(cls.model, cls.engine, Config(), isolation=cls.isolation, options=cls.options)
        return evolve(plan, request=evolve(plan.request, **fields))

    @classmethod
    def open(cls, **fields: Any) -> Model:
        return opening.load(cls.plan(**fields))

    @classmethod
    def load_path(cls, path: Path) -> Model:
        """Load a path through the plugin's hooks, past the check of formats that comes before them."""
        plan = cls.plan()
        engine = Engine(plan.plugin.module, plan.plugin.info)
        request = LoadRequest(path=path, format=plan.request.format, options=plan.request.options)
        return Model(engine, engine.load(request), path.name)

    def within(self, work: Callable[[], T]) -> T:
        """Do something in a thread of its own; fail when it hangs."""
        done: list[T] = []
        failed: list[BaseException] = []

        def run() -> None:
            try:
                done.append(work())
            except BaseException as error:
                failed.append(error)

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        thread.join(self.patience_seconds)
        assert not thread.is_alive(), f"nothing came back within {self.patience_seconds:g} seconds"
        if failed:
            raise failed[0]
        return done[0]

    def greedy(self, model: Model, prompt: str | Sequence[int] | None = None, **options: Any) -> Result:
        """A greedy generation of ``tokens`` tokens, which an end token does not end."""
        given = self.prompt if prompt is None else prompt
        asked: dict[str, Any] = {"temperature": 0.0, "max_tokens": self.tokens, "ignore_end": True, **options}
        return self.within(lambda: model.generate(given, **asked))

    def drawn(self, model: Model, prompt: str | Sequence[int] | None = None, **options: Any) -> Result:
        """A hot, unfiltered generation with a seed."""
        hot: dict[str, Any] = {"temperature": 1.5, "top_k": 0, "top_p": 1.0, "min_p": 0.0, "seed": 7, **options}
        return self.greedy(model, prompt, **hot)

    def collect(self, stream: Stream) -> list[Chunk]:
        """All chunks of a stream."""
        return self.within(lambda: list(stream))

    def first(self, stream: Stream) -> Chunk | None:
        """The next chunk of a stream, or None at its end."""
        return self.within(lambda: next(stream, None))

    def together(self, work: Sequence[Callable[[], T]]) -> list[T]:
        """Do several things at once, each in a thread; their results in order."""
        done: dict[int, T] = {}
        failed: list[BaseException] = []

        def run(index: int, one: Callable[[], T]) -> None:
            try:
                done[index] = one()
            except BaseException as error:
                failed.append(error)

        threads = [threading.Thread(target=run, args=pair, daemon=True) for pair in enumerate(work)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(self.patience_seconds)
        assert not any(thread.is_alive() for thread in threads), "some of the requests made at once never came back"
        if failed:
            raise failed[0]
        return [done[index] for index in range(len(work))]

    def settles(self, condition: Callable[[], bool], otherwise: str) -> None:
        """Wait until a condition holds; fail when it never does."""
        end = time.monotonic() + min(10.0, self.patience_seconds)
        while not condition() and time.monotonic() < end:
            time.sleep(0.01)
        assert condition(), otherwise

    def long_prompt(self, model: Model, tokens: int) -> list[int]:
        """A prompt of so many tokens, as text would give."""
        once = [*model.tokenize(f"{self.prompt}. ", special=False)]
        prompt = [*model.info.prefix_tokens, *once * (tokens // len(once) + 1)]
        return prompt[:tokens]

    def lacks(self, model: Model, capability: Capability) -> bool:
        """Whether the model does not declare a capability, and a clause must see it refused."""
        return capability not in model.info.capabilities


def usable(model: Model) -> None:
    """Assert that a model still answers: what went wrong before must not have hurt it."""
    assert model.health().healthy, f"the model no longer answers: {model.health().reason}"


def refused(kind: type[EnginebayError]) -> pytest.RaisesExc[EnginebayError]:
    """Expect exactly this error of the tree, with a message."""
    return pytest.raises(kind, match=r"\w")
