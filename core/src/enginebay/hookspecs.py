"""The hooks that a plugin implements: pluggy's specification and mypy's protocol in one. It knows no implementation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Protocol, TypeVar

import pluggy

from enginebay.data import (
    AppliedConstraint,
    Chunk,
    Constraint,
    EngineInfo,
    GenerateRequest,
    Health,
    LoadRequest,
    MemoryEstimate,
    ModelInfo,
)

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

PROJECT = "enginebay"
hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


class LoadedModel(Protocol):
    """What ``load`` returns: it owns native memory until ``close``, which may be called twice and from any thread."""

    @property
    def info(self) -> ModelInfo: ...
    def close(self) -> None: ...


class CompiledConstraint(Protocol):
    """What ``grammar`` returns: a constraint that this model's ``generate`` will honour."""

    @property
    def applied(self) -> AppliedConstraint: ...


ModelT = TypeVar("ModelT", bound=LoadedModel)
ModelT_contra = TypeVar("ModelT_contra", bound=LoadedModel, contravariant=True)


class EngineHooks(Protocol[ModelT]):
    """The five hooks of an engine. Each stops at the first implementation that returns a value."""

    @property
    def engine(self) -> EngineInfo:
        """Not a hook: the module's attribute that names the engine and its formats."""
        ...

    @hookspec(firstresult=True)
    def load(self, request: LoadRequest) -> ModelT:
        """Load a model from local files.

        :param request: path, format, options, context and sequences
        :returns: a handle that owns native memory until ``close()``
        :raises ModelLoadError: a file is missing, damaged or of another format; checked before native code reads it
        :raises OutOfMemory: the model or its cache does not fit
        """
        ...

    @hookspec(firstresult=True)
    def generate(self, model: ModelT, request: GenerateRequest) -> Iterator[Chunk]:
        """Generate one sequence.

        Many may run at once, from any thread. Closing the iterator cancels, during the prompt as well. It may also have
        ``cancel`` (end with a last chunk), and ``ready``, ``due`` and ``tell`` as in ``enginebay.mailbox``; without them a
        thread reads it where nobody may wait.

        :param model: what ``load`` returned
        :param request: token ids and how to go on from them
        :returns: an iterator of chunks; the last one, and no other, has ``finish``
        :raises ContextOverflow: the prompt does not fit, or the context is full
        :raises GrammarError: the constraint cannot be honoured
        :raises QueueFull: too many requests wait
        :raises Timeout: ``timeout_seconds`` passed
        """
        ...

    @hookspec(firstresult=True)
    def tokenize(self, model: ModelT, text: str, special: bool) -> list[int]:
        """Turn text into token ids; nothing is added before or after.

        :param model: what ``load`` returned
        :param text: any text
        :param special: whether the text of a special token becomes that token
        :returns: token ids; their bytes, joined, are the text
        """
        ...

    @hookspec(firstresult=True)
    def grammar(self, model: ModelT, constraint: Constraint) -> CompiledConstraint:
        """Compile a constraint for this model's vocabulary, or refuse it. Never ignored, never weakened.

        :param model: what ``load`` returned
        :param constraint: what the output must match
        :returns: the compiled constraint
        :raises GrammarError: it is malformed, too large, or has a part that cannot be enforced
        :raises Unsupported: the engine has no constraints
        """
        ...

    @hookspec(firstresult=True)
    def health(self, model: ModelT | None) -> Health:
        """Say whether the engine runs on this machine; with a model, whether it just produced a token. Never raises.

        :param model: what ``load`` returned, or None for the engine itself
        :returns: library, version, devices, capabilities; if not healthy the reason and the command that mends it
        """
        ...


class OptionalHooks(Protocol[ModelT_contra]):
    """Hooks that an engine implements if it declares the capability of the same name."""

    @hookspec(firstresult=True)
    def estimate(self, request: LoadRequest) -> MemoryEstimate:
        """Work out what ``load`` would take, without loading and in milliseconds. Needs no capability.

        :param request: what ``load`` would be given
        :returns: bytes for weights and cache
        :raises ModelLoadError: the files are not what they should be
        """
        ...

    @hookspec(firstresult=True)
    def detokenize(self, model: ModelT_contra, tokens: Sequence[int]) -> bytes:
        """Turn token ids into bytes, special tokens as their text. A token can be part of a character.

        :param model: what ``load`` returned
        :param tokens: token ids of the vocabulary
        :returns: the bytes of all tokens, joined
        """
        ...

    @hookspec(firstresult=True)
    def embed(self, model: ModelT_contra, texts: Sequence[str], normalize: bool) -> npt.NDArray[np.float32]:
        """Embed texts.

        :param model: what ``load`` returned
        :param texts: one or more texts
        :param normalize: whether each vector is scaled to length 1
        :returns: float32, shape (texts, dimensions)
        """
        ...

    @hookspec(firstresult=True)
    def rerank(self, model: ModelT_contra, query: str, documents: Sequence[str]) -> list[float]:
        """Score how well each document answers the query.

        :param model: what ``load`` returned
        :param query: the question
        :param documents: one or more texts
        :returns: one score a document; higher is better
        """
        ...

    @hookspec(firstresult=True)
    def save_session(self, model: ModelT_contra, tokens: Sequence[int]) -> bytes:
        """The engine's own state after these tokens, if it still holds them; otherwise empty bytes.

        :param model: what ``load`` returned
        :param tokens: a prompt and what was generated from it
        :returns: bytes that only the same engine, version and model can read
        """
        ...

    @hookspec(firstresult=True)
    def load_session(self, model: ModelT_contra, tokens: Sequence[int], state: bytes) -> int:
        """Take back what ``save_session`` gave, so that a prompt that begins with ``tokens`` is not computed again.

        :param model: what ``load`` returned
        :param tokens: the tokens that ``state`` belongs to
        :param state: verified bytes of ``save_session``
        :returns: how many tokens were restored; 0 if the state does not fit
        """
        ...
