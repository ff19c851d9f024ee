"""Reads and checks the header of a safetensors file, in time that does not depend on its size. It knows no model.

Format: 8 bytes of header length (little endian), a JSON header, then the data of all tensors without gaps.
https://huggingface.co/docs/safetensors/index#format
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from attrs import frozen

from enginebay.errors import ModelLoadError

MAX_HEADERBYTES = 16 << 20
MAX_TENSORS = 262_144
MAX_DIMENSIONS = 8
MAX_DIMENSION = 2**31 - 1
BYTES = dict.fromkeys(("BOOL", "U8", "I8", "F8_E4M3", "F8_E5M2", "F8_E8M0"), 1)
BYTES |= dict.fromkeys(("U16", "I16", "F16", "BF16"), 2)
BYTES |= dict.fromkeys(("U32", "I32", "F32"), 4)
BYTES |= dict.fromkeys(("U64", "I64", "F64", "C64"), 8)
_FOREIGN = {
    b"\x80\x02": "a Python pickle, which can run code",
    b"\x80\x03": "a Python pickle, which can run code",
    b"\x80\x04": "a Python pickle, which can run code",
    b"\x80\x05": "a Python pickle, which can run code",
    b"PK\x03\x04": "a zip archive, such as torch.save writes around a pickle",
    b"GGUF": "a GGUF file",
    b"version https://git-lfs": "a Git LFS pointer, not the weights themselves",
}


@frozen
class Tensor:
    """One tensor of a file: its number format, and its shape."""

    dtype: str
    shape: tuple[int, ...]


def read_header(path: Path) -> dict[str, Tensor]:
    """All tensors of a file by name.

    :raises ModelLoadError: it is not a safetensors file, or damaged, or larger than the limits of this module
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            start = file.read(32)
            length = int.from_bytes(start[:8], "little")
            if not 2 <= length <= size - 8 or start[8:9] != b"{":
                foreign = (kind for magic, kind in _FOREIGN.items() if start.startswith(magic))
                raise _damaged(path, f"is {next(foreign, f'no safetensors file, or a part of one ({size:,} bytes)')}")
            if length > MAX_HEADERBYTES:
                raise _damaged(path, f"has a header of {length:,} bytes; at most {MAX_HEADERBYTES:,} are read")
            file.seek(8)
            header = file.read(length)
    except OSError as error:
        raise _damaged(path, f"cannot be read: {error.strerror or error}") from error
    try:
        entries = json.loads(header, object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise _damaged(path, f"has a header that is not valid: {error}") from error
    return _tensors(path, entries, size - 8 - length)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    names = dict(pairs)
    if len(names) != len(pairs):
        raise ValueError("a name occurs twice")
    return names


def _tensors(path: Path, entries: dict[str, Any], data_bytes: int) -> dict[str, Tensor]:
    metadata = entries.pop("__metadata__", None) or {}  # MLX itself writes null
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise _damaged(path, "has metadata that is not text")
    if not 1 <= len(entries) <= MAX_TENSORS:
        raise _damaged(path, f"names {len(entries):,} tensors; 1 to {MAX_TENSORS:,} are read")
    tensors, places = {}, []
    for name, entry in entries.items():
        if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
            raise _damaged(path, f"describes the tensor {name[:80]!r} with other keys than the format has")
        dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
        if not isinstance(dtype, str) or dtype not in BYTES:
            raise _damaged(path, f"has a tensor {name[:80]!r} of the unknown type {str(dtype)[:80]!r}")
        if not _whole(shape, MAX_DIMENSION) or len(shape) > MAX_DIMENSIONS:
            raise _damaged(path, f"has a tensor {name[:80]!r} of an impossible shape")
        if not _whole(offsets, data_bytes) or len(offsets) != 2:
            raise _damaged(path, f"has a tensor {name[:80]!r} that lies outside the file")
        if offsets[1] - offsets[0] != math.prod(shape) * BYTES[dtype]:
            raise _damaged(path, f"has a tensor {name[:80]!r} whose shape does not fill its place")
        tensors[name] = Tensor(dtype, tuple(shape))
        places.append((offsets[0], offsets[1]))
    end = 0
    for begin, following in sorted(places):
        if begin != end:
            raise _damaged(path, "has tensors that overlap or leave gaps")
        end = following
    if end != data_bytes:
        raise _damaged(path, f"has {data_bytes:,} bytes of data; its header describes {end:,}")
    return tensors


def _whole(value: object, most: int) -> bool:
    """Whether ``value`` is a list of whole numbers from 0 to ``most``."""
    return isinstance(value, list) and all(type(number) is int and 0 <= number <= most for number in value)


def _damaged(path: Path, what: str) -> ModelLoadError:
    return ModelLoadError(f"{path.name} {what}.", hint=f"Download or convert {path.parent} again.", path=str(path))
