"""The hooks of the MNN engine. Importing it loads nothing of MNN."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

from enginebay.data import EngineInfo, Health, LoadRequest, MemoryEstimate, ModelFormat
from enginebay.decode.hooks import detokenize, embed, generate, grammar, proven, tokenize
from enginebay.hookspecs import hookimpl
from enginebay_mnn.options import Options

if TYPE_CHECKING:
    from enginebay.decode.handle import DecodeModel

__all__ = ["detokenize", "embed", "engine", "estimate", "generate", "grammar", "health", "load", "tokenize"]

engine = EngineInfo(
    name="mnn",
    summary="MNN, for folders that its llmexport wrote; on the processor",
    formats=(ModelFormat("mnn", folder=("*.mnn", "llm_config.json")),),
    options=Options,
    isolation="process",
)


@hookimpl
def load(request: LoadRequest) -> DecodeModel:
    from enginebay import memory
    from enginebay.decode.handle import DecodeModel
    from enginebay_mnn.steps import open_steps

    memory.require(request.path.name, estimate(request), "Load with a smaller context_tokens, or take a smaller model.")
    return DecodeModel.open(request, engine, lambda: open_steps(request))


@hookimpl
def estimate(request: LoadRequest) -> MemoryEstimate:
    from enginebay_mnn.files import estimate as of_folder

    exact = getattr(request.options, "preset", "exact") == "exact"
    return of_folder(request.path, request.sequences or 1, request.context_tokens, exact=exact)


@hookimpl
def health(model: DecodeModel | None) -> Health:
    from enginebay.data import Device
    from enginebay_mnn.native import library

    try:
        found = version("MNN")
    except PackageNotFoundError:
        return Health(
            healthy=False,
            library="MNN",
            reason="MNN is not installed. It has wheels for Linux with glibc, macOS and Windows (x86-64).",
            hint='pip install "MNN>=3.6.1,<4"',
        )
    try:
        library()
    except Exception as error:
        return Health(
            healthy=False,
            library="MNN",
            version=found,
            reason=f"MNN {found} is installed and cannot be imported: {error}",
            hint='pip install --force-reinstall "MNN>=3.6.1,<4"',
        )
    return proven(
        model,
        Health(
            healthy=True,
            library="MNN",
            version=found,
            devices=(Device("cpu", "cpu"),),
            capabilities=frozenset({"detokenize", "grammar", "logprobs", "seed", "context_shift", "embed"}),
        ),
    )
