"""Reads a FlatBuffer by a schema and checks every offset on the way. It does not know what the tables mean.

The format is that of https://flatbuffers.dev/internals/: little-endian, each table begins with the distance to its
vtable, offsets to tables, vectors and strings count forward from where they stand.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from attrs import field, frozen

Schema: TypeAlias = Mapping[str, Sequence[Sequence[Any]]]
Table: TypeAlias = dict[str, Any]

MAX_DEPTH = 24
MAX_OBJECTS = 4_000_000
_U16 = struct.Struct("<H")
_U32 = struct.Struct("<I")
_I32 = struct.Struct("<i")
_SIGNED = {1: struct.Struct("<b"), 2: struct.Struct("<h"), 4: struct.Struct("<i"), 8: struct.Struct("<q")}


class DamagedBufferError(ValueError):
    """The bytes are not what the format or the schema says."""


@frozen
class Vector:
    """A vector of ``count`` scalars of ``size`` bytes each, at ``offset``; read only when asked for."""

    data: Any = field(repr=False)
    offset: int
    count: int
    size: int

    def integers(self) -> tuple[int, ...]:
        """The items as signed integers."""
        return struct.unpack_from(f"<{self.count}{'bhiq'[self.size.bit_length() - 1]}", self.data, self.offset)


class FlatBuffer:
    """A buffer and its schema: ``tables`` maps a table's name to its fields, ``unions`` a union's to its members.

    A field is a name and a kind: a scalar's size in bytes, ``string``, a table's name, ``union:NAME``, or one of these
    in brackets for a vector. ``data`` is bytes, or anything with the buffer protocol.
    """

    def __init__(self, data: Any, tables: Schema, unions: Mapping[str, Sequence[str]]) -> None:
        self._data = data
        self._length = len(data)
        self._tables = tables
        self._unions = unions
        self._objects = 0

    def root(self, name: str) -> Table:
        """The root table, with all that it leads to.

        :raises DamagedBufferError: an offset leads outside, a length is impossible, or it nests too deeply
        """
        return self._table(self._follow(0), name, 0)

    def number(self, offset: int, kind: struct.Struct) -> int:
        """The number at ``offset``."""
        if not 0 <= offset <= self._length - kind.size or offset % kind.size:
            raise DamagedBufferError(f"a number at byte {offset:,} of {self._length:,} is outside, or not aligned")
        value: int = kind.unpack_from(self._data, offset)[0]
        return value

    def _follow(self, offset: int) -> int:
        distance = self.number(offset, _U32)
        if distance == 0 or distance >= 1 << 31:
            raise DamagedBufferError(f"the offset at byte {offset:,} leads nowhere")
        return offset + distance

    def _table(self, offset: int, name: str, depth: int) -> Table:
        self._count(depth)
        vtable = offset - self.number(offset, _I32)
        vtable_bytes, table_bytes = self.number(vtable, _U16), self.number(vtable + 2, _U16)
        if vtable_bytes < 4 or vtable_bytes % 2 or vtable + vtable_bytes > self._length:
            raise DamagedBufferError(f"the table {name} at byte {offset:,} has no valid list of fields")
        if table_bytes < 4 or offset + table_bytes > self._length:
            raise DamagedBufferError(f"the table {name} at byte {offset:,} ends outside the file")
        fields = self._tables[name]
        table: Table = {}
        for index in range(min(len(fields), (vtable_bytes - 4) // 2)):
            place = self.number(vtable + 4 + 2 * index, _U16)
            if place == 0:
                continue
            label, kind = fields[index]
            size = kind if isinstance(kind, int) else 4
            if place < 4 or place + size > table_bytes:
                raise DamagedBufferError(f"{name}.{label} at byte {offset:,} is outside its table")
            table[label] = self._value(offset + place, kind, table.get(label + "_type", 0), depth)
        return table

    def _value(self, offset: int, kind: int | str, member: int, depth: int) -> Any:
        if isinstance(kind, int):
            return self.number(offset, _SIGNED[kind])
        target = self._follow(offset)
        if kind == "string":
            return self._string(target)
        if kind[0] == "[":
            return self._vector(target, kind[1:-1], depth)
        if kind.startswith("union:"):
            members = self._unions[kind[6:]]
            if not 0 < member < len(members):
                raise DamagedBufferError(f"the union at byte {offset:,} has a kind, {member}, that is not known")
            kind = members[member]
        return self._table(target, kind, depth + 1)

    def _vector(self, offset: int, kind: str, depth: int) -> Any:
        self._count(depth)
        count, start = self.number(offset, _U32), offset + 4
        size = int(kind) if kind.isdigit() else 4
        if count * size > self._length - start or start % min(size, 4):
            raise DamagedBufferError(f"the list at byte {offset:,} has {count:,} items, which end outside the file")
        if kind.isdigit():
            if size == 8 and count and start % 8:
                raise DamagedBufferError(f"the list at byte {offset:,} is not aligned")
            return Vector(self._data, start, count, size)
        places = [self._follow(start + 4 * index) for index in range(count)]
        if kind == "string":
            return [self._string(place) for place in places]
        return [self._table(place, kind, depth + 1) for place in places]

    def _string(self, offset: int) -> bytes:
        self._count(0)
        count, start = self.number(offset, _U32), offset + 4
        if count >= self._length - start or self._data[start + count] != 0:
            raise DamagedBufferError(f"the text at byte {offset:,} has no end")
        return bytes(self._data[start : start + count])

    def _count(self, depth: int) -> None:
        self._objects += 1
        if self._objects > MAX_OBJECTS or depth > MAX_DEPTH:
            raise DamagedBufferError("it holds too many parts, or they nest too deeply")
