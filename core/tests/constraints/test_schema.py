"""What a JSON Schema forbids is never accepted, and what cannot be enforced is refused with its keyword and place."""

import datetime
import ipaddress
import json
import random
from decimal import Decimal

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from enginebay.data import JsonObject, JsonSchema
from enginebay.decode.constraints.schema import KEYWORDS
from enginebay.errors import GrammarError

from .keyword_cases import CASES, REFUSALS
from .random_schema import as_written, random_output, random_schema, random_value
from .vocabularies import accepts, byte_compiler

COMPILER = byte_compiler(cache_entries=8)
FORMATS = jsonschema.Draft202012Validator.FORMAT_CHECKER


def validator(schema):
    kind = jsonschema.validators.validator_for(schema, default=jsonschema.Draft202012Validator)
    return kind(schema, format_checker=FORMATS)


@pytest.mark.parametrize(("schema", "valid", "invalid"), CASES, ids=lambda value: ascii(value)[:60])
def test_keyword_by_instances(schema, valid, invalid):
    compiled = COMPILER.compile(JsonSchema(schema))
    judge = validator(schema)
    assert [text for text in valid if not judge.is_valid(json.loads(text))] == [], "the case itself is wrong"
    assert [text for text in valid if not accepts(compiled, text)] == []
    assert [text for text in invalid if accepts(compiled, text)] == []


def test_every_enforced_keyword_has_cases_and_every_refused_one_a_refusal():
    enforced = {keyword.name for keyword in KEYWORDS if keyword.treatment == "enforced"}
    refused = {keyword.name for keyword in KEYWORDS if keyword.treatment == "refused"}
    text = json.dumps([case[0] for case in CASES])
    assert {name for name in enforced if f'"{name}":' not in text} == set()
    assert refused - {name for schema, *_ in REFUSALS if schema for name in schema} == set()


@pytest.mark.parametrize(("schema", "place", "words"), REFUSALS, ids=lambda value: ascii(value)[:60])
def test_refusal_names_keyword_and_place(schema, place, words):
    with pytest.raises(GrammarError) as caught:
        COMPILER.compile(JsonSchema(schema))
    assert place in caught.value.message
    assert words in caught.value.message


def test_random_schemas_accept_nothing_that_is_invalid():
    accepted = ended = compiled_schemas = 0
    for seed in range(1_500):
        draw = random.Random(seed)
        schema = random_schema(draw)
        try:
            compiled = COMPILER.compile(JsonSchema(schema))
        except GrammarError:
            continue
        compiled_schemas += 1
        judge = validator(schema)
        for _ in range(10):
            value = random_value(draw)
            if accepts(compiled, as_written(draw, value)):
                assert judge.is_valid(value), f"seed {seed}: {value} for {schema}"
                accepted += 1
        for _ in range(2):
            if (text := random_output(draw, compiled)) is not None:
                assert judge.is_valid(json.loads(text)), f"seed {seed}: {text} for {schema}"
                ended += 1
    assert compiled_schemas > 800
    assert accepted > 1_500
    assert ended > 1_200


@pytest.mark.parametrize(
    "name", ["date", "time", "date-time", "ipv4", "ipv6", "uuid", "email", "hostname", "duration", "uri"]
)
def test_random_outputs_of_formats(name):
    draw = random.Random(name)
    compiled = COMPILER.compile(JsonSchema({"type": "string", "format": name}))
    values = [json.loads(text) for _ in range(60) if (text := random_output(draw, compiled)) is not None]
    assert values
    for value in values:
        FORMATS.check(value, name)
        if name == "date":
            datetime.date.fromisoformat(value)
        elif name == "date-time":
            datetime.datetime.fromisoformat(value.upper())
        elif name.startswith("ipv"):
            ipaddress.ip_address(value)


@settings(max_examples=300, deadline=None)
@given(st.text(alphabet=st.characters(codec="utf-8"), max_size=6), st.integers(0, 5), st.integers(0, 5))
def test_lengths_count_characters(text, low, high):
    try:
        compiled = COMPILER.compile(JsonSchema({"type": "string", "minLength": low, "maxLength": high}))
    except GrammarError:
        assert low > high
        return
    if accepts(compiled, json.dumps(text, ensure_ascii=False)):
        assert low <= len(text) <= high


@settings(max_examples=300, deadline=None)
@given(st.integers(-(10**15), 10**15), st.integers(0, 9), st.integers(-3, 3), st.sampled_from(["inimum", "aximum"]))
def test_bounds_are_exact(digits, decimals, step, which):
    bound = digits / 10**decimals
    unit = 10.0**-decimals
    for exclusive in (False, True):
        keyword = (
            f"exclusive{which.replace('i', 'Mi', 1) if which[0] == 'i' else 'Maximum'}" if exclusive else "m" + which
        )
        try:
            compiled = COMPILER.compile(JsonSchema({"type": "number", keyword: bound}))
        except GrammarError:
            continue
        text = f"{bound + step * unit:.{decimals}f}"
        if accepts(compiled, text):
            assert validator({keyword: bound}).is_valid(float(text))


_BOUNDS = [
    Decimal(text)
    for text in [
        "-10.5",
        "-10",
        "-2.75",
        "-2",
        "-1.1",
        "-1",
        "-0.99",
        "-0.25",
        "-0.001",
        "0",
        "0.001",
        "0.05",
        "0.5",
        "1",
        "1.1",
        "2",
        "2.5",
        "9.99",
        "10",
        "99",
        "99.5",
    ]
]


def test_bounds_less_than_one_apart_are_exact_in_every_spelling():
    draw = random.Random(3)
    accepted = 0
    for _ in range(400):
        low = draw.choice(_BOUNDS)
        high = draw.choice([draw.choice(_BOUNDS), low + draw.choice([Decimal("0.5"), Decimal("0.001"), Decimal(1)])])
        low_keyword, high_keyword = (
            draw.choice(["minimum", "exclusiveMinimum"]),
            draw.choice(["maximum", "exclusiveMaximum"]),
        )
        try:
            compiled = COMPILER.compile(
                JsonSchema({"type": "number", low_keyword: float(low), high_keyword: float(high)})
            )
        except GrammarError:
            continue
        for bound in (low, high, (low + high) / 2, Decimal(0)):
            for step in ("0", "1", "-1", "0.5", "-0.01", "0.000000001", "-0.0000000001"):
                value = bound + Decimal(step)
                valid = (
                    low <= value <= high
                    and not (low_keyword[0] == "e" and value == low)
                    and not (high_keyword[0] == "e" and value == high)
                )
                plain = format(value, "f")
                spellings = {plain, format(value.normalize(), "f"), plain + ("0" if "." in plain else ".0")}
                for text in spellings | ({"-0", "-0.0", "0e0"} if value == 0 else set()):
                    if accepts(compiled, text):
                        assert valid, f"{text} with {low_keyword} {low}, {high_keyword} {high}"
                        accepted += 1
    assert accepted > 2_000


def test_properties_come_in_the_order_wanted():
    schema = {"type": "object", "properties": {"b": {"type": "null"}, "a": {"type": "null"}, "c": {"type": "null"}}}
    declared = COMPILER.compile(JsonSchema(schema))
    assert accepts(declared, '{"b":null,"a":null,"c":null}')
    assert not accepts(declared, '{"a":null,"b":null}')
    listed = COMPILER.compile(JsonSchema({**schema, "propertyOrder": ["c", "a"]}))
    assert accepts(listed, '{"c":null,"a":null,"b":null}')
    numbered = {name: {"type": "null", "propertyOrder": rank} for name, rank in (("b", 3), ("a", 1), ("c", 2))}
    assert accepts(COMPILER.compile(JsonSchema({"properties": numbered})), '{"a":null,"c":null,"b":null}')


def test_whitespace_is_bounded():
    compiled = COMPILER.compile(JsonObject())
    assert compiled.applied.kind == "json_object"
    assert accepts(compiled, '{\n  "a": [\n    1,\n    {}\n  ]\n}')
    assert accepts(compiled, '{"a":1}')
    assert not accepts(compiled, '{\n\n"a":1}')
    assert not accepts(compiled, '{"a":1}\n')
    assert not accepts(compiled, "[]")


def test_not_strict_drops_by_name_and_decides_afterwards():
    schema = {"type": "array", "items": {"type": "integer"}, "uniqueItems": True, "not": {"maxItems": 1}}
    compiled = COMPILER.compile(JsonSchema(schema, strict=False))
    assert any("#/uniqueItems" in warning for warning in compiled.applied.warnings)
    assert any("#/not" in warning for warning in compiled.applied.warnings)
    assert not accepts(compiled, '["a"]')
    assert accepts(compiled, "[1,1]")
    assert compiled.verdict("[1,1]") is False
    assert compiled.verdict("[1,2]") is True
    assert compiled.verdict("[1,") is False
    overlapping = {"oneOf": [{"type": "integer"}, {"type": "integer", "minimum": 3}]}
    compiled = COMPILER.compile(JsonSchema(overlapping, strict=False))
    assert any("oneOf" in warning for warning in compiled.applied.warnings)
    assert compiled.verdict("5") is False
    clean = COMPILER.compile(JsonSchema({"type": "integer"}, strict=False))
    assert clean.applied.warnings == ()
    assert clean.verdict("1") is None


@pytest.mark.parametrize(
    ("schema", "text"),
    [
        ({"type": "integer", "not": {"$ref": "http://127.0.0.1:9/x"}}, "1"),
        ({"type": "string", "not": {"pattern": "^(a+)+$"}}, json.dumps("a" * 64 + "!")),
        (
            {
                "type": "array",
                "uniqueItems": True,
                "$ref": "#/$defs/0",
                "$defs": {str(i): {"allOf": [{"$ref": f"#/$defs/{i + 1}"}] * 2} for i in range(30)} | {"30": {}},
            },
            "[]",
        ),
    ],
    ids=["fetches nothing", "a pattern that backtracks", "doubled references"],
)
def test_a_check_that_cannot_be_made_gives_no_verdict_and_ends(schema, text):
    compiled = COMPILER.compile(JsonSchema(schema, strict=False))
    assert compiled.applied.warnings
    assert compiled.verdict(text) is None
