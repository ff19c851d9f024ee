"""The hooks that every engine over the toolkit shares; a plugin module imports those it offers. Loads nothing heavy."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from attrs import evolve

from enginebay.data import Chunk, Constraint, GenerateRequest, Health
from enginebay.hookspecs import CompiledConstraint, hookimpl

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from enginebay.decode.handle import DecodeModel

__all__ = ["detokenize", "embed", "generate", "grammar", "load_session", "proven", "save_session", "tokenize"]


@hookimpl
def generate(model: DecodeModel, request: GenerateRequest) -> Iterator[Chunk]:
    return model.generate(request)


@hookimpl
def tokenize(model: DecodeModel, text: str, special: bool) -> list[int]:
    return model.tokenize(text, special)


@hookimpl
def detokenize(model: DecodeModel, tokens: Sequence[int]) -> bytes:
    return model.detokenize(tokens)


@hookimpl
def grammar(model: DecodeModel, constraint: Constraint) -> CompiledConstraint:
    return model.grammar(constraint)


@hookimpl
def embed(model: DecodeModel, texts: Sequence[str], normalize: bool) -> npt.NDArray[np.float32]:
    return model.embed(texts, normalize)


@hookimpl
def save_session(model: DecodeModel, tokens: Sequence[int]) -> bytes:
    return model.save_session(tokens)


@hookimpl
def load_session(model: DecodeModel, tokens: Sequence[int], state: bytes) -> int:
    return model.load_session(tokens, state)


def proven(model: DecodeModel | None, health: Health) -> Health:
    """``health`` of the engine, and of ``model`` if there is one: healthy then means that it just produced a token."""
    if model is None or not health.healthy:
        return health
    reason = model.prove()
    return evolve(health, healthy=reason is None, reason=reason, capabilities=model.info.capabilities)
