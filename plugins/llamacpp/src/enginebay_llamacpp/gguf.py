"""Reads what a GGUF file says of itself, within bounds, before native code does. It does not know what a model is."""

from __future__ import annotations

import mmap
import struct
from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import Any, Final, TypeAlias

from attrs import frozen

from enginebay.errors import ModelLoadError

MAX_KEYS: Final = 65_536
MAX_TENSORS: Final = 262_144
MAX_KEY_BYTES: Final = 65_535
MAX_STRING_BYTES: Final = 16 << 20
MAX_ARRAY_ENTRIES: Final = 64 << 20
MAX_ARRAY_STRINGS: Final = 4 << 20  # each becomes an object of ours, or at least a step of a loop
MAX_ALIGNMENT: Final = 1 << 20
MAX_NAME_BYTES: Final = 63  # ggml keeps a name in 64 bytes, the last of them zero
SHORT_ARRAY: Final = 1_024  # no per-layer list is longer

Scalar: TypeAlias = bool | int | float | str

# GGUF value types by number, as struct codes. 8 is a string, 9 an array.
_CODES: Final = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING: Final = 8
_ARRAY: Final = 9
TYPE_NAMES: Final = ("u8", "i8", "u16", "i16", "u32", "i32", "f32", "bool", "string", "array", "u64", "i64", "f64")

# ggml tensor types by number: elements and bytes of a block.
_BLOCKS: Final = {
    0: (1, 4), 1: (1, 2), 2: (32, 18), 3: (32, 20), 6: (32, 22), 7: (32, 24), 8: (32, 34), 9: (32, 40), 10: (256, 84),
    11: (256, 110), 12: (256, 144), 13: (256, 176), 14: (256, 210), 15: (256, 292), 16: (256, 66), 17: (256, 74),
    18: (256, 98), 19: (256, 50), 20: (32, 18), 21: (256, 110), 22: (256, 82), 23: (256, 136), 24: (1, 1), 25: (1, 2),
    26: (1, 4), 27: (1, 8), 28: (1, 8), 29: (256, 56), 30: (1, 2), 34: (256, 54), 35: (256, 66), 39: (32, 17),
    40: (64, 36), 41: (128, 18), 42: (64, 18),
}  # fmt: skip


@frozen
class LongArray:
    """An array that was measured and skipped. ``type`` is the GGUF type of its entries."""

    type: int
    count: int


Value: TypeAlias = Scalar | tuple[Scalar, ...] | LongArray


@frozen
class Tensor:
    """A tensor's place in the file. ``type`` is ggml's number; ``dimensions`` has the row length first."""

    name: str
    dimensions: tuple[int, ...]
    type: int
    size_bytes: int


@frozen
class GgufFile:
    """The header of a file whose parts all lie where they should. ``types`` are the GGUF types of ``metadata``.

    ``tokens`` are the texts of the vocabulary as the file spells them, empty where it has none.
    """

    path: Path
    metadata: Mapping[str, Value]
    types: Mapping[str, int]
    tensors: tuple[Tensor, ...]
    tokens: tuple[bytes, ...]

    @property
    def architecture(self) -> str:
        return str(self.metadata.get("general.architecture", ""))

    def of_architecture(self, key: str) -> Value | None:
        """The value of ``<architecture>.<key>``."""
        return self.metadata.get(f"{self.architecture}.{key}")

    @property
    def weights_bytes(self) -> int:
        return sum(tensor.size_bytes for tensor in self.tensors)


def damaged(path: Path, reason: str, **fields: Any) -> ModelLoadError:
    """The error for a file that native code must not see."""
    hint = "Compare the file's checksum with its publisher's, and download or convert it again."
    return ModelLoadError(f"{path} is not a sound GGUF model: {reason}.", hint=hint, path=str(path), **fields)


def read(path: Path) -> GgufFile:
    """Read the header of one GGUF file; tensor data is not touched.

    :raises ModelLoadError: the file is absent, not GGUF, or a part is malformed, out of bounds or outside the file
    """
    try:
        with path.open("rb") as file:
            start = file.read(4)
            if start == b"GGUF":
                with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                    return _Reader(path, data).file()
    except OSError as error:
        raise _unreadable(path, error) from error
    what = "it is empty" if not start else f"it begins with {start!r}, not with b'GGUF'"
    hint = "Give the path of a .gguf file. A model in another form needs the engine that reads it: enginebay engines"
    raise ModelLoadError(f"{path} is not a GGUF file: {what}.", hint=hint, path=str(path))


def _unreadable(path: Path, error: OSError) -> ModelLoadError:
    if path.is_dir():
        found = sorted(path.glob("*.gguf"))
        hint = f"Give the file itself: {found[0]}" if found else "It holds no .gguf file either."
        return ModelLoadError(f"{path} is a folder, and a GGUF model is a file.", hint=hint, path=str(path))
    reason = error.strerror or str(error)
    return ModelLoadError(f"Cannot read {path}: {reason}.", hint="Check the path and its permissions.", path=str(path))


class _Reader:
    """A cursor over the mapped file. Every read is checked against the file's end first."""

    def __init__(self, path: Path, data: mmap.mmap) -> None:
        self._path = path
        self._data = data
        self._size = len(data)
        self._at = 4

    def file(self) -> GgufFile:
        version, tensor_count, key_count = self._unpack("<IQQ", "the header")
        if version not in (2, 3):
            raise self._wrong(f"version {version} is unknown (2 and 3 are read)")
        if key_count > MAX_KEYS:
            raise self._wrong(f"{key_count:,} keys, at most {MAX_KEYS:,} are read")
        if tensor_count > MAX_TENSORS:
            raise self._wrong(f"{tensor_count:,} tensors, at most {MAX_TENSORS:,} are read")
        metadata: dict[str, Value] = {}
        types: dict[str, int] = {}
        tokens: tuple[bytes, ...] = ()
        for _ in range(key_count):
            key = self._name("a key", MAX_KEY_BYTES)
            if key in metadata:
                raise self._wrong(f"key {key} occurs twice")
            (types[key],) = self._unpack("<I", f"the type of {key}")
            if key == "tokenizer.ggml.tokens" and types[key] == _ARRAY:
                metadata[key], tokens = self._vocabulary(key)
            else:
                metadata[key] = self._value(key, types[key])
        return GgufFile(self._path, metadata, types, self._tensors(tensor_count, metadata, types), tokens)

    def _value(self, key: str, kind: int) -> Value:
        if kind == _ARRAY:
            element, count = self._unpack("<IQ", f"the array {key}")
            return self._array(key, element, count)
        if kind == _STRING:
            return self._string(key, MAX_STRING_BYTES).decode("utf-8", "replace")
        if kind not in _CODES:
            raise self._wrong(f"{key} has the unknown type {kind}")
        value: Scalar = self._unpack("<" + _CODES[kind], key)[0]
        return value

    def _array(self, key: str, element: int, count: int) -> Value:
        if element == _STRING:
            self._count(key, count, MAX_ARRAY_STRINGS)
            self._skip_strings(key, count)
            return LongArray(element, count)
        if element not in _CODES:
            raise self._wrong(f"{key} is an array of the unknown type {element}")
        self._count(key, count, MAX_ARRAY_ENTRIES)
        if count <= SHORT_ARRAY:
            return tuple(self._unpack(f"<{count}{_CODES[element]}", key))
        self._skip(count * struct.calcsize("<" + _CODES[element]), key)
        return LongArray(element, count)

    def _vocabulary(self, key: str) -> tuple[Value, tuple[bytes, ...]]:
        element, count = self._unpack("<IQ", f"the array {key}")
        if element != _STRING:
            raise self._wrong(f"{key} is an array of type {element}, not of strings")
        self._count(key, count, MAX_ARRAY_STRINGS)
        start, data = self._at, self._data
        ends = self._skip_strings(key, count)
        tokens, begin = [], start + 8
        for end in ends:
            tokens.append(data[begin:end])
            begin = end + 8
        return LongArray(element, count), tuple(tokens)

    def _skip_strings(self, key: str, count: int) -> list[int]:
        """Where each string ends. A vocabulary has hundreds of thousands, so the loop does as little as it can."""
        at, size, data, length_at, ends = self._at, self._size, self._data, struct.Struct("<Q").unpack_from, []
        try:
            for _ in range(count):
                (length,) = length_at(data, at)
                if length > MAX_STRING_BYTES:
                    raise self._wrong(f"a string of {length:,} bytes in {key}, at most {MAX_STRING_BYTES:,} are read")
                at += 8 + length
                ends.append(at)
        except struct.error:
            at = size + 1
        if at > size:
            raise self._wrong(f"the array {key} goes past the end of the file")
        self._at = at
        return ends

    def _tensors(self, count: int, metadata: dict[str, Value], types: dict[str, int]) -> tuple[Tensor, ...]:
        alignment = metadata.get("general.alignment", 32)
        if types.get("general.alignment", 4) != 4 or not isinstance(alignment, int):
            raise self._wrong("general.alignment is not a u32")
        if not 8 <= alignment <= MAX_ALIGNMENT or alignment & (alignment - 1):
            raise self._wrong(f"general.alignment is {alignment:,}, expected a power of two of 8 to {MAX_ALIGNMENT:,}")
        tensors: list[Tensor] = []
        names: set[str] = set()
        expected = 0
        for _ in range(count):
            name = self._name("a tensor's name", MAX_NAME_BYTES)
            if name in names:
                raise self._wrong(f"tensor {name} occurs twice")
            names.add(name)
            (rank,) = self._unpack("<I", f"tensor {name}")
            if not 1 <= rank <= 4:
                raise self._wrong(f"tensor {name} has {rank:,} dimensions, expected 1 to 4")
            *dimensions, kind, offset = self._unpack(f"<{rank}QIQ", f"tensor {name}")
            tensor = Tensor(name, tuple(dimensions), kind, self._tensor_bytes(name, dimensions, kind))
            if offset != expected:
                raise self._wrong(f"tensor {name} is at offset {offset:,}, expected {expected:,}")
            expected += -(-tensor.size_bytes // alignment) * alignment
            tensors.append(tensor)
        if tensors:
            begin = -(-self._at // alignment) * alignment
            end = begin + expected - (-tensors[-1].size_bytes % alignment)
            if end > self._size:
                raise self._wrong(f"it is cut short: tensors end at byte {end:,}, the file at byte {self._size:,}")
        return tuple(tensors)

    def _tensor_bytes(self, name: str, dimensions: list[int], kind: int) -> int:
        if kind not in _BLOCKS:
            raise self._wrong(f"tensor {name} has the unknown type {kind}")
        elements, block_bytes = _BLOCKS[kind]
        if min(dimensions) < 1 or dimensions[0] % elements:
            raise self._wrong(f"tensor {name} has the impossible shape {tuple(dimensions)}")
        return prod(dimensions) // elements * block_bytes

    def _count(self, key: str, count: int, limit: int) -> None:
        if count > limit:
            raise self._wrong(f"the array {key} has {count:,} entries, at most {limit:,} are read")

    def _name(self, what: str, limit: int) -> str:
        raw = self._string(what, limit)
        if not raw or not raw.isascii():
            raise self._wrong(f"{what} is empty or not ASCII: {raw[:40]!r}")
        return raw.decode("ascii")

    def _string(self, what: str, limit: int) -> bytes:
        (length,) = self._unpack("<Q", what)
        if length > limit:
            raise self._wrong(f"{what} is {length:,} bytes long, at most {limit:,} are read")
        begin = self._at
        self._skip(length, what)
        return self._data[begin : self._at]

    def _unpack(self, form: str, what: str) -> tuple[Any, ...]:
        begin = self._at
        self._skip(struct.calcsize(form), what)
        return struct.unpack_from(form, self._data, begin)

    def _skip(self, length: int, what: str) -> None:
        if length > self._size - self._at:
            raise self._wrong(f"{what} goes past the end of the file")
        self._at += length

    def _wrong(self, reason: str) -> ModelLoadError:
        return damaged(self._path, reason, offset_bytes=self._at)
