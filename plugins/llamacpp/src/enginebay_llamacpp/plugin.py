"""The engine ``llamacpp``: what it says of itself, and its hooks. Reading this module loads no native library."""

from __future__ import annotations

from typing import TYPE_CHECKING

from enginebay.data import Capability, EngineInfo, Health, LoadRequest, MemoryEstimate, ModelFormat
from enginebay.decode.hooks import (
    detokenize,
    embed,
    generate,
    grammar,
    load_session,
    proven,
    save_session,
    tokenize,
)
from enginebay.hookspecs import hookimpl
from enginebay_llamacpp.options import Options

if TYPE_CHECKING:
    from enginebay.decode.handle import DecodeModel

__all__ = [
    "detokenize",
    "embed",
    "engine",
    "estimate",
    "generate",
    "grammar",
    "health",
    "load",
    "load_session",
    "save_session",
    "tokenize",
]

_CAPABILITIES: frozenset[Capability] = frozenset(
    ("detokenize", "grammar", "logprobs", "seed", "context_shift", "save_session", "load_session", "embed")
)
_LIBRARY = "llama-cpp-python"
_INSTALL = "pip install llama-cpp-python"
_PREBUILT = f"{_INSTALL} --extra-index-url https://abetlen.github.io/llama-cpp-python/whl/cpu"

engine = EngineInfo(
    name="llamacpp",
    summary="llama.cpp: GGUF models on the processor or a GPU",
    formats=(ModelFormat("gguf", file="*.gguf", magic=b"GGUF"),),
    options=Options,
    isolation="inline",
)


@hookimpl
def load(request: LoadRequest) -> DecodeModel:
    from enginebay.decode.handle import DecodeModel
    from enginebay_llamacpp import library
    from enginebay_llamacpp.steps import open_steps

    steps = open_steps(request)  # here, because on the owner's thread it would hold up the tokens of other models
    return DecodeModel.open(request, engine, lambda: steps, library.owner())


@hookimpl
def estimate(request: LoadRequest) -> MemoryEstimate:
    from enginebay_llamacpp.check import check_model
    from enginebay_llamacpp.model import options_of
    from enginebay_llamacpp.sizes import plan

    return plan(check_model(request.path), request, options_of(request)).estimate


@hookimpl
def health(model: DecodeModel | None) -> Health:
    return proven(model, _library_health())


def _library_health() -> Health:
    from enginebay_llamacpp import library

    try:
        library.load()
        version, devices = library.version(), library.devices()
    except ImportError as error:
        reason = f"{_LIBRARY} is not installed: {error}."
        return Health(False, _LIBRARY, reason=reason, hint=f"{_PREBUILT}  (without a compiler; with one: {_INSTALL})")
    except Exception as error:  # a broken build raises anything
        reason = f"{_LIBRARY} does not load: {type(error).__name__}: {error}"
        return Health(False, _LIBRARY, reason=reason, hint=f"{_PREBUILT} --force-reinstall")
    return Health(True, _LIBRARY, version, devices=devices, capabilities=_CAPABILITIES)
