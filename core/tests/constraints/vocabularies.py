"""Vocabularies for tests, without a model: single bytes, and a few tokens that are not text."""

import itertools

from enginebay.decode.constraints import Compiled, ConstraintCompiler, Limits
from enginebay.decode.protocol import Vocabulary
from enginebay.errors import GenerationError

BOS, END, TOOL, END2, USER = 256, 257, 258, 259, 260
BYTES = Vocabulary(
    pieces=(*(bytes([byte]) for byte in range(256)), b"<s>", b"</s>", b"<|tool|>", b"<|end|>", b"<think>"),
    end=frozenset({END, END2}),
    control=frozenset({BOS, END, END2, TOOL}),
    special=frozenset({BOS, END, END2, TOOL, USER}),
)


def encode(text: str) -> list[int]:
    return list(text.encode())


def byte_compiler(**limits: float) -> ConstraintCompiler:
    return ConstraintCompiler(BYTES, encode, Limits(**limits))


def accepts(compiled: Compiled, text: str | bytes | list[int]) -> bool:
    """Whether ``text`` is a whole output of the constraint, byte by byte through the masks."""
    tokens = list(text.encode() if isinstance(text, str) else text)
    matcher = compiled.start()
    for token in tokens:
        try:
            allowed = matcher.allowed(len(BYTES.pieces))
        except GenerationError:
            return False  # nothing may follow here
        if not allowed[token]:
            return False
        matcher.advance(token)
    if matcher.complete:
        allowed = matcher.allowed(len(BYTES.pieces))
        assert allowed[END]
        assert allowed[END2]
    return matcher.complete


def follow(compiled: Compiled, alphabet: str, length: int) -> dict[str, str]:
    """For each text over ``alphabet`` up to ``length`` that is allowed: which characters may follow; ``$`` for an end."""
    out: dict[str, str] = {}
    for size in range(length + 1):
        for text in map("".join, itertools.product(alphabet, repeat=size)):
            if text and text[-1] not in out.get(text[:-1], ""):
                continue
            matcher = compiled.start()
            for byte in text.encode():
                matcher.advance(byte)
            try:
                mask = matcher.allowed(len(BYTES.pieces))
            except GenerationError:
                out[text] = ""
                continue
            out[text] = "".join(sorted(char for char in alphabet if mask[ord(char)])) + ("$" if mask[END] else "")
    return out
