"""The engine ``mlx``: what it says of itself, and its hooks. Reading this module loads no native library."""

from __future__ import annotations

from typing import TYPE_CHECKING

from enginebay.data import EngineInfo, Health, LoadRequest, MemoryEstimate, ModelFormat
from enginebay.decode.hooks import detokenize, generate, grammar, load_session, proven, save_session, tokenize
from enginebay.hookspecs import hookimpl
from enginebay_mlx.options import Options

if TYPE_CHECKING:
    from enginebay.decode.handle import DecodeModel

__all__ = [
    "detokenize",
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

engine = EngineInfo(
    name="mlx",
    summary="MLX: safetensors folders, on Apple silicon and on Linux processors",
    formats=(ModelFormat("mlx", folder=("config.json", "*.safetensors")),),
    options=Options,
    isolation="inline",
)


@hookimpl
def load(request: LoadRequest) -> DecodeModel:
    from enginebay.decode.handle import DecodeModel
    from enginebay_mlx import library
    from enginebay_mlx.steps import open_steps

    return DecodeModel.open(request, engine, lambda: open_steps(request), owner=library.owner())


@hookimpl
def estimate(request: LoadRequest) -> MemoryEstimate:
    from enginebay_mlx.files import check_folder
    from enginebay_mlx.sizes import plan

    return plan(check_folder(request.path), request).estimate


@hookimpl
def health(model: DecodeModel | None) -> Health:
    from enginebay_mlx import library

    return proven(model, library.health())
