"""Damaged copies of an exported folder: fields of its formats changed one by one, files cut, exchanged or made up."""

from __future__ import annotations

import json
import random
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from enginebay_mnn.flatbuffer import FlatBuffer, Vector
from enginebay_mnn.graph import schema

Folder = dict[str, bytes]


class Map(FlatBuffer):
    """A reader that notes where each number of the file is."""

    def __init__(self, data: bytes) -> None:
        super().__init__(data, schema().tables, {"OpParameter": schema().parameters})
        self.places: list[tuple[int, int]] = []
        self.root("Net")

    def number(self, offset: int, kind: struct.Struct) -> int:
        self.places.append((offset, kind.size))
        return super().number(offset, kind)

    def _vector(self, offset: int, kind: str, depth: int) -> Any:
        value = super()._vector(offset, kind, depth)
        if isinstance(value, Vector):
            self.places += [(value.offset + index * value.size, value.size) for index in range(value.count)]
        return value


def read_folder(path: Path) -> Folder:
    return {file.name: file.read_bytes() for file in path.iterdir() if file.is_file()}


def write_folder(folder: Folder, path: Path) -> None:
    path.mkdir(parents=True)
    for name, data in folder.items():
        (path / name).write_bytes(data)


def mutants(good: Folder, count: int, seed: int) -> Iterator[tuple[str, Folder]]:
    """``count`` damaged copies of ``good``, each with a word on what was done."""
    draw = random.Random(seed)
    places = Map(good["llm.mnn"]).places
    kinds = [_graph] * 60 + [_tokenizer] * 12 + [_json] * 14 + [_cut] * 8 + [_flip] * 4 + [_swap] * 2
    for _ in range(count):
        folder = dict(good)
        kind = draw.choice(kinds)
        label = kind(draw, folder, places)
        yield f"{kind.__name__[1:]}: {label}", folder


def _number(draw: random.Random, value: int, size: int) -> int:
    limit = 1 << (8 * size - 1)
    near = [0, 1, -1, 2, value + 1, value - 1, value * 2, -value, value ^ (1 << draw.randrange(8 * size))]
    changed = draw.choice([*near, limit - 1, -limit, draw.randrange(256), draw.randrange(-limit, limit)])
    return (changed + limit) % (2 * limit) - limit


def _graph(draw: random.Random, folder: Folder, places: list[tuple[int, int]]) -> str:
    data = bytearray(folder["llm.mnn"])
    labels = []
    for _ in range(draw.choice([1, 1, 1, 2, 4])):
        offset, size = draw.choice(places)
        value = int.from_bytes(data[offset : offset + size], "little", signed=True)
        changed = _number(draw, value, size)
        data[offset : offset + size] = changed.to_bytes(size, "little", signed=True)
        labels.append(f"{value} at {offset} becomes {changed}")
    folder["llm.mnn"] = bytes(data)
    return ", ".join(labels)


def _tokenizer(draw: random.Random, folder: Folder, _places: list[tuple[int, int]]) -> str:
    data = bytearray(folder["tokenizer.mtok"])
    start = data.index(b"\n", data.index(b"\n", data.index(b"\n") + 1) + 1) + 1
    if draw.random() < 0.2:
        lines = bytes(data[:start]).decode().split("\n")
        line = draw.randrange(3)
        words = lines[line].split(" ")
        words[draw.randrange(len(words))] = draw.choice(["-1", "0", "99999999", "x", "", "4294967296"])
        lines[line] = " ".join(words)
        folder["tokenizer.mtok"] = "\n".join(lines).encode() + bytes(data[start:])
        return f"header line {line}"
    size = draw.choice([1, 2, 4])
    offset = draw.choice([start + draw.randrange(400), draw.randrange(start, len(data) - size)])
    value = int.from_bytes(data[offset : offset + size], "little", signed=True)
    data[offset : offset + size] = _number(draw, value, size).to_bytes(size, "little", signed=True)
    folder["tokenizer.mtok"] = bytes(data)
    return f"{size} bytes at {offset}"


def _json(draw: random.Random, folder: Folder, _places: list[tuple[int, int]]) -> str:
    name = draw.choice(["config.json", "llm_config.json", "llm_config.json"])
    document = json.loads(folder[name])
    key = draw.choice([key for key in document if key != "jinja"])
    value = document[key]
    if draw.random() < 0.15:
        del document[key]
        change: Any = "gone"
    else:
        strange: list[Any] = [None, "", "x", [], {}, True, -1, 0, 1 << 40, 0.5]
        strange += ["../" + str(value), "/dev/null", "config.json"]
        if isinstance(value, int) and not isinstance(value, bool):
            strange += [value + 1, value - 1, value * 2, value // 2, -value, 1 << 31]
        if isinstance(value, list):
            index = draw.randrange(len(value))
            items = (0, -1, value[index] + 2, 1 << 62, 4, 8)
            strange += [[*value[:index], item, *value[index + 1 :]] for item in items]
        change = draw.choice(strange)
        document[key] = change
    folder[name] = json.dumps(document).encode()
    return f"{name}: {key} becomes {change!r}"


def _cut(draw: random.Random, folder: Folder, _places: list[tuple[int, int]]) -> str:
    name = draw.choice(sorted(folder))
    length = draw.choice([0, 1, draw.randrange(len(folder[name])), len(folder[name]) - 1])
    folder[name] = folder[name][:length]
    return f"{name} to {length} bytes"


def _flip(draw: random.Random, folder: Folder, _places: list[tuple[int, int]]) -> str:
    name = draw.choice(["llm.mnn", "llm.mnn", "tokenizer.mtok", "llm_config.json"])
    data = bytearray(folder[name])
    for _ in range(draw.choice([1, 4, 32])):
        data[draw.randrange(len(data))] = draw.randrange(256)
    folder[name] = bytes(data)
    return name


def _swap(draw: random.Random, folder: Folder, _places: list[tuple[int, int]]) -> str:
    name, other = draw.sample(sorted(folder), 2)
    folder[name] = draw.choice([folder[other], draw.randbytes(len(folder[name]))])
    return name
