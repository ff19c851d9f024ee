"""A model as an application sees it: text or tokens in, text and tokens out. It knows no engine by name."""

from __future__ import annotations

import secrets
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, TypedDict, Unpack

from attrs import evolve, fields

from enginebay import chat
from enginebay.data import Constraint, GenerateRequest, Health, ModelInfo, Sampling
from enginebay.engine import Engine, Stream
from enginebay.errors import RequestError
from enginebay.hookspecs import CompiledConstraint, LoadedModel
from enginebay.result import Collector, Result
from enginebay.session import Session
from enginebay.structure import structure

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from enginebay.worker.supervisor import Supervisor


class Options(TypedDict, total=False):
    """Keywords of ``generate``, ``stream`` and ``chat``: the fields of ``Sampling`` and ``GenerateRequest``."""

    max_tokens: int | None
    temperature: float
    top_k: int
    top_p: float
    min_p: float
    repeat_penalty: float
    frequency_penalty: float
    presence_penalty: float
    repeat_window_tokens: int
    logit_bias: Mapping[int, float]
    seed: int | None
    top_n_sigma: float
    typical_p: float
    xtc_probability: float
    xtc_threshold: float
    dry_multiplier: float
    dry_base: float
    dry_allowed_tokens: int
    dry_window_tokens: int
    dry_breakers: Collection[int]
    stop: str | Sequence[str]
    constraint: Constraint | None
    logprobs: int | None
    ignore_end: bool
    cache_prompt: bool
    context: Literal["error", "shift"]
    keep_tokens: int
    priority: Literal["interactive", "batch"]
    timeout_seconds: float | None
    resume: Sequence[int]
    request_id: str


_SAMPLING = frozenset(field.name for field in fields(Sampling))


def build_request(prompt: Sequence[int], options: Mapping[str, Any]) -> GenerateRequest:
    """A checked request from keywords; a seed is drawn where none is given.

    :raises RequestError: an option is unknown, of the wrong type, or out of its range
    """
    rest = dict(options)
    constraint = rest.pop("constraint", None)
    if isinstance(rest.get("stop"), str):
        rest["stop"] = [rest["stop"]]
    sampling = {name: rest.pop(name) for name in tuple(rest) if name in _SAMPLING}
    tokens, resume = tuple(prompt), tuple(rest.pop("resume", ()))
    if not all(type(token) is int for token in (*tokens, *resume)):
        raise RequestError("prompt: expected text or token ids.", hint="Token ids are what tokenize returns.")
    request = structure({**rest, "prompt": (), "sampling": sampling}, GenerateRequest, error=RequestError)
    if constraint is not None and not isinstance(constraint, Constraint):
        raise RequestError(
            f"constraint: expected one of enginebay's constraints, got {type(constraint).__name__}.",
            hint="For example constraint=enginebay.JsonSchema({...}).",
        )
    seed = secrets.randbits(63) if request.sampling.seed is None else request.sampling.seed
    return evolve(
        request, prompt=tokens, resume=resume, constraint=constraint, sampling=evolve(request.sampling, seed=seed)
    )


class Model:
    """A loaded model. Close it, or use it in a ``with`` statement. Any thread may call it; requests share its steps."""

    def __init__(self, engine: Engine, handle: LoadedModel, name: str) -> None:
        self._engine = engine
        self._handle = handle
        self.name = name
        self._version: str | None = None

    @property
    def info(self) -> ModelInfo:
        """What is known of the model: engine, context, vocabulary, template, capabilities."""
        return self._handle.info

    # --- text and tokens ------------------------------------------------------------------------------------------

    def tokenize(self, text: str, *, special: bool = True) -> list[int]:
        """Token ids of ``text``; nothing is added. ``special``: the text of a special token becomes that token."""
        return self._engine.tokenize(self._handle, text, special)

    def detokenize(self, tokens: Sequence[int]) -> bytes:
        """The bytes of the tokens. A token can be part of a character."""
        return self._engine.detokenize(self._handle, tokens)

    def prompt_tokens(self, prompt: str | Sequence[int]) -> tuple[int, ...]:
        """The tokens that a plain prompt becomes: those that the model wants in front, and the text's."""
        if isinstance(prompt, str):
            return (*self.info.prefix_tokens, *self.tokenize(prompt))
        return tuple(prompt)

    def render(self, messages: Sequence[Mapping[str, Any]], **variables: Any) -> str:
        """The prompt text for chat messages, by the model's own template. See ``enginebay.chat.render``."""
        info = self.info
        elsewhere = getattr(self._handle, "render", None)
        if elsewhere:
            text: str = elsewhere(messages, variables)
            return text
        return chat.render(info.chat_template, messages, special_text=info.special_text, **variables)

    # --- generating -----------------------------------------------------------------------------------------------

    def generate(self, prompt: str | Sequence[int], **options: Unpack[Options]) -> Result:
        """Generate from text or token ids, and wait for the whole.

        :raises RequestError: a bad option, a prompt that does not fit, a constraint that cannot be honoured
        :raises EngineError: the engine failed
        """
        return self._collect(build_request(self.prompt_tokens(prompt), options))

    def stream(self, prompt: str | Sequence[int], **options: Unpack[Options]) -> Stream:
        """The same, chunk by chunk. Closing the stream cancels the request."""
        return self._engine.generate(self._handle, build_request(self.prompt_tokens(prompt), options))

    def choices(self, prompt: str | Sequence[int], n: int, **options: Unpack[Options]) -> list[Result]:
        """``n`` generations at once from one prompt, which is computed once. Their seeds follow each other."""
        if not 1 <= n <= 128:
            raise RequestError(f"n: expected 1 to 128, got {n}.")
        first = build_request(self.prompt_tokens(prompt), options)
        seed = first.sampling.seed or 0
        requests = [evolve(first, sampling=evolve(first.sampling, seed=(seed + i) % 2**64)) for i in range(n)]
        streams = [self._engine.generate(self._handle, request) for request in requests]
        try:
            return [self._gather(stream, request) for stream, request in zip(streams, requests, strict=True)]
        finally:
            for stream in streams:
                stream.close()

    def chat(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        tools: Sequence[Mapping[str, Any]] | None = None,
        **options: Unpack[Options],
    ) -> Result:
        """Answer chat messages (``role`` and ``content``), with the model's own template."""
        return self.generate(self.chat_tokens(messages, tools), **options)

    def chat_stream(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        tools: Sequence[Mapping[str, Any]] | None = None,
        **options: Unpack[Options],
    ) -> Stream:
        """The same, chunk by chunk."""
        return self.stream(self.chat_tokens(messages, tools), **options)

    def chat_tokens(
        self, messages: Sequence[Mapping[str, Any]], tools: Sequence[Mapping[str, Any]] | None = None
    ) -> list[int]:
        """The prompt tokens of chat messages: the template's text, tokenized with special tokens."""
        return self.tokenize(self.render(messages, tools=tools))

    def submit(self, request: GenerateRequest) -> Stream:
        """Run a request that was built elsewhere: a server's, or one that is resumed."""
        return self._engine.generate(self._handle, request)

    def _collect(self, request: GenerateRequest) -> Result:
        with self._engine.generate(self._handle, request) as stream:
            return self._gather(stream, request)

    def _gather(self, stream: Stream, request: GenerateRequest) -> Result:
        collector = Collector(self.info.engine, request.sampling.seed)
        for chunk in stream:
            collector.add(chunk)
        return collector.result()

    # --- the rest -------------------------------------------------------------------------------------------------

    def compile(self, constraint: Constraint) -> CompiledConstraint:
        """Check that a constraint can be honoured by this model; the compiled form is kept for the requests that follow."""
        return self._engine.grammar(self._handle, constraint)

    def embed(self, texts: Sequence[str], *, normalize: bool = False) -> npt.NDArray[np.float32]:
        """Vectors of texts: float32, shape (texts, dimensions). ``normalize`` scales each to length 1."""
        return self._engine.embed(self._handle, texts, normalize)

    def rerank(self, query: str, documents: Sequence[str]) -> list[float]:
        """How well each document answers the query; higher is better."""
        return self._engine.rerank(self._handle, query, documents)

    def session(self, *, tools: Sequence[Mapping[str, Any]] = ()) -> Session:
        """A conversation that keeps its place, and can be saved and continued on another engine."""
        return Session(self, tools=tools)

    def load_session(self, path: str | Path) -> Session:
        """Continue a saved session with this model; see ``Session.restore``."""
        return Session.restore(self, path)

    def save_state(self, tokens: Sequence[int]) -> bytes:
        """The engine's own state after ``tokens``, as far as its cache still holds them. For sessions."""
        return self._engine.save_session(self._handle, tokens)

    def load_state(self, tokens: Sequence[int], state: bytes) -> int:
        """Take back what ``save_state`` gave; returns how many tokens need not be computed again. For sessions."""
        return self._engine.load_session(self._handle, tokens, state)

    @property
    def engine_version(self) -> str:
        """The version of the engine's library."""
        if self._version is None:
            self._version = self._engine.health(None).version or ""
        return self._version

    @property
    def supervisor(self) -> Supervisor | None:
        """What keeps the model's worker alive; None for a model in this process."""
        return getattr(self._handle, "supervisor", None)

    def drop_caches(self) -> None:
        """Forget what idle prefixes are kept: memory is short."""
        drop = getattr(self._handle, "drop_caches", None)
        if drop:
            drop()

    def health(self) -> Health:
        """Whether the model just produced a token."""
        return self._engine.health(self._handle)

    def close(self) -> None:
        """End what runs and free the model's memory."""
        self._handle.close()

    def __enter__(self) -> Model:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self.close()
