"""Random JSON Schemas of many keywords at once, instances near them, and random outputs of a constraint."""

import json
import random
import re
from typing import Any

from enginebay.decode.constraints import Compiled
from enginebay.errors import GenerationError

from .vocabularies import BYTES, END, END2

_PATTERNS = [
    "^a",
    "b$",
    "^[ab]{1,3}$",
    "a|b",
    "^(a|b)+$",
    "\\d",
    "^\\w*$",
    "^[^a]*$",
    ".",
    "^\\S+$",
    "^(?:x|y)?$",
    "^-?\\d+$",
]
_FORMATS = ["date", "ipv4", "uuid", "email", "time", "duration", "hostname", "ipv6"]
_NAMES = ["a", "b", "ab", "x-y", 'q"t', "é"]


def random_schema(draw: random.Random, depth: int = 0) -> Any:
    """A schema that may well be refused; its multiples are exact in binary, so that every validator agrees on them."""
    if depth > 3 or draw.random() < 0.05:
        return draw.choice(
            [True, {}, {"type": "integer"}, {"type": "string"}, {"const": 1}, {"type": ["null", "boolean"]}]
        )
    schema: dict[str, Any] = {}
    kinds = ["string", "number", "integer", "array", "object", "boolean", "null"]
    weights = [3, 2, 2, 3, 4, 1, 1]
    chosen = (
        draw.choices(kinds, weights)[0] if depth else draw.choice(["object", "array", "object", "string", "number"])
    )
    if draw.random() < 0.9:
        schema["type"] = chosen if draw.random() < 0.85 else list(dict.fromkeys([chosen, draw.choice(kinds)]))

    def child() -> Any:
        return random_schema(draw, depth + 1)

    def some(chance: float) -> bool:
        return draw.random() < chance

    if chosen == "string":
        if some(0.4):
            schema["minLength"] = draw.randint(0, 3)
        if some(0.4):
            schema["maxLength"] = draw.randint(0, 6)
        if some(0.4):
            schema["pattern"] = draw.choice(_PATTERNS)
        if some(0.15):
            schema["format"] = draw.choice(_FORMATS)
        if some(0.2):
            schema["enum"] = draw.sample(["a", "b", "ab", "", "é", 'x"y', 1, None, "\n", "aaa"], 4)
    elif chosen in ("number", "integer"):
        if some(0.4):
            schema[draw.choice(["minimum", "exclusiveMinimum"])] = draw.choice([0, -5, 1.5, -0.25, 3, 100, -1e15, 1e-9])
        if some(0.4):
            schema[draw.choice(["maximum", "exclusiveMaximum"])] = draw.choice([0, 5, 7.5, -0.25, 10, 1000, 10**18])
        if some(0.2):
            schema["multipleOf"] = draw.choice([1, 2, 3, 0.5, 0.25, 5, 7])
        if some(0.15):
            schema["enum"] = draw.sample([0, 1, -1, 2.5, 10, 3.0, "a", True, 0.125], 4)
    elif chosen == "array":
        if some(0.6):
            schema["items"] = child() if some(0.85) else False
        if some(0.3):
            schema["prefixItems"] = [child() for _ in range(draw.randint(1, 2))]
        if some(0.3):
            schema["minItems"] = draw.randint(0, 3)
        if some(0.3):
            schema["maxItems"] = draw.randint(0, 4)
    elif chosen == "object":
        names = draw.sample(_NAMES, draw.randint(0, 4))
        if names:
            schema["properties"] = {name: child() for name in names}
        if some(0.5):
            schema["required"] = draw.sample([*names, "z"], draw.randint(0, len(names)))
        if some(0.4):
            schema["additionalProperties"] = draw.choice([False, False, True, child()])
        if some(0.2):
            schema["patternProperties"] = {draw.choice(["^a", "^x-", "b$", "^[0-9]"]): child()}
        if some(0.12):
            schema["minProperties"] = draw.randint(0, 3)
        if some(0.12):
            schema["maxProperties"] = draw.randint(0, 4)
    if some(0.12):
        schema[draw.choice(["anyOf", "oneOf", "allOf"])] = [child() for _ in range(draw.randint(1, 3))]
    if some(0.06):
        schema["const"] = draw.choice([1, "a", None, [1, "a"], {"a": 1}, {"b": "x", "a": None}, 2.5, True, []])
    if some(0.06):
        schema["$ref"] = draw.choice(["#/$defs/one", "#/$defs/two", "#"])
    if depth == 0:
        schema["$defs"] = {"one": random_schema(draw, 2), "two": random_schema(draw, 3)}
    items = list(schema.items())
    draw.shuffle(items)
    return dict(items)


def random_value(draw: random.Random, depth: int = 0) -> Any:
    """A JSON value of the kind that the random schemas speak of."""
    kind = draw.random()
    if kind < 0.3 or depth > 3:
        return draw.choice([0, 1, -1, 2.5, 3, 5, 7, 10, 100, 0.25, -0.25, 1.5, 6, 14, -5, 7.5])
    if kind < 0.55:
        return draw.choice(
            ["", "a", "b", "ab", "aaa", "ba", "é", 'x"y', "abc", "12", "\n", "x", "2024-02-29", "1.2.3.4", "a@b.c"]
        )
    if kind < 0.65:
        return draw.choice([None, True, False])
    if kind < 0.8:
        return [random_value(draw, depth + 1) for _ in range(draw.randint(0, 4))]
    return {
        name: random_value(draw, depth + 1)
        for name in draw.sample([*_NAMES, "z", "aa", "x-1", "0"], draw.randint(0, 4))
    }


def as_written(draw: random.Random, value: Any) -> str:
    """``value`` as JSON in one of its writings, some with letters as Unicode escapes."""
    text = json.dumps(value, ensure_ascii=draw.random() < 0.2, separators=draw.choice([(",", ":"), (", ", ": ")]))
    if draw.random() < 0.2:
        text = re.sub(
            '(?<=["a-z])[abxyz](?=[^"]*")', lambda match: f"\\u{ord(match[0]):04x}", text, count=draw.randint(1, 3)
        )
    try:
        return text if json.loads(text) == value else json.dumps(value)
    except ValueError:
        return json.dumps(value)


def random_output(draw: random.Random, compiled: Compiled, most_tokens: int = 400) -> str | None:
    """Text from random allowed bytes, None if it did not end. Quotes, brackets and the end are favoured, so that most do."""
    matcher = compiled.start()
    out = bytearray()
    for _ in range(most_tokens):
        try:
            allowed = matcher.allowed(len(BYTES.pieces)).nonzero()[0]
        except GenerationError:
            return None  # nothing can follow: a dead end, not a wrong answer
        assert all(token < 256 or token in (END, END2) for token in allowed)
        endings = [token for token in allowed if token in (END, END2)]
        closing = [token for token in allowed if token < 256 and chr(token) in '"]}']
        plain = [token for token in allowed if 32 <= token < 127]
        if endings and (draw.random() < 0.5 or len(endings) == len(allowed)):
            return out.decode()
        if closing and draw.random() < 0.4:
            token = draw.choice(closing)
        elif plain and draw.random() < 0.8:
            token = draw.choice(plain)
        else:
            token = draw.choice([token for token in allowed if token < 256])
        matcher.advance(int(token))
        out.append(token)
    return None
