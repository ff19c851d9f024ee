"""Damaged model folders, made with knowledge of the format: each mutant changes one thing that a reader relies on."""

from __future__ import annotations

import json
import math
import random
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import enginebay_demo

DEMO = Path(enginebay_demo.__file__).parent / "models" / "mlx"
EXTREMES = (
    -1,
    0,
    1,
    2,
    3,
    7,
    255,
    1 << 16,
    1 << 20,
    2**31 - 1,
    2**31,
    2**32 + 1,
    2**40,
    2**53,
    2**63 - 1,
    2**64,
    10**30,
)
ODD = (None, True, "x", "", [], {}, [[]], 0.5, -1.5, 1e308, float("nan"), float("inf"))


def split(data: bytes) -> tuple[dict[str, Any], bytes]:
    """The header and the data of a safetensors file."""
    length = int.from_bytes(data[:8], "little")
    return json.loads(data[8 : 8 + length]), data[8 + length :]


def join(header: Any, data: bytes) -> bytes:
    """A safetensors file of this header and data."""
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + data


def small(folder: Path) -> Path:
    """A model of two layers with random weights, and the demo's tokenizer: 250 kB, so that hundreds of copies are cheap."""
    width, inner, words = 32, 64, 768
    shapes = {"model.embed_tokens.weight": [words, width], "model.norm.weight": [width]}
    for layer in range(2):
        for part in "qkvo":
            shapes[f"model.layers.{layer}.self_attn.{part}_proj.weight"] = [width, width]
        for part, shape in (("gate", [inner, width]), ("up", [inner, width]), ("down", [width, inner])):
            shapes[f"model.layers.{layer}.mlp.{part}_proj.weight"] = shape
        for part in ("input", "post_attention"):
            shapes[f"model.layers.{layer}.{part}_layernorm.weight"] = [width]
    random_, header, data = random.Random(3), {"__metadata__": {"format": "pt"}}, b""
    for name, shape in shapes.items():
        count = math.prod(shape)
        entry = {"dtype": "F32", "shape": shape, "data_offsets": [len(data), len(data) + 4 * count]}
        header |= {name: entry}
        data += struct.pack(f"<{count}f", *(random_.uniform(-0.2, 0.2) for _ in range(count)))
    shutil.copytree(DEMO, folder)
    (folder / "model.safetensors").write_bytes(join(header, data))
    config = json.loads((folder / "config.json").read_text())
    heads = {"num_attention_heads": 4, "num_key_value_heads": 4, "head_dim": 8, "num_hidden_layers": 2}
    (folder / "config.json").write_text(json.dumps(config | heads | {"hidden_size": width, "intermediate_size": inner}))
    return folder


def mutate(random_: random.Random, folder: Path, target: Path) -> None:
    """Write a damaged copy of ``folder`` to ``target``."""
    shutil.copytree(folder, target)
    random_.choice((_config, _config, _header, _header, _bytes, _tokenizer))(random_, target)


def _config(random_: random.Random, folder: Path) -> None:
    path = folder / "config.json"
    config = json.loads(path.read_text())
    numbers = [key for key, value in config.items() if type(value) in (int, float)]
    for _ in range(random_.choice((1, 1, 1, 2))):
        key = random_.choice(numbers if random_.random() < 0.8 else list(config))
        kind = random_.randrange(5)
        if kind == 0:
            config.pop(key, None)
        elif kind == 1:
            config[key] = random_.choice(ODD)
        else:
            old = config.get(key)
            near = (old + random_.choice((-1, 1)), old * 2) if type(old) is int else ()
            config[key] = random_.choice((*EXTREMES, *near))
    if random_.random() < 0.1:
        config["model_type"] = random_.choice(
            ("cache", "base", "../llama", "llama.x", "qwen2", "gemma2", "mamba", "os")
        )
    path.write_text(json.dumps(config))


def _header(random_: random.Random, folder: Path) -> None:
    path = folder / "model.safetensors"
    header, data = split(path.read_bytes())
    names = [name for name in header if name != "__metadata__"]
    for _ in range(random_.choice((1, 1, 2))):
        change = random_.choice((_shape, _shape, _offsets, _offsets, _dtype, _name, _entry))
        name = random_.choice(names)
        if name in header:
            change(random_, header, name)
    if random_.random() < 0.15:
        data = data[: random_.randrange(len(data) + 1)]
    path.write_bytes(join(header, data))


def _shape(random_: random.Random, header: dict[str, Any], name: str) -> None:
    shape = header[name]["shape"]
    if not isinstance(shape, list) or not shape:
        return
    place = random_.randrange(len(shape))
    edits: list[Callable[[], Any]] = [
        lambda: shape.__setitem__(place, random_.choice(EXTREMES)),
        lambda: shape.append(random_.choice(EXTREMES)),
        lambda: shape.pop(place),
        lambda: shape.reverse(),
        lambda: shape.extend([1] * random_.choice((1, 40, 100_000))),
        lambda: shape.__setitem__(place, random_.choice(ODD)),
    ]
    random_.choice(edits)()


def _offsets(random_: random.Random, header: dict[str, Any], name: str) -> None:
    offsets = header[name]["data_offsets"]
    if not isinstance(offsets, list) or len(offsets) != 2:
        return
    place = random_.randrange(2)
    edits: list[Callable[[], Any]] = [
        lambda: offsets.__setitem__(place, random_.choice(EXTREMES)),
        lambda: offsets.__setitem__(place, offsets[place] + random_.choice((-4, -1, 1, 4, 1 << 30, 1 << 45))),
        lambda: offsets.reverse(),
        lambda: offsets.pop(),
        lambda: offsets.__setitem__(slice(None), [value + (1 << 34) for value in offsets]),
        lambda: offsets.__setitem__(place, random_.choice(ODD)),
    ]
    random_.choice(edits)()


def _dtype(random_: random.Random, header: dict[str, Any], name: str) -> None:
    header[name]["dtype"] = random_.choice(
        ("F64", "F16", "BF16", "I8", "U8", "BOOL", "U64", "C64", "F8_E4M3", "F4", "", "X" * 10_000, 3, None)
    )


def _name(random_: random.Random, header: dict[str, Any], name: str) -> None:
    entry = header.pop(name)
    new = random_.choice(
        ("", "x" * 100_000, name + ".x", name.replace("layers.0", "layers.99999999"), "a." * 5_000, "\0")
    )
    if random_.random() < 0.8:
        header[new] = entry


def _entry(random_: random.Random, header: dict[str, Any], name: str) -> None:
    if random_.random() < 0.5:
        header[name].pop(random_.choice(list(header[name])))
    else:
        header[name] = random_.choice((*ODD, header[name] | {"more": 1}))


def _bytes(random_: random.Random, folder: Path) -> None:
    """Damage below the level of JSON: lengths, truncation, noise, nesting."""
    path = folder / "model.safetensors"
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    kind = random_.randrange(6)
    if kind == 0:
        new = random_.choice([number for number in EXTREMES if 0 <= number < 2**64])
        data = new.to_bytes(8, "little") + data[8:]
    elif kind == 1:
        data = data[: random_.choice((0, 1, 7, 8, 9, length, length + 8, random_.randrange(len(data))))]
    elif kind == 2:
        place = random_.randrange(8, 8 + length)
        data = data[:place] + bytes((random_.randrange(256),)) + data[place + 1 :]
    elif kind == 3:
        deep = b"[" * random_.choice((1_000, 100_000, 5_000_000))
        data = len(deep).to_bytes(8, "little") + deep
    elif kind == 4:
        data = length.to_bytes(8, "little") + random_.randbytes(length) + data[8 + length :]
    else:
        noise = bytearray(data)
        for _ in range(64):
            noise[random_.randrange(len(noise))] = random_.randrange(256)
        data = bytes(noise)
    path.write_bytes(data)


def _tokenizer(random_: random.Random, folder: Path) -> None:
    """Damage to the tokenizer: ids, missing parts, nesting, text that is no JSON."""
    path = folder / "tokenizer.json"
    content = json.loads(path.read_text())
    vocabulary, added = content["model"]["vocab"], content["added_tokens"]
    kind = random_.randrange(7)
    if kind == 0:
        vocabulary[random_.choice(list(vocabulary))] = random_.choice((*EXTREMES, *ODD))
    elif kind == 1:
        added[random_.randrange(len(added))]["id"] = random_.choice((*EXTREMES, *ODD))
    elif kind == 2:
        part = random_.choice(list(content))
        content[part] = random_.choice((*ODD, *EXTREMES))
    elif kind == 3:
        content["decoder"] = "@"
    elif kind == 4:
        content["model"]["merges"][random_.randrange(9)] = random_.choice((*ODD, ["a", "b"], ["zz", "zz"], "a b c"))
    elif kind == 5:
        content.pop(random_.choice(list(content)))
    text = json.dumps(content)
    if kind == 3:
        depth = random_.choice((10, 60, 1_000, 50_000))
        inner = '{"type": "Sequence", "decoders": [' * depth + '{"type": "ByteLevel"}' + "]}" * depth
        text = text.replace('"@"', inner)
    if kind == 6:
        place = random_.randrange(len(text))
        text = text[:place] + random_.choice(("", "\0", "[" * 100_000, text[place + 1 :]))
    path.write_text(text)
