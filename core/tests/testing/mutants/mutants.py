"""Engines that each break one clause, made of echo. ``MUTANTS`` names them by clause; each is a plugin module."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import numpy as np
from attrs import evolve

from enginebay.data import Choice, Chunk, Gbnf, GenerateRequest, Health, JsonObject, JsonSchema, LoadRequest, Regex
from enginebay.decode.handle import DecodeModel
from enginebay.errors import Cancelled, GrammarError, ModelLoadError, Unsupported
from enginebay.hookspecs import hookimpl
from enginebay_echo import plugin as echo
from enginebay_echo.steps import EchoModel

GOOD = Path(echo.__file__).parent / "models" / "echo.echo"
HOOKS = ("detokenize", "embed", "generate", "grammar", "health", "load", "load_session", "save_session", "tokenize")
MUTANTS: dict[str, ModuleType] = {}


def mutant(
    clause: str, *, steps: type[EchoModel] = EchoModel, handle: type[DecodeModel] = DecodeModel, **hooks: Any
) -> ModuleType:
    """A plugin like echo but for its step model, its handle, or some hooks (or its ``engine``)."""
    module = ModuleType(f"mutant_{clause}")
    info = evolve(echo.engine, name=clause)

    def load(request: LoadRequest) -> DecodeModel:
        return handle.open(request, info, lambda: steps(request))

    for name in HOOKS:
        setattr(module, name, getattr(echo, name))
    for name, value in {"engine": info, "load": load, **hooks}.items():
        setattr(module, name, hookimpl(value) if callable(value) else value)
    MUTANTS[clause] = module
    return module


class Chunks(Iterator[Chunk]):
    """The chunks of a job, closed and cancelled as the job is. Mutants change one of the three."""

    def __init__(self, job: Any, change: Callable[[Chunk], Chunk] = lambda chunk: chunk) -> None:
        self.job, self.change, self.closed = job, change, False

    def __next__(self) -> Chunk:
        if self.closed:
            raise StopIteration
        return self.change(next(self.job))

    def cancel(self) -> None:
        self.job.cancel()

    def close(self) -> None:
        self.job.close()


def asks(change: Callable[[GenerateRequest], GenerateRequest]) -> Callable[..., Iterator[Chunk]]:
    """A ``generate`` that changes the request."""

    def generate(model: DecodeModel, request: GenerateRequest) -> Iterator[Chunk]:
        return model.generate(change(request))

    return generate


def says(
    change: Callable[[Chunk, GenerateRequest], Chunk], kind: type[Chunks] = Chunks
) -> Callable[..., Iterator[Chunk]]:
    """A ``generate`` that changes each chunk."""

    def generate(model: DecodeModel, request: GenerateRequest) -> Iterator[Chunk]:
        return kind(model.generate(request), lambda chunk: change(chunk, request))

    return generate


def finishes(change: Callable[[Any, GenerateRequest], Any]) -> Callable[..., Iterator[Chunk]]:
    """A ``generate`` that changes how the last chunk says it ended."""
    return says(lambda c, request: evolve(c, finish=change(c.finish, request)) if c.finish else c)


def samples(**fields: Any) -> Callable[..., Iterator[Chunk]]:
    """A ``generate`` that replaces fields of the sampling."""
    return asks(lambda request: evolve(request, sampling=evolve(request.sampling, **fields)))


def constrains(kind: type, change: Callable[[Any], Any]) -> Callable[..., Iterator[Chunk]]:
    """A ``generate`` that replaces constraints of a kind."""
    return asks(lambda r: evolve(r, constraint=change(r.constraint)) if isinstance(r.constraint, kind) else r)


def loads(change: Callable[[LoadRequest], LoadRequest], clause: str) -> Callable[..., Any]:
    """A ``load`` that changes the request, and says of the model that it is what was asked for."""

    def load(request: LoadRequest) -> Any:
        return DecodeModel.open(request, MUTANTS[clause].engine, lambda: EchoModel(change(request)))

    return load


def tolerates(wrong: Callable[[Path], bool], clause: str) -> Callable[..., Any]:
    """A ``load`` that takes a good model where the path is wrong in one way."""
    return loads(lambda request: evolve(request, path=GOOD) if wrong(request.path) else request, clause)


# --- the plugin -------------------------------------------------------------------------------------------------------

mutant("e03", engine=evolve(echo.engine, name="e03", summary=""))
mutant("e04", tokenize=lambda model, text: model.tokenize(text, True))


def health_that_raises(model: DecodeModel | None) -> Health:
    if model is None:
        raise OSError("no library")
    return echo.health(model)


mutant("e05", health=health_that_raises)
mutant("e06", health=lambda model: evolve(echo.health(None), healthy=True, reason=None))
mutant("e07", load=tolerates(lambda path: not path.exists(), "e07"))
mutant("e08", load=tolerates(lambda path: path.is_file() and not path.stat().st_size, "e08"))
mutant("e09", load=tolerates(lambda path: path.is_file() and path.read_bytes().startswith(b"#echo 1"), "e09"))
mutant("e10", load=tolerates(lambda path: path.is_file() and not path.read_bytes().startswith(b"#"), "e10"))
mutant("e11", load=tolerates(Path.is_dir, "e11"))


def load_with_a_thread(request: LoadRequest, always: bool = False) -> Any:
    try:
        model = echo.load(request)
    except ModelLoadError:
        threading.Thread(target=threading.Event().wait, daemon=True).start()
        raise
    if always:
        threading.Thread(target=threading.Event().wait, daemon=True).start()
    return model


mutant("e12", load=lambda request: load_with_a_thread(request))
mutant("e13", load=loads(lambda request: evolve(request, context_tokens=None), "e13"))

# --- tokens -----------------------------------------------------------------------------------------------------------

mutant("e14", tokenize=lambda model, text, special: model.tokenize(text.strip(), special))
mutant("e15", tokenize=lambda model, text, special: model.tokenize(text, True))
mutant("e16", detokenize=lambda model, tokens: model.detokenize([token % 256 for token in tokens]))
last_text = [""]


def tokenize_with_a_shared_buffer(model: DecodeModel, text: str, special: bool) -> list[int]:
    last_text[0] = text
    time.sleep(0.001)
    return model.tokenize(last_text[0], special)


mutant("e17", tokenize=tokenize_with_a_shared_buffer)

# --- generation -------------------------------------------------------------------------------------------------------


def generate_with_two_ends(model: DecodeModel, request: GenerateRequest) -> Iterator[Chunk]:
    first, *rest = model.generate(request)
    return iter([evolve(first, finish=rest[-1].finish), *rest] if rest else [first])


def one_by_one(chunk: Chunk, _request: GenerateRequest) -> Chunk:
    return evolve(chunk, text=bytes(token for token in chunk.tokens if token < 256).decode("utf-8", "replace"))


class ElsewhereInDecode(EchoModel):
    """Computes a sequence that grows by one token differently from one that is given whole."""

    def step(self, feeds: Sequence[Any]) -> Any:
        single = [feed for feed in feeds for _ in range(feed.outputs)]
        logits = super().step(feeds)
        for row, feed in zip(logits, single, strict=True):
            if len(feed.tokens) == 1:
                row[:] = np.roll(row, 1)
        return logits


mutant("e18", generate=says(lambda chunk, _: evolve(chunk, text=chunk.text.upper())))
mutant("e19", generate=generate_with_two_ends)
mutant(
    "e20",
    generate=finishes(lambda f, _: evolve(f, usage=evolve(f.usage, completion_tokens=f.usage.completion_tokens + 1))),
)
mutant("e21", generate=asks(lambda r: evolve(r, max_tokens=r.max_tokens + 1 if r.max_tokens else None)))
mutant("e22", steps=ElsewhereInDecode)
mutant("e23", generate=says(one_by_one))
mutant("e24", generate=says(lambda c, _: evolve(c, text=c.text + "<|im_end|>") if {256, 258} & {*c.tokens} else c))
mutant("e25", generate=asks(lambda request: evolve(request, ignore_end=False)))

# --- sampling ---------------------------------------------------------------------------------------------------------

mutant(
    "e26", generate=asks(lambda r: evolve(r, sampling=evolve(r.sampling, temperature=r.sampling.temperature or 0.9)))
)
mutant("e27", generate=samples(seed=None))
mutant("e28", generate=samples(top_k=0, top_p=1.0, min_p=0.0))
mutant(
    "e29", generate=asks(lambda r: evolve(r, sampling=evolve(r.sampling, temperature=min(1, r.sampling.temperature))))
)
mutant("e30", generate=samples(logit_bias={}))
mutant("e31", generate=samples(frequency_penalty=0.0))


def cooled(chunk: Chunk, request: GenerateRequest) -> Chunk:
    heat = request.sampling.temperature or 1.0
    return evolve(
        chunk,
        logprobs=tuple(
            evolve(entry, top=tuple((token, logprob / heat) for token, logprob in entry.top))
            for entry in chunk.logprobs
        ),
    )


mutant("e32", generate=says(cooled))

# --- stopping ---------------------------------------------------------------------------------------------------------

mutant("e33", generate=says(lambda c, _: evolve(c, text=c.text + c.finish.stop) if c.finish and c.finish.stop else c))
mutant("e34", generate=asks(lambda request: evolve(request, stop=tuple(s for s in request.stop if len(s) < 2))))
mutant("e35", generate=says(lambda c, request: evolve(c, text="") if c.finish and request.stop else c))

# --- many at once -----------------------------------------------------------------------------------------------------


class NeverCancelled(Chunks):
    """Ends for its reader when it is closed, and for nobody else."""

    def cancel(self) -> None:
        self.closed = True

    close = cancel


class DeafToCancel(Chunks):
    def cancel(self) -> None:
        pass


class DeafUntilItSpeaks(Chunks):
    """Can be closed only after its first chunk."""

    spoke = False

    def __next__(self) -> Chunk:
        chunk = super().__next__()
        self.spoke = True
        return chunk

    def close(self) -> None:
        if self.spoke:
            super().close()


class OneThread(Chunks):
    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.thread: threading.Thread | None = None

    def __next__(self) -> Chunk:
        self.thread = self.thread or threading.current_thread()
        if threading.current_thread() is not self.thread:
            raise RuntimeError("read by two threads")
        return super().__next__()


def generate_for_itself(model: DecodeModel, request: GenerateRequest) -> Iterator[Chunk]:
    chunks = model.generate(request)
    return NeverCancelled(chunks) if request.context == "shift" else chunks


class RowsReversed(EchoModel):
    def step(self, feeds: Sequence[Any]) -> Any:
        return super().step(feeds)[::-1].copy()


class CutsItsNeighbour(EchoModel):
    def keep(self, sequence: int, n: int) -> int:
        super().keep((sequence + 1) % self.sequences, n)
        return super().keep(sequence, n)

    def copy(self, source: int, target: int, n: int) -> None:
        super().copy(source, target, n)
        super().keep((target + 1) % self.sequences, n)


def same(chunk: Chunk, _request: GenerateRequest) -> Chunk:
    return chunk


mutant("e36", generate=generate_for_itself)
mutant("e37", generate=says(same, DeafToCancel))
mutant("e38", generate=says(same, DeafUntilItSpeaks))
mutant("e39", steps=RowsReversed)
mutant("e40", steps=CutsItsNeighbour)
mutant("e41", generate=says(same, OneThread))


def load_with_a_long_queue(request: LoadRequest) -> Any:
    return DecodeModel.open(evolve(request, queue_requests=256), MUTANTS["e42"].engine, lambda: EchoModel(request))


mutant("e42", load=load_with_a_long_queue)
mutant("e71", generate=asks(lambda request: evolve(request, priority="batch")))
mutant("e43", generate=asks(lambda request: evolve(request, timeout_seconds=None)))

# --- limits -----------------------------------------------------------------------------------------------------------


def generate_from_the_end(model: DecodeModel, request: GenerateRequest) -> Iterator[Chunk]:
    room = model.info.context_tokens - (request.max_tokens or 1)
    return model.generate(evolve(request, prompt=request.prompt[-room:]))


def in_vocabulary(tokens: Iterable[int]) -> tuple[int, ...]:
    return tuple(token % 256 for token in tokens)


mutant("e44", generate=generate_from_the_end)
mutant("e45", generate=asks(lambda r: r if r.max_tokens else evolve(r, max_tokens=50, context="shift")))
mutant("e46", generate=asks(lambda request: evolve(request, prompt=in_vocabulary(request.prompt))))
mutant("e47", generate=asks(lambda request: evolve(request, prompt=request.prompt or (0,))))
mutant("e48", generate=finishes(lambda finish, _: evolve(finish, shifted_tokens=0)))

# --- closing ----------------------------------------------------------------------------------------------------------


class ClosesOnce(DecodeModel):
    def close(self) -> None:
        if self._closed:
            raise RuntimeError("closed already")
        super().close()


class NeverCloses(DecodeModel):
    def close(self) -> None:
        pass


class WaitsAfterClose(Chunks):
    def __next__(self) -> Chunk:
        try:
            return super().__next__()
        except Cancelled:
            threading.Event().wait()
            raise


class OneCache(EchoModel):
    """All models share their caches."""

    caches: ClassVar[list[list[int]]] = []

    def __init__(self, request: LoadRequest) -> None:
        super().__init__(request)
        self.caches.extend(self._caches)
        self._caches = self.caches

    def close(self) -> None:
        pass


mutant("e49", handle=ClosesOnce)
mutant("e50", generate=says(same, WaitsAfterClose))
mutant("e51", handle=NeverCloses)
mutant("e52", load=lambda request: load_with_a_thread(request, True))
mutant("e53", steps=OneCache)

# --- resuming ---------------------------------------------------------------------------------------------------------


def as_prompt(request: GenerateRequest) -> GenerateRequest:
    done = len(request.resume)
    rest = request.max_tokens - done if request.max_tokens else None
    return evolve(request, prompt=request.prompt + request.resume, resume=(), max_tokens=rest)


def without_penalties(request: GenerateRequest) -> GenerateRequest:
    plain_sampling = evolve(request.sampling, frequency_penalty=0.0, repeat_penalty=1.0)
    return evolve(request, sampling=plain_sampling) if request.resume else request


mutant("e54", generate=asks(lambda request: evolve(request, resume=())))
mutant("e55", generate=asks(without_penalties))
mutant("e56", generate=asks(as_prompt))

# --- constraints ------------------------------------------------------------------------------------------------------


def without_required(constraint: JsonSchema) -> JsonSchema:
    schema = constraint.schema
    assert isinstance(schema, Mapping)
    return JsonSchema({key: value for key, value in schema.items() if key != "required"})


def plain_if_malformed(model: DecodeModel, request: GenerateRequest) -> Iterator[Chunk]:
    try:
        return model.generate(request)
    except GrammarError:
        return model.generate(evolve(request, constraint=None))


def plain_if_resumed(request: GenerateRequest) -> GenerateRequest:
    return evolve(request, constraint=None) if request.resume else request


mutant("e57", generate=constrains(JsonSchema, without_required))
mutant("e58", generate=constrains(Regex, lambda regex: Regex(f"[a-z]?{regex.pattern}")))
mutant("e59", generate=constrains(Choice, lambda choice: Choice((*choice.options, choice.options[0][:1]))))
mutant("e60", generate=constrains(Gbnf, lambda _: Regex("[a-z0-9 ]{1,20}")))
mutant("e61", generate=constrains(JsonObject, lambda _: Regex(r"\{[a-z]{0,20}")))
mutant("e62", generate=plain_if_malformed)
mutant(
    "e63", generate=finishes(lambda finish, request: evolve(finish, reason="stop") if request.constraint else finish)
)
mutant("e64", generate=finishes(lambda finish, _: evolve(finish, constraint=None)))
mutant("e65", generate=asks(plain_if_resumed))

# --- reuse ------------------------------------------------------------------------------------------------------------


class CopiesAll(EchoModel):
    def copy(self, source: int, target: int, n: int) -> None:
        super().copy(source, target, self.context_tokens)


class CopiesTooLittle(EchoModel):
    def copy(self, source: int, target: int, n: int) -> None:
        super().copy(source, target, n - 1)


class RestoresNothing(EchoModel):
    def load_state(self, sequence: int, state: bytes, n: int) -> bool:
        return super().load_state(sequence, bytes(len(state)), n)


class SaysItRanks(DecodeModel):
    @classmethod
    def open(cls, *given: Any) -> Any:
        model = super().open(*given)
        model.info = evolve(model.info, capabilities=model.info.capabilities | {"rerank"})
        return model


mutant("e66", steps=CopiesAll)
mutant("e67", steps=CopiesTooLittle)
mutant("e68", steps=RestoresNothing)
mutant("e72", steps=RestoresNothing)
mutant("e69", embed=lambda model, texts, normalize: model.embed(texts, False))
mutant("e70", handle=SaysItRanks, rerank=lambda model, query, documents: [1.0])


# --- engines that declare nothing -------------------------------------------------------------------------------------


class DeclaresNothing(DecodeModel):
    @classmethod
    def open(cls, *given: Any) -> Any:
        model = super().open(*given)
        model.info = evolve(model.info, capabilities=frozenset())
        return model


def refuse_what_is_undeclared(model: DecodeModel, request: GenerateRequest) -> Iterator[Chunk]:
    if request.constraint is not None or request.logprobs is not None or request.context == "shift":
        raise Unsupported("nothing of that kind here")
    return model.generate(request)


def refuse_grammars(model: Any, constraint: Any) -> Any:
    raise Unsupported("no constraints here")


mutant("modest", handle=DeclaresNothing, generate=refuse_what_is_undeclared, grammar=refuse_grammars)
mutant("secretive", handle=DeclaresNothing)


def __getattr__(name: str) -> ModuleType:
    """What the entry points name."""
    try:
        return MUTANTS[name]
    except KeyError:
        raise AttributeError(name) from None
