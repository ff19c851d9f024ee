"""What a constraint costs on a vocabulary: compiling, a mask, a step. Knows no engine; an engine's share is measured elsewhere.

    python core/benchmarks/constraints.py VOCABULARY.gguf

The file needs no weights. Each text is fed token by token as the longest tokens that the masks allow, so that every mask on its
way is measured. Times are medians and 99th percentiles in microseconds; run it on an idle machine.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time

import numpy as np
from gguf import GGUFReader

from enginebay.data import Choice, Constraint, Gbnf, JsonObject, JsonSchema, Lark, Regex
from enginebay.decode.constraints import Compiled, ConstraintCompiler
from enginebay.decode.protocol import Vocabulary

JSON_GBNF = r"""
root   ::= object
value  ::= object | array | string | number | ("true" | "false" | "null") ws
object ::= "{" ws ( string ":" ws value ("," ws string ":" ws value)* )? "}" ws
array  ::= "[" ws ( value ("," ws value)* )? "]" ws
string ::= "\"" ( [^"\\\x7F\x00-\x1F] | "\\" (["\\bfnrt] | "u" [0-9a-fA-F]{4}) )* "\"" ws
number ::= ("-"? ([0-9] | [1-9] [0-9]{0,15})) ("." [0-9]+)? ([eE] [-+]? [0-9] [1-9]{0,15})? ws
ws ::= | " " | "\n" [ \t]{0,20}
"""
LIST_GBNF = 'root ::= item+\nitem ::= "- " [^\\r\\n\\x0b\\x0c\\x85\\u2028\\u2029]+ "\\n"'
ARITHMETIC_GBNF = r"""
root  ::= (expr "=" ws term "\n")+
expr  ::= term ([-+*/] term)*
term  ::= ident | num | "(" ws expr ")" ws
ident ::= [a-z] [a-z0-9_]* ws
num   ::= [0-9]+ ws
ws    ::= [ \t\n]*
"""
PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 60},
        "age": {"type": "integer", "minimum": 0, "maximum": 150},
        "email": {"type": "string", "format": "email"},
        "tags": {"type": "array", "items": {"enum": ["red", "green", "blue"]}, "maxItems": 5},
        "address": {
            "type": "object",
            "properties": {"street": {"type": "string"}, "city": {"type": "string"}},
            "required": ["city"],
        },
    },
    "required": ["name", "age"],
    "additionalProperties": False,
}
LARGE = {
    "type": "object",
    "properties": {f"section{i}": {"$ref": f"#/$defs/part{i % 20}"} for i in range(100)},
    "$defs": {f"part{i}": {**PERSON, "title": f"part {i}"} for i in range(20)},
}
PERSON_TEXT = json.dumps(
    {
        "name": "Ada Lovelace",
        "age": 36,
        "email": "ada@example.org",
        "tags": ["red", "blue"],
        "address": {"city": "London"},
    }
)
NESTED_TEXT = json.dumps(
    {"a": [1, 2.5, {"b": "some text here"}, None], "c": {"d": {"e": [[], {}, "x"]}}, "f": "the end\n"}
)

CASES: dict[str, tuple[Constraint, str]] = {
    "schema, small": (JsonSchema(PERSON), PERSON_TEXT),
    "schema, large": (JsonSchema(LARGE), json.dumps({f"section{i}": json.loads(PERSON_TEXT) for i in range(5)})),
    "any JSON object": (JsonObject(), NESTED_TEXT),
    "regex": (Regex(r"[A-Z][a-z]+( [A-Z][a-z]+)*, \d{1,3} years"), "Ada Lovelace, 36 years"),
    "choice of 2,000": (Choice(tuple(f"option {i}" for i in range(2_000))), "option 1234"),
    "gbnf, json": (Gbnf(JSON_GBNF), NESTED_TEXT),
    "gbnf, list": (Gbnf(LIST_GBNF), "- first thing\n- second thing\n"),
    "gbnf, arithmetic": (Gbnf(ARITHMETIC_GBNF), "(alpha +12) *x =33\n"),
    "lark": (Lark('start: "<b>" /[^<]+/ "</b>"'), "<b>bold text that goes on for a while</b>"),
}


def vocabulary_of(path: str) -> Vocabulary:
    """The vocabulary of a GGUF with a byte-level BPE tokenizer."""
    fields = GGUFReader(path).fields
    texts = fields["tokenizer.ggml.tokens"].contents()
    kinds = fields["tokenizer.ggml.token_type"].contents()
    shown = [*range(33, 127), *range(161, 173), *range(174, 256)]
    byte_of = {chr(byte): byte for byte in shown}
    byte_of |= {chr(256 + index): byte for index, byte in enumerate(byte for byte in range(256) if byte not in shown)}
    pieces = tuple(
        bytes(byte_of[char] for char in text) if kind == 1 else text.encode()
        for text, kind in zip(texts, kinds, strict=True)
    )
    special = frozenset(token for token, kind in enumerate(kinds) if kind != 1)
    end = frozenset({int(fields["tokenizer.ggml.eos_token_id"].contents())})
    return Vocabulary(pieces, end, control=special, special=special)


def walk(compiled: Compiled, text: str, vocabulary: Vocabulary, by_piece: dict[bytes, int]) -> tuple[list[float], int]:
    """Seconds of each mask with its advance along ``text``, and the number of tokens."""
    matcher = compiled.start()
    rest = text.encode()
    seconds: list[float] = []
    width = len(vocabulary.pieces)
    while rest:
        begin = time.perf_counter()
        mask = matcher.allowed(width)
        masked = time.perf_counter() - begin
        sizes = range(min(len(rest), 24), 0, -1)
        token = next(by_piece[rest[:size]] for size in sizes if rest[:size] in by_piece and mask[by_piece[rest[:size]]])
        begin = time.perf_counter()
        matcher.advance(token)
        seconds.append(masked + time.perf_counter() - begin)
        rest = rest[len(vocabulary.pieces[token]) :]
    assert matcher.complete
    return seconds, len(seconds)


def main() -> int:
    arguments = argparse.ArgumentParser(description="Measure constraints on a vocabulary.")
    arguments.add_argument("vocabulary", help="a GGUF file with a byte-level BPE vocabulary")
    arguments.add_argument("--rounds", type=int, default=5)
    options = arguments.parse_args()
    vocabulary = vocabulary_of(options.vocabulary)
    by_piece = {piece: token for token, piece in enumerate(vocabulary.pieces) if token not in vocabulary.special}
    compiler = ConstraintCompiler(vocabulary, lambda text: [by_piece[bytes([byte])] for byte in text.encode()])
    begin = time.perf_counter()
    compiler.compile(Regex("a"))
    print(f"{len(vocabulary.pieces):,} tokens; tokenizer built in {time.perf_counter() - begin:.2f} s")
    print(
        f"{'constraint':<20}{'compile ms':>12}{'tokens':>8}{'first us':>10}{'p50 us':>10}{'p99 us':>10}{'start us':>10}"
    )
    for name, (constraint, text) in CASES.items():
        begin = time.perf_counter()
        compiled = compiler.compile(constraint)
        compile_ms = (time.perf_counter() - begin) * 1e3
        first, tokens = walk(compiled, text, vocabulary, by_piece)
        rounds = [seconds for _ in range(options.rounds) for seconds in walk(compiled, text, vocabulary, by_piece)[0]]
        begin = time.perf_counter()
        for _ in range(200):
            compiled.start()
        start_us = (time.perf_counter() - begin) * 1e6 / 200
        p99 = float(np.percentile(rounds, 99)) * 1e6
        print(
            f"{name:<20}{compile_ms:>12.1f}{tokens:>8}{max(first) * 1e6:>10.0f}"
            f"{statistics.median(rounds) * 1e6:>10.0f}{p99:>10.0f}{start_us:>10.1f}"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
