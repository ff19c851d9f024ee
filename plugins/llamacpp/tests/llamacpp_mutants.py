"""Damages a GGUF file in ways that its structure suggests, and counts what native code survives. Run as a program.

A mutant has one fault. Structure-aware ones change a field in place (a count, length, type, offset, dimension, value)
or rewrite the file around a changed key, array, token or tensor; byte-level ones change one byte. Every mutant is used
with llama.cpp in a process of its own, forked from one that has the library in memory; one that the check stops is used
without the check, to see what that was worth. The output counts [kind, what became of it, whether it was stopped].
"""

from __future__ import annotations

import json
import os
import random
import resource
import signal
import struct
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

CODES = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
STRING, ARRAY = 8, 9
BLOCKS = {0: (1, 4), 1: (1, 2), 2: (32, 18), 8: (32, 34), 9: (32, 40), 12: (256, 144), 15: (256, 292), 20: (32, 18)}
BLOCKS |= {24: (1, 1), 25: (1, 2), 26: (1, 4), 27: (1, 8), 28: (1, 8), 30: (1, 2), 39: (32, 17)}
POWERS = [1 << power for power in (8, 9, 10, 12, 16, 20, 31, 32, 40, 63, 64)]
EDGES = [0, 1, 2, 3, 7, 64, *POWERS[:-1], *(power - 1 for power in POWERS)]
FLOATS = [float("nan"), float("inf"), -float("inf"), -1.0, 0.0, 1e-45, 1e38, 0.5]
NAMES = ["", "x" * 300, "é"]
_NAMES = """
llama qwen2 gemma3 mamba bert t5 falcon phi3 rwkv6 deepseek2 gpt2 plamo2 rwkv clip
"""
NAMES += _NAMES.split()
NAMES += ["no_vocab", "none", "spm", "llama-bpe", "default", "linear", "yarn", "longrope"]
_ADDED = """
expert_count expert_used_count expert_group_count expert_group_used_count expert_shared_count
leading_dense_block_count attention.key_length attention.value_length attention.sliding_window
attention.layer_norm_epsilon attention.causal attention.clamp_kqv attention.max_alibi_bias rope.scaling.factor
rope.scaling.original_context_length rope.freq_scale nextn_predict_layers pooling_type logit_scale vocab_size
ssm.conv_kernel ssm.state_size tensor_data_layout
"""
ADDED = _ADDED.split()


class Document:
    """A GGUF file in parts. ``fields`` are the places of its numbers: (offset, struct code, what)."""

    def __init__(self, raw: bytes) -> None:
        self.raw, self.at = raw, 0
        self.fields: list[tuple[int, str, str]] = []
        self.keys: list[tuple[bytes, int, Any]] = []
        self.tensors: list[list[Any]] = []
        self.take("4s", "magic")
        self.version = self.take("I", "version")
        tensors, keys = self.take("Q", "tensors"), self.take("Q", "keys")
        for _ in range(keys):
            name, kind = self.string("key"), self.take("I", "type")
            self.keys.append((name, kind, self.value(kind)))
        for _ in range(tensors):
            name, rank = self.string("tensor name"), self.take("I", "rank")
            shape = [self.take("Q", "dimension") for _ in range(rank)]
            self.tensors.append([name, shape, self.take("I", "tensor type"), self.take("Q", "offset"), b""])
        base = -(-self.at // 32) * 32
        starts = [tensor[3] for tensor in self.tensors] + [len(raw) - base]
        for tensor, begin, end in zip(self.tensors, starts, starts[1:], strict=False):
            tensor[4] = raw[base + begin : base + end]

    def take(self, code: str, what: str) -> Any:
        self.fields.append((self.at, code, what))
        (value,) = struct.unpack_from("<" + code, self.raw, self.at)
        self.at += struct.calcsize(code)
        return value

    def string(self, what: str) -> bytes:
        length = self.take("Q", f"length of {what}")
        self.at += length
        return self.raw[self.at - length : self.at]

    def value(self, kind: int) -> Any:
        if kind == ARRAY:
            element, count = self.take("I", "element type"), self.take("Q", "count")
            values = []
            for i in range(count):
                mark = len(self.fields)
                values.append(self.string("string") if element == STRING else self.take(CODES[element], "element"))
                if i > 8:  # one of hundreds says as much as all of them
                    del self.fields[mark:]
            return [element, values]
        return self.string("value") if kind == STRING else self.take(CODES[kind], "value")

    def write(self) -> bytes:
        out = bytearray(b"GGUF" + struct.pack("<IQQ", self.version, len(self.tensors), len(self.keys)))

        def string(text: bytes) -> bytes:
            return struct.pack("<Q", len(text)) + text

        for name, kind, value in self.keys:
            out += string(name) + struct.pack("<I", kind)
            if kind == ARRAY:
                element, values = value
                out += struct.pack("<IQ", element, len(values))
                for entry in values:
                    out += string(entry) if element == STRING else struct.pack("<" + CODES[element], entry)
            else:
                out += string(value) if kind == STRING else struct.pack("<" + CODES[kind], value)
        data = bytearray()
        for name, shape, kind, _, content in self.tensors:
            out += string(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, kind, len(data))
            data += content + bytes(-len(content) % 32)
        return bytes(out + bytes(-len(out) % 32) + data)


def fits(value: Any, code: str) -> Any:
    """``value`` as a number that ``code`` can hold."""
    if code == "?":
        return bool(value)
    if code in "fd":
        return float(value) if not isinstance(value, bytes) else 0.0
    bits = 8 * struct.calcsize(code)
    value = int(value) & ((1 << bits) - 1) if value == value and abs(value) < 1e300 else 0
    return value - (1 << bits) if code.islower() and value >> (bits - 1) else value


def near(dice: random.Random, value: Any) -> Any:
    if isinstance(value, float):
        return dice.choice([*FLOATS, value * 2, -value])
    return dice.choice(
        [*EDGES, value + 1, value - 1, value * 2, value // 2, dice.getrandbits(32), value + 32, value + 1024]
    )


def patch_field(document: Document, dice: random.Random) -> bytes:
    kind = dice.choice(sorted({what for _, _, what in document.fields}))
    at, code, what = dice.choice([field for field in document.fields if field[2] == kind])
    raw = bytearray(document.raw)
    if code == "4s":
        raw[at : at + 4] = dice.choice([b"GGML", b"\0\0\0\0", b"GGUf", b"FUGG"])
    elif "type" in what:
        struct.pack_into("<I", raw, at, dice.choice([*range(45), 255, 1 << 31, (1 << 32) - 1]))
    else:
        (old,) = struct.unpack_from("<" + code, raw, at)
        struct.pack_into("<" + code, raw, at, fits(near(dice, old), code))
    return bytes(raw)


def change_key(document: Document, dice: random.Random) -> None:
    arrays = [index for index, key in enumerate(document.keys) if key[1] == ARRAY]
    index = dice.choice(arrays) if dice.random() < 0.3 else dice.randrange(len(document.keys))
    name, kind, value = document.keys[index]
    choice = dice.randrange(10)
    if choice == 0:
        del document.keys[index]
    elif choice == 1:
        document.keys.append(document.keys[index])
    elif choice == 2:
        renamed = bytearray(name)
        renamed[dice.randrange(len(renamed))] = dice.randrange(256)
        document.keys[index] = (bytes(renamed), kind, value)
    elif kind == STRING:
        new = dice.choice([name.encode() for name in NAMES] + [b"\xff\xfe", value + b"x", value[:-1]])
        document.keys[index] = (name, kind, new)
    elif kind == ARRAY:
        change_array(value, dice)
    elif choice == 3:
        other = dice.choice(list(CODES))
        document.keys[index] = (name, other, fits(value, CODES[other]))
    else:
        document.keys[index] = (name, kind, fits(near(dice, value), CODES[kind]))


def change_array(value: list[Any], dice: random.Random) -> None:
    element, values = value
    choice = dice.randrange(6)
    index = dice.randrange(max(1, len(values)))
    if choice == 0 or not values:
        del values[index:]
    elif choice == 1:
        values.append(values[index])
    elif choice == 2:
        del values[index]
    elif element == STRING:
        values[index] = dice.choice(
            [
                values[dice.randrange(len(values))],
                b"",
                b" ",
                b"\xff\xc0",
                b"x" * 70_000,
                values[index] + b" ",
                "☃".encode(),
            ]
        )
    else:
        values[index] = fits(near(dice, values[index]), CODES[element])


def add_key(document: Document, dice: random.Random) -> None:
    name = f"llama.{dice.choice(ADDED)}".encode()
    kind = dice.choice([4, 4, 4, 5, 6, 7, 8])
    value = dice.choice(NAMES).encode() if kind == STRING else fits(near(dice, 4.0 if kind == 6 else 4), CODES[kind])
    extra = [
        (b"llama.rope.scaling.type", STRING, dice.choice(NAMES).encode()),
        (b"general.alignment", 4, dice.choice(EDGES) & 0xFFFFFFFF),
    ]
    document.keys.append(dice.choice([(name, kind, value)] * 4 + extra))


def change_tensor(document: Document, dice: random.Random) -> None:
    index = dice.randrange(len(document.tensors))
    tensor = document.tensors[index]
    choice = dice.randrange(10)
    if choice == 0:
        del document.tensors[index]
    elif choice == 1:
        tensor[0] = dice.choice([b"", b"x" * 64, tensor[0] + b"x", dice.choice(document.tensors)[0]])
    elif choice == 2:
        tensor[1] = tensor[1][::-1]
    elif choice == 3:
        tensor[1] = dice.choice([[], [1] * 5, [*tensor[1], 1], tensor[1][:1]])
    elif choice == 4:
        tensor[1][dice.randrange(len(tensor[1]))] = dice.choice([edge for edge in EDGES if edge < 1 << 64])
    elif choice == 5:
        tensor[2] = dice.randrange(45)
    elif choice == 6:
        tensor[4] = tensor[4][: dice.randrange(len(tensor[4]))]
    else:  # another type, in a file that is otherwise whole
        tensor[2] = dice.choice(list(BLOCKS))
        elements, size = BLOCKS[tensor[2]]
        count = 1
        for dimension in tensor[1]:
            count *= dimension
        tensor[4] = bytes(-(-count // elements) * size)


def structural(raw: bytes, dice: random.Random) -> bytes:
    document = Document(raw)
    change: Callable[[Document, random.Random], bytes | None] = dice.choice(
        [patch_field, patch_field, change_key, change_key, add_key, change_tensor]
    )
    return change(document, dice) or document.write()


def byte_level(raw: bytes, dice: random.Random, header: int) -> bytes:
    out = bytearray(raw)
    out[dice.randrange(header if dice.random() < 0.8 else len(out))] = dice.randrange(256)
    return bytes(out)


def use_natively(path: Path) -> int:
    """What the engine does with a file: load, read the vocabulary, make a context, tokenize, make two steps. 0 or 3."""
    from enginebay.data import LoadRequest
    from enginebay.decode.protocol import Feed
    from enginebay.errors import EngineError
    from enginebay_llamacpp.options import Options
    from enginebay_llamacpp.steps import LlamaSteps, open_steps

    try:
        model = open_steps(LoadRequest(path, "gguf", Options(threads=1), context_tokens=64, sequences=2))
        if isinstance(model, LlamaSteps):
            model.encode("Once upon a time, 2 café <|im_end|>", True)
            model.step([Feed(0, [1, 2, 3]), Feed(1, [4])])
            model.step([Feed(0, [5])])
        else:
            model.embed([1, 2, 3])  # type: ignore[attr-defined]
        model.close()
    except EngineError:
        return 3
    return 0


def in_child(path: Path, *, checked: bool) -> str:
    """``fine``, ``refused`` (a typed error) or ``died``."""
    child = os.fork()
    if child == 0:
        try:
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            resource.setrlimit(resource.RLIMIT_AS, (6 << 30, 6 << 30))
            signal.alarm(20)
            silence = os.open(os.devnull, os.O_WRONLY)
            os.dup2(silence, 2)
            if not checked:
                leave_unchecked()
            os._exit(use_natively(path))
        except BaseException:
            os._exit(4)
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    return {0: "fine", 3: "refused", 4: "untyped"}.get(code, "died")


def leave_unchecked() -> None:
    """In this process, take a file's word: what the check would have read comes from the file before the damage."""
    from enginebay_llamacpp import gguf, model

    original = gguf.read(Path(os.environ["MUTANTS_ORIGINAL"]))
    vars(model)["check_model"] = lambda _path: original


def outcomes(
    base: Path, folder: Path, structure_count: int, byte_count: int, seed: int
) -> Iterator[tuple[str, str, bool]]:
    dice = random.Random(seed)
    raw = base.read_bytes()
    header = Document(raw).at
    os.environ["MUTANTS_ORIGINAL"] = str(base)
    from enginebay.errors import ModelLoadError
    from enginebay_llamacpp import check, library

    library.load()
    path = folder / "mutant.gguf"
    keep = os.environ.get("MUTANTS_KEEP")
    for number in range(structure_count + byte_count):
        kind = "structure" if number < structure_count else "bytes"
        path.write_bytes(structural(raw, dice) if kind == "structure" else byte_level(raw, dice, header))
        try:
            check.check_model(path)
            stopped = False
        except ModelLoadError:
            stopped = True
        outcome = in_child(path, checked=not stopped)
        if keep and outcome in ("died", "untyped") and not stopped:
            (Path(keep) / f"{kind}-{number}.gguf").write_bytes(path.read_bytes())
        yield kind, outcome, stopped


def main() -> None:
    base, folder, structure_count, byte_count, seed = sys.argv[1:]
    counts = Counter(outcomes(Path(base), Path(folder), int(structure_count), int(byte_count), int(seed)))
    sys.stdout.write(json.dumps([[*key, count] for key, count in sorted(counts.items())]))


if __name__ == "__main__":
    main()
