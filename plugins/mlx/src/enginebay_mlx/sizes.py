"""Works out context, sequences and memory from a folder's numbers. It knows no native library."""

from __future__ import annotations

import math

from attrs import frozen

from enginebay.data import LoadRequest, MemoryEstimate
from enginebay_mlx.files import ModelFolder
from enginebay_mlx.options import Options
from enginebay_mlx.safetensors import BYTES

DEFAULT_CONTEXT_TOKENS = 8_192
DEFAULT_SEQUENCES = 8
_WIDENED = ("F16", "BF16")


@frozen
class Plan:
    """What a model will be run with, and what it will take."""

    context_tokens: int
    sequences: int
    step_tokens: int
    estimate: MemoryEstimate
    notes: tuple[str, ...] = ()


def options_of(request: LoadRequest) -> Options:
    """The engine's options in a request; the defaults if it has none."""
    return request.options if isinstance(request.options, Options) else Options()


def plan(folder: ModelFolder, request: LoadRequest) -> Plan:
    """Fill in what the request leaves open.

    The cache grows with what is in use, so the estimate counts one whole context, not one for each sequence.
    """
    options = options_of(request)
    context = request.context_tokens or min(folder.positions, DEFAULT_CONTEXT_TOKENS)
    sequences = request.sequences or DEFAULT_SEQUENCES
    notes = []
    if context > folder.positions:
        notes.append(f"The context is longer than the {folder.positions:,} tokens that the model was trained on.")
    wide = options.precision == "float32"
    weights = sum(
        math.prod(tensor.shape) * (4 if wide and tensor.dtype in _WIDENED else BYTES[tensor.dtype])
        for tensor in folder.tensors.values()
    )
    exact = wide or not any(tensor.dtype in _WIDENED for tensor in folder.tensors.values())
    cache = _cache_bytes_per_token(folder, 4 if exact else 2) * context
    arithmetic = f"weights {weights >> 20:,} MiB, cache of one whole context of {context:,} tokens {cache >> 20:,} MiB"
    estimate = MemoryEstimate(weights, cache, arithmetic)
    return Plan(context, sequences, max(options.step_tokens, sequences), estimate, tuple(notes))


def _cache_bytes_per_token(folder: ModelFolder, number_bytes: int) -> int:
    """Bytes of cache for one position, from heads and their size; a guess where an architecture does it otherwise."""
    config = folder.text_config
    heads = _number(config.get("num_attention_heads")) or 1
    width = _number(config.get("head_dim")) or _number(config.get("hidden_size")) // heads
    shared = _number(config.get("num_key_value_heads")) or heads
    return 2 * folder.layers * shared * width * number_bytes


def _number(value: object) -> int:
    return value if isinstance(value, int) else 0
