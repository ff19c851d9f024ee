"""A hostile constraint is refused in bounded time, or bounded in what it costs; the process lives and goes on."""

import random
import threading

import pytest

from enginebay.data import Choice, Gbnf, JsonSchema, Lark, Regex, Rules
from enginebay.decode.constraints import REQUEST_LIMITS, ConstraintCompiler
from enginebay.errors import GenerationError, GrammarError

from .random_schema import random_output
from .vocabularies import BYTES, END, accepts, byte_compiler, encode


def nested(levels: int) -> dict:
    schema: dict = {}
    for _ in range(levels):
        schema = {"items": schema}
    return schema


def doubling(levels: int, last: str) -> str:
    rules = [f"r{i} ::= r{i + 1} r{i + 1}" for i in range(levels)]
    return "\n".join([*rules, f"r{levels} ::= {last}", "root ::= r0"])


REFUSED = {
    "gbnf parentheses": Gbnf("root ::= " + "(" * 100_000),
    "gbnf closed parentheses": Gbnf("root ::= " + "(" * 50_000 + '"a"' + ")" * 50_000),
    "gbnf unclosed": Gbnf('root ::= "' + "a" * 1_000),
    "gbnf rules": Gbnf("root ::= a0\n" + "\n".join(f'a{i} ::= "a"' for i in range(5_000))),
    "gbnf repetition": Gbnf('root ::= "a"{99999999999999999999}'),
    "gbnf repetition of repetition": Gbnf('root ::= (("a"{0,2000}){0,2000}){0,2000}'),
    "gbnf endless range": Gbnf('root ::= "a"{3,2}'),
    "gbnf left recursion": Gbnf('root ::= root | "a"'),
    "gbnf hidden left recursion": Gbnf('root ::= x root "a" | "b"\nx ::= |'),
    "gbnf size": Gbnf("root ::= " + '"a" ' * 100_000),
    "gbnf nul": Gbnf('root ::= "a\0"'),
    "gbnf surrogate": Gbnf('root ::= "\ud800"'),
    "rules that are many": Rules("root", {f"r{i}": ('"a"',) for i in range(5_000)}),
    "regex parentheses": Regex("(" * 100_000 + ")" * 100_000),
    "regex repetition": Regex("a{100000000}"),
    "regex long repetition": Regex("a{" + "9" * 5_000 + "}"),
    "regex look-ahead": Regex("(?=a)a"),
    "regex back reference": Regex("(a)\\1"),
    "regex with comments": Regex("(?x)a # ("),
    "regex boundary": Regex("\\ba"),
    "regex that matches nothing": Regex("[a&&b]"),
    "regex size": Regex("a" * 1_000_000),
    "lark parentheses": Lark("start: " + "(" * 100_000),
    "lark repetition": Lark('start: "a"{1000000}'),
    "lark tilde": Lark('start: "a"~1..1000000'),
    "lark rules": Lark("start: a0\n" + "\n".join(f'a{i}: "a"' for i in range(5_000))),
    "lark deep schema": Lark('start: %json {"items":' * 1 + '{"items":' * 90_000),
    "lark schema with a keyword": Lark('start: %json {"not": {}}'),
    "lark options": Lark('%llguidance {"allow_invalid_utf8": true}\nstart: /a/'),
    "lark temperature": Lark('start: a\na[temperature=2]: "a"'),
    "lark end token": Lark('start: "a" <|end|>'),
    "lark end token by id": Lark(f'start: "a" <[{END}]>'),
    "lark nothing": Lark(""),
    "choice of nothing": Choice(()),
    "choice of many": Choice(tuple(map(str, range(20_000)))),
    "choice surrogate": Choice(("\ud800",)),
    "schema depth": JsonSchema(nested(5_000)),
    "schema size": JsonSchema({"anyOf": [{"type": "null"}] * 20_000}),
    "schema enum": JsonSchema({"enum": list(range(5_000))}),
    "schema properties": JsonSchema({"properties": {str(i): {} for i in range(1_000)}}),
    "schema integer": JsonSchema({"minimum": 10**10_000}),
    "schema chain": JsonSchema(
        {"$ref": "#/$defs/0", "$defs": {str(i): {"$ref": f"#/$defs/{i + 1}"} for i in range(3_000)}}
    ),
    "schema product": JsonSchema(
        {"allOf": [{"anyOf": [{"properties": {f"{j}{i}": {"type": "null"}}} for i in range(12)]} for j in range(12)]}
    ),
    "schema pattern": JsonSchema({"pattern": "(" * 50_000}),
    "schema multiple": JsonSchema({"multipleOf": 999_983}),
    "schema items": JsonSchema({"type": "array", "minItems": 10**9}),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_with_a_reason(name):
    with pytest.raises(GrammarError) as caught:
        byte_compiler().compile(REFUSED[name])
    assert len(caught.value.message) < 2_500


BOUNDED = {
    "spaces without end before text": (Lark('start: "a" WS " b"\nWS: " "+'), "a  "),
    "doubled rules": (Gbnf(doubling(100, '"a"')), "aaaa"),
    "doubled rules that may be empty": (Gbnf(doubling(40, '"a" | "b"?')), "abab"),
    "a long chain of rules": (
        Gbnf("\n".join(f'r{i} ::= r{i + 1} "x"' for i in range(1_900)) + '\nr1900 ::= "a"\nroot ::= r0'),
        "ax",
    ),
    "ambiguity": (Gbnf('root ::= s\ns ::= "a" s s | "a" s | "a"'), "a" * 60),
    "deep groups": (Gbnf("root ::= " + "(" * 95 + '"a"' + ")" * 95), "a"),
    "a regex bomb": (Regex("(x+x+)+y"), "x" * 200),
    "nested repetitions": (Regex("((((a{100}){100}){100}){100}){100}"), "a" * 200),
    "many states": (Regex(".*a.{1500}"), "ab" * 200),
    "optional then required": (Regex("(?:a?){1000}a{1000}"), "a" * 200),
    "a schema of many references": (
        JsonSchema(
            {
                "$ref": "#/$defs/0",
                "$defs": {str(i): {"items": {"$ref": f"#/$defs/{(i + 1) % 900}"}} for i in range(900)},
            }
        ),
        "[[[[",
    ),
    "doubled schemas": (
        JsonSchema(
            {
                "$ref": "#/$defs/0",
                "$defs": {str(i): {"allOf": [{"$ref": f"#/$defs/{i + 1}"}] * 2} for i in range(30)}
                | {"30": {"type": "object"}},
            }
        ),
        "{",
    ),
}


@pytest.mark.parametrize("name", BOUNDED)
def test_bounded_in_what_it_costs(name):
    constraint, text = BOUNDED[name]
    try:
        matcher = byte_compiler().compile(constraint).start()
        for byte in text.encode():
            assert matcher.allowed(len(BYTES.pieces))[byte]
            matcher.advance(byte)
    except (GrammarError, GenerationError):
        return  # refused, now or on the way: what matters is that it came to an end


def test_a_compiler_goes_on_after_refusals_and_keeps_a_bounded_cache():
    compiler = byte_compiler(cache_entries=4)
    threads = threading.active_count()
    for constraint in REFUSED.values():
        with pytest.raises(GrammarError):
            compiler.compile(constraint)
    for number in range(50):
        assert accepts(compiler.compile(Choice((str(number), "x"))), str(number))
    first = compiler.compile(Regex("a"))
    assert compiler.compile(Regex("a")) is first
    for number in range(8):
        compiler.compile(Regex(f"a{number}"))
    assert compiler.compile(Regex("a")) is not first
    assert threading.active_count() <= threads + 1


def test_limits_of_requests_are_tighter():
    compiler = ConstraintCompiler(BYTES, encode, REQUEST_LIMITS)
    with pytest.raises(GrammarError, match="levels of JSON"):
        compiler.compile(JsonSchema(nested(40)))
    byte_compiler().compile(JsonSchema(nested(40)))
    with pytest.raises(GrammarError, match="bytes"):
        compiler.compile(Regex("a" * 70_000))


def test_compiling_from_many_threads():
    compiler = byte_compiler(cache_entries=2)
    failures = []

    def work(number: int) -> None:
        draw = random.Random(number)
        try:
            for turn in range(10):
                compiled = compiler.compile(JsonSchema({"type": "array", "items": {"const": turn % 3}, "maxItems": 4}))
                text = random_output(draw, compiled)
                assert text is None or set(text) <= set(f"[],\n {turn % 3}")
        except BaseException as error:
            failures.append(error)

    workers = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert failures == []
