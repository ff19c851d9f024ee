"""The engine ``llamacpp``: what it says of itself, and its hooks. Reading this module loads no native library."""

from __future__ import annotations

from typing import TYPE_CHECKING

from enginebay.data import EngineInfo, Health, LoadRequest, ModelFormat
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
    "generate",
    "grammar",
    "health",
    "load",
    "load_session",
    "save_session",
    "tokenize",
]

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
    from enginebay_llamacpp.steps import open_steps

    return DecodeModel.open(request, engine, lambda: open_steps(request))


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
    except Exception as error:  # noqa: BLE001 - a broken build raises anything, and health reports it
        reason = f"{_LIBRARY} does not load: {type(error).__name__}: {error}"
        return Health(False, _LIBRARY, reason=reason, hint=f"{_PREBUILT} --force-reinstall")
    capabilities = frozenset(
        ("detokenize", "grammar", "logprobs", "seed", "context_shift", "save_session", "load_session", "embed")
    )
    return Health(True, _LIBRARY, version, devices=devices, capabilities=capabilities)
