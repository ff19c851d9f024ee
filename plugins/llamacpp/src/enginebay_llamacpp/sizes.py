"""Works out context, sequences and memory from a file's numbers. It knows no native library."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from attrs import frozen

from enginebay.data import LoadRequest
from enginebay.errors import OutOfMemory
from enginebay_llamacpp.gguf import GgufFile
from enginebay_llamacpp.options import Options

DEFAULT_CONTEXT_TOKENS: Final = 8_192
DEFAULT_SEQUENCES: Final = 8
DEFAULT_CACHE_BYTES: Final = 1 << 30
"""The most memory that the default number of sequences may take; a request that names a number is not bound by it."""

_BYTES_OF: Final = {"f32": 4.0, "f16": 2.0, "q8_0": 34 / 32}
_F32: Final = 0


@frozen
class Plan:
    """What a context will be made with."""

    context_tokens: int
    sequences: int
    cache_type: str
    cache_bytes: int
    notes: tuple[str, ...] = ()


def plan(file: GgufFile, request: LoadRequest, options: Options) -> Plan:
    """Fill in what the request leaves open.

    The cache is shared by all sequences, with room for each to use its whole context: then a sequence never fails because
    of its neighbours. Eight sequences are the default because a processor gains little beyond; fewer if their cache would pass 1 GiB.

    :raises OutOfMemory: the weights and the cache are more than the memory that is available
    """
    trained = _number(file, "context_length") or DEFAULT_CONTEXT_TOKENS
    context = request.context_tokens or min(trained, DEFAULT_CONTEXT_TOKENS)
    notes = []
    if context > trained:
        notes.append(f"The context of {context:,} tokens is longer than the {trained:,} that the model was trained on.")
    cache_type: str = options.cache_type
    if cache_type == "auto":
        cache_type = "f32" if all(tensor.type == _F32 for tensor in file.tensors) else "f16"
    one = cache_bytes_per_token(file, cache_type) * context
    sequences = request.sequences or DEFAULT_SEQUENCES
    if request.sequences is None:
        while sequences > 1 and one * sequences > DEFAULT_CACHE_BYTES:
            sequences //= 2
        if sequences < DEFAULT_SEQUENCES:
            notes.append(f"{sequences} sequences rather than {DEFAULT_SEQUENCES}: the cache of each takes {one >> 20:,} MiB.")
    _check_memory(file, one, sequences, context)
    return Plan(context, sequences, cache_type, one * sequences, tuple(notes))


def cache_bytes_per_token(file: GgufFile, cache_type: str) -> int:
    """Bytes of KV cache for one position, from heads and head sizes; an estimate where an architecture does it otherwise."""
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
        return [int(number) for number in value][:layers] + [default] * (layers - len(value))
    return [value if isinstance(value, int) else default] * layers


def _check_memory(file: GgufFile, one: int, sequences: int, context: int) -> None:
    """Refuse before anything is allocated: a system that overcommits memory would end the process instead."""
    available = available_memory_bytes()
    needed = file.weights_bytes + one * sequences
    if available is None or needed <= available:
        return
    raise OutOfMemory(
        f"{file.path.name} needs {needed >> 20:,} MiB and {available >> 20:,} MiB are available: weights "
        f"{file.weights_bytes >> 20:,} MiB, KV cache {sequences} x {context:,} tokens = {one * sequences >> 20:,} MiB.",
        hint="Load with a smaller context_tokens or fewer sequences, or take a smaller model.",
        needed_bytes=needed,
        available_bytes=available,
    )


def available_memory_bytes() -> int | None:
    """Memory that can be had without swapping: the kernel's own figure, within the limit of the control group."""
    figures = []
    try:
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                figures.append(int(line.split()[1]) * 1024)
        limit = Path("/sys/fs/cgroup/memory.max").read_text(encoding="ascii").strip()
        if limit.isdigit():
            used = int(Path("/sys/fs/cgroup/memory.current").read_text(encoding="ascii"))
            figures.append(max(0, int(limit) - used))
    except (OSError, ValueError):
        pass
    return min(figures, default=None)
