"""What the engine ``echo`` registers: description, options and hooks. It imports the model only to load one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from attrs import field, frozen

from enginebay.data import Capability, EngineInfo, Health, LoadRequest, ModelFormat, bounded
from enginebay.decode.hooks import detokenize, embed, generate, grammar, load_session, proven, save_session, tokenize
from enginebay.hookspecs import hookimpl

if TYPE_CHECKING:
    from enginebay.decode.handle import DecodeModel

__all__ = ["detokenize", "embed", "engine", "generate", "grammar", "health", "load"]
__all__ += ["load_session", "save_session", "tokenize"]

CAPABILITIES: frozenset[Capability] = frozenset(
    {"detokenize", "grammar", "logprobs", "seed", "context_shift", "embed", "save_session", "load_session"}
)


@frozen
class EchoOptions:
    """How slow the engine is, and how it fails.

    ``failure_at`` is 0 for "while loading", or counts the tokens computed since, over all sequences. With
    ``failure_text`` the failure comes instead whenever a sequence holds that text. If ``failure_once`` names a file,
    the failure happens only while that file does not exist, and writes it.
    """

    step_seconds: float = field(default=0.0, validator=bounded(0, 3600))
    failure: Literal["none", "error", "memory", "hang", "crash"] = "none"
    failure_at: int = field(default=0, validator=bounded(0, 1_000_000_000))
    failure_text: str = ""
    failure_once: str = ""


engine = EngineInfo(
    name="echo",
    summary="Says again what was said last; needs no weights.",
    formats=(ModelFormat("echo", file="*.echo", magic=b"#echo 1\n"),),
    options=EchoOptions,
)


@hookimpl
def load(request: LoadRequest) -> DecodeModel:
    from enginebay.decode.handle import DecodeModel
    from enginebay_echo.steps import EchoModel

    return DecodeModel.open(request, engine, lambda: EchoModel(request))


@hookimpl
def health(model: DecodeModel | None) -> Health:
    from importlib.metadata import version

    own = version("enginebay-echo")
    return proven(model, Health(healthy=True, library="enginebay-echo", version=own, capabilities=CAPABILITIES))
