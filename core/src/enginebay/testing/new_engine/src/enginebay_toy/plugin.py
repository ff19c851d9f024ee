"""What the engine ``toy`` registers. Reading it loads nothing heavy: that waits until ``load``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from enginebay.data import Artifact, CatalogueModel, EngineInfo, Health, LoadRequest, ModelFormat
from enginebay.decode.hooks import detokenize, generate, grammar, proven, tokenize
from enginebay.hookspecs import hookimpl

if TYPE_CHECKING:
    from enginebay.decode.handle import DecodeModel

__all__ = ["detokenize", "engine", "generate", "grammar", "health", "load", "models", "tokenize"]

engine = EngineInfo(
    name="toy",
    summary="Goes on with a text as the text of its model does.",
    formats=(ModelFormat("toy", file="*.toy", magic=b"#toy 1\n"),),
)
models = (CatalogueModel("toy", "a short story", (Artifact("toy", Path(__file__).with_name("story.toy")),)),)


@hookimpl
def load(request: LoadRequest) -> DecodeModel:
    from enginebay.decode.handle import DecodeModel

    from .steps import ToyModel

    return DecodeModel.open(request, engine, lambda: ToyModel(request))


@hookimpl
def health(model: DecodeModel | None) -> Health:
    return proven(
        model,
        Health(
            healthy=True,
            library="enginebay-toy",
            version="0.1.0",
            capabilities=frozenset({"detokenize", "grammar", "logprobs", "seed", "context_shift"}),
        ),
    )
