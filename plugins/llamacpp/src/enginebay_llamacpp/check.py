"""Checks that a GGUF file's numbers fit each other, so that native code meets no surprise. It knows no native library.

llama.cpp asserts much of this, and a failed assert ends the process; the rest it finds out in its first step.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from enginebay.errors import ModelLoadError
from enginebay_llamacpp.gguf import GgufFile, LongArray, Value, damaged, read

MAX_LAYERS: Final = 512
MAX_HEADS: Final = 1_024
MAX_EXPERTS: Final = 1_024
MAX_INTEGER: Final = 2**31 - 1
NO_TOKEN: Final = 2**32 - 1

_BOUNDS: Final = {
    "block_count": (1, MAX_LAYERS),
    "nextn_predict_layers": (0, MAX_LAYERS),
    "context_length": (1, MAX_INTEGER),
    "embedding_length": (1, 1 << 20),
    "feed_forward_length": (0, 1 << 24),
    "attention.head_count": (0, MAX_HEADS),
    "attention.head_count_kv": (0, MAX_HEADS),
    "attention.key_length": (1, 1 << 16),
    "attention.value_length": (1, 1 << 16),
    "rope.dimension_count": (0, 1 << 16),
    "expert_count": (0, MAX_EXPERTS),
    "expert_used_count": (0, MAX_EXPERTS),
    "pooling_type": (0, 4),
}
_ROPE_SCALINGS: Final = ("none", "linear", "yarn", "longrope")
_F32: Final = 0
_NOT_WEIGHTS: Final = {9, 15, 24, 25, 26, 27, 28}  # Q8_1, Q8_K, integers, F64: no kernel multiplies by them
_TABLE_OF_INDICES: Final = "tid2eid"
_TOKEN_ID: Final = re.compile(r"tokenizer\.ggml\.\w+_token_id")


def check_model(path: Path) -> GgufFile:
    """Read and check a model's file.

    :raises ModelLoadError: a part is missing, damaged, or does not fit the others
    """
    file = read(path)
    kind = file.metadata.get("general.type", "model")
    if kind != "model" or file.architecture == "clip":
        what = "a vision projector" if kind == "mmproj" or file.architecture == "clip" else f"of the type {kind!r}"
        hint = "Give the language model; an adapter goes into the option adapters."
        raise ModelLoadError(f"{path} is {what}, not a language model.", hint=hint, path=str(path))
    _first_problem(file, _architecture, _counts, _attention, _experts, _numbers, _tokenizer, _tensors)
    return file


def check_adapter(path: Path) -> GgufFile:
    """Read and check the file of a LoRA adapter.

    :raises ModelLoadError: it is something else, or damaged
    """
    file = read(path)
    if (file.metadata.get("general.type"), file.metadata.get("adapter.type")) != ("adapter", "lora"):
        hint = "Convert the adapter with llama.cpp's convert_lora_to_gguf.py."
        raise ModelLoadError(f"{path} is not a LoRA adapter in GGUF form.", hint=hint, path=str(path))
    _first_problem(file, _numbers, _tensors)
    return file


def _first_problem(file: GgufFile, *checks: Callable[[GgufFile], Iterator[str]]) -> None:
    for check in checks:
        for problem in check(file):
            raise damaged(file.path, problem)


def _architecture(file: GgufFile) -> Iterator[str]:
    if not isinstance(file.metadata.get("general.architecture"), str) or not file.architecture:
        yield "general.architecture is missing or not a string"
    splits = file.metadata.get("split.count", 0)
    if not isinstance(splits, int) or splits > 1:
        yield f"it is one of {splits} parts; join them with llama-gguf-split --merge"


def _counts(file: GgufFile) -> Iterator[str]:
    layers = file.of_architecture("block_count")
    for key, (low, high) in _BOUNDS.items():
        value = file.of_architecture(key)
        if value is None:
            continue
        numbers = value if isinstance(value, tuple) else (value,)
        if isinstance(value, tuple) and len(value) != layers:
            yield f"{file.architecture}.{key} has {len(value)} entries for {layers} layers"
        for number in numbers:
            if not isinstance(number, int) or not low <= number <= high:
                yield f"{file.architecture}.{key} is {_shown(number)}, expected {low:,} to {high:,}"
    nextn = file.of_architecture("nextn_predict_layers")
    if isinstance(nextn, int) and isinstance(layers, int) and nextn >= layers:
        yield f"{nextn} of its {layers} layers are for predicting further tokens"


def _attention(file: GgufFile) -> Iterator[str]:
    width, heads = file.of_architecture("embedding_length"), file.of_architecture("attention.head_count")
    if not isinstance(width, int) or not isinstance(heads, int):
        return  # layers of different kinds have a list, of which some may be zero
    key = file.of_architecture("attention.key_length")
    kv_heads = file.of_architecture("attention.head_count_kv")
    if heads == 0:
        if any(".attn_q" in tensor.name for tensor in file.tensors):  # recurrent layers have an attn_norm as well
            yield "it has attention and no heads"
        return
    if key is None and width % heads:
        yield f"{heads} heads do not divide a width of {width}"
    if isinstance(kv_heads, int) and (kv_heads == 0 or heads % kv_heads):
        yield f"{kv_heads} heads of keys and values do not divide {heads} heads"
    rotated = file.of_architecture("rope.dimension_count")
    size = key if isinstance(key, int) else width // heads
    if isinstance(rotated, int) and rotated > size:
        yield f"{rotated} dimensions of a head are rotated and it has {size}"


def _experts(file: GgufFile) -> Iterator[str]:
    experts, used = file.of_architecture("expert_count") or 0, file.of_architecture("expert_used_count") or 0
    most = max(used, default=0) if isinstance(used, tuple) else used
    if not isinstance(experts, int) or not isinstance(most, int) or most > experts or (experts and not most):
        yield f"{_shown(most)} of {_shown(experts)} experts are used"
        return
    groups = file.of_architecture("expert_group_count") or 0
    group_used = file.of_architecture("expert_group_used_count") or 0
    if not isinstance(groups, int) or not isinstance(group_used, int):
        yield "the groups of experts are not numbers"
    elif groups and (groups >= experts or (groups > 1 and (experts % groups or not 0 < group_used < groups))):
        yield f"{group_used} of {groups} groups of {experts} experts are used"


def _numbers(file: GgufFile) -> Iterator[str]:
    prefix = f"{file.architecture}."
    for key, value in file.metadata.items():
        if not key.startswith((prefix, "adapter.")) or isinstance(value, str | LongArray | tuple):
            continue
        if isinstance(value, float):
            if not math.isfinite(value) or (key.endswith("epsilon") and value < 0):
                yield f"{key} is {value}"
        elif not -1 <= value <= MAX_INTEGER:
            yield f"{key} is {value:,}, expected at most {MAX_INTEGER:,}"
    scaling = file.of_architecture("rope.scaling.type")
    if scaling is not None and scaling not in _ROPE_SCALINGS:
        yield f"{prefix}rope.scaling.type is {_shown(scaling)}, expected one of {', '.join(_ROPE_SCALINGS)}"


def _tokenizer(file: GgufFile) -> Iterator[str]:
    model, tokens = file.metadata.get("tokenizer.ggml.model"), file.tokens
    if not isinstance(model, str) or model in ("no_vocab", "none") or not tokens:
        yield "it has no tokenizer"
        return
    try:
        b"\0".join(tokens).decode()
    except UnicodeDecodeError:
        yield "tokenizer.ggml.tokens has a token that is not UTF-8"
    spelt = [token for token in tokens if token]
    if len(set(spelt)) != len(spelt):
        yield "tokenizer.ggml.tokens has a token twice"
    if model == "llama":
        known = set(spelt)
        missing = [byte for byte in range(256) if b"<0x%02X>" % byte not in known and bytes([byte]) not in known]
        if missing:
            yield f"its tokenizer has no token for {len(missing)} of the 256 bytes"
    for key in ("tokenizer.ggml.token_type", "tokenizer.ggml.scores"):
        value = file.metadata.get(key)
        count = value.count if isinstance(value, LongArray) else len(value) if isinstance(value, tuple) else None
        if value is not None and count != len(tokens):
            yield f"{key} has {count} entries for {len(tokens):,} tokens"
    for key, value in file.metadata.items():
        if _TOKEN_ID.fullmatch(key) and value != NO_TOKEN and not (isinstance(value, int) and 0 <= value < len(tokens)):
            yield f"{key} is {_shown(value)} and there are {len(tokens):,} tokens"


def _tensors(file: GgufFile) -> Iterator[str]:
    for tensor in file.tensors:
        if len(tensor.dimensions) == 1:
            fits = tensor.type == _F32  # a norm, a bias or a scale; no kernel takes another type
        else:
            fits = tensor.type not in _NOT_WEIGHTS or _TABLE_OF_INDICES in tensor.name
        if not fits:
            yield f"tensor {tensor.name} has the type {tensor.type}, which cannot serve there"


def _shown(value: Value | None) -> str:
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else repr(value)[:60]
