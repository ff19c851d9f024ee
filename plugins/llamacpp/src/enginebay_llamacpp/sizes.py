"""Works out context, sequences and memory from a file's numbers. It knows no native library."""

from __future__ import annotations

from typing import Final

from attrs import frozen

from enginebay.data import LoadRequest, MemoryEstimate
from enginebay_llamacpp.gguf import GgufFile
from enginebay_llamacpp.options import Options

DEFAULT_CONTEXT_TOKENS: Final = 8_192
DEFAULT_SEQUENCES: Final = 8
DEFAULT_CACHE_BYTES: Final = 1 << 30
"""The most memory that the default number of sequences may take; a request that names a number is not bound by it."""

BYTES_PER_THREAD: Final = 16 << 20
"""Weights below this give a second thread too little to do: threads wait for each other after every operation."""

COPIED_BYTES: Final = 64 << 20
"""The most that is copied when a sequence begins like another: some milliseconds."""

_BYTES_OF: Final = {"f32": 4.0, "f16": 2.0, "q8_0": 34 / 32}
_F32: Final = 0


@frozen
class Plan:
    """What a context will be made with, and what it will take."""

    context_tokens: int
    sequences: int
    cache_type: str
    shared_cache: bool
    estimate: MemoryEstimate
    notes: tuple[str, ...] = ()


def plan(file: GgufFile, request: LoadRequest, options: Options) -> Plan:
    """Fill in what the request leaves open.

    There is room for each sequence to use its whole context: then none fails because of another.
    Eight sequences are the default, fewer if their cache would pass 1 GiB: beyond eight a processor gains little.
    """
    trained = _number(file, "context_length") or DEFAULT_CONTEXT_TOKENS
    context = request.context_tokens or min(trained, DEFAULT_CONTEXT_TOKENS)
    notes = []
    if context > trained:
        notes.append(f"The context of {context:,} tokens is longer than the {trained:,} that the model was trained on.")
    cache_type: str = options.cache_type
    if cache_type == "auto":
        cache_type = "f32" if all(tensor.type == _F32 for tensor in file.tensors) else "f16"
    one = _cache_bytes_per_token(file, cache_type) * context
    sequences = request.sequences or DEFAULT_SEQUENCES
    if request.sequences is None:
        while sequences > 1 and one * sequences > DEFAULT_CACHE_BYTES:
            sequences //= 2
        if sequences < DEFAULT_SEQUENCES:
            notes.append(f"{sequences} sequences, not {DEFAULT_SEQUENCES}: the cache of each takes {one >> 20:,} MiB.")
    arithmetic = (
        f"weights {file.weights_bytes >> 20:,} MiB, "
        f"cache {sequences} sequences x {context:,} tokens = {one * sequences >> 20:,} MiB"
    )
    estimate = MemoryEstimate(file.weights_bytes, one * sequences, arithmetic)
    shared = one > COPIED_BYTES if options.shared_cache is None else options.shared_cache
    return Plan(context, sequences, cache_type, shared or sequences == 1, estimate, tuple(notes))


def default_threads(file: GgufFile, processors: int) -> int:
    """One thread for each processor, fewer for a small model."""
    return max(1, min(processors, file.weights_bytes // BYTES_PER_THREAD))


def _cache_bytes_per_token(file: GgufFile, cache_type: str) -> int:
    """Bytes of cache for one position, from heads and their sizes; a guess where an architecture does it otherwise."""
    layers = _number(file, "block_count") or 0
    width = _number(file, "embedding_length") or 0
    heads = _per_layer(file, "attention.head_count", layers, 0)
    kv_heads = _per_layer(file, "attention.head_count_kv", layers, None)
    total = 0.0
    for head_count, kv_count in zip(heads, kv_heads, strict=True):
        if head_count:
            key = _number(file, "attention.key_length") or width // head_count
            value = _number(file, "attention.value_length") or width // head_count
            total += (head_count if kv_count is None else kv_count) * (key + value) * _BYTES_OF[cache_type]
    return int(total)


def _number(file: GgufFile, key: str) -> int | None:
    value = file.of_architecture(key)
    return value if isinstance(value, int) else None


def _per_layer(file: GgufFile, key: str, layers: int, default: int | None) -> list[int | None]:
    value = file.of_architecture(key)
    if isinstance(value, tuple):
        return [int(number) for number in value]
    return [value if isinstance(value, int) else default] * layers
