"""Tool calls are read out of a text the same way however it is cut, and what is no call stays text."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

import enginebay
from enginebay.tools import CallBegun, CallPiece, TextPiece, ToolCallReader, mark_tokens, tool_constraint


def read(parts: list[str]) -> tuple[str, list[tuple[str, str]]]:
    """The text beside the calls, and each call's name and arguments."""
    reader = ToolCallReader()
    pieces = [piece for part in parts for piece in reader.feed(part)]
    pieces += reader.end()
    text, calls = "", list[tuple[str, str]]()
    for piece in pieces:
        match piece:
            case TextPiece(more):
                text += more
            case CallBegun(_, name):
                calls.append((name, ""))
            case CallPiece(call, more):
                calls[call] = (calls[call][0], calls[call][1] + more)
    return text, calls


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8) | st.sampled_from(["</tool_call>", '"}', "\\"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)
CALL = st.tuples(
    st.sampled_from(["get_weather", "add", 'odd "name"\\']), st.dictionaries(st.text(max_size=4), JSON, max_size=3)
)


@given(
    st.text("ab<tool_call>{ ", max_size=20),
    st.lists(CALL, max_size=3),
    st.randoms(use_true_random=False),
    st.booleans(),
)
def test_calls_are_read_however_the_text_is_cut(
    before: str, calls: list[tuple[str, Any]], dice: Any, breaks: bool
) -> None:
    before = before.replace("<tool_call>", "")
    space = "\n" if breaks else ""
    text = before + space.join(
        f'<tool_call>{space}{{"name": {json.dumps(name)}, "arguments": {json.dumps(given)}}}{space}</tool_call>'
        for name, given in calls
    )
    parts = []
    while text:
        cut = dice.randint(1, len(text))
        parts.append(text[:cut])
        text = text[cut:]
    said, found = read(parts)
    assert said == before
    assert [(name, json.loads(arguments)) for name, arguments in found] == calls


@given(st.lists(st.text('<>/tool_call{}":ab ,name', max_size=6), max_size=12))
def test_text_without_calls_is_given_back_whole(parts: list[str]) -> None:
    text = "".join(parts)
    said, calls = read(parts)
    if "<tool_call>" not in text:
        assert (said, calls) == (text, [])


def test_what_only_looks_like_a_call_stays_text() -> None:
    for text in ("<tool_call>hello</tool_call>", '<tool_call>{"name": 1}</tool_call> more', "<tool_call>", "a <tool"):
        assert read([text]) == (text, [])
        assert read(list(text)) == (text, [])


TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "add",
            "parameters": {
                "type": "object",
                "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}},
                "required": ["a", "b"],
                "additionalProperties": False,
            },
        },
    },
    {"type": "function", "function": {"name": "now"}},
]


def constrained(model: enginebay.Model, text: str, **options: Any) -> tuple[str, str]:
    """What the model says when its output must match; the echo engine says the prompt again as far as it may."""
    constraint = tool_constraint(TOOLS, marks=mark_tokens(model.tokenize), **options)
    result = model.generate(text, temperature=0, max_tokens=300, constraint=constraint)
    return result.text.strip(), result.finish_reason


def test_a_call_is_made_only_where_it_is_wanted() -> None:
    with enginebay.open("echo", engine="echo") as model:
        assert mark_tokens(model.tokenize) == (*model.tokenize("<tool_call>"), *model.tokenize("</tool_call>"))
        assert constrained(model, "Hello there") == ("Hello there", "stop")
        for choice in ("required", "add"):
            said, reason = constrained(model, "Hello there", choice=choice)
            _, calls = read([said])
            if reason == "stop":
                assert calls
                assert choice == "required" or calls[0][0] == choice


def test_where_the_marks_are_plain_text_the_constraint_is_the_same() -> None:
    with enginebay.open("echo", engine="echo") as model:
        for choice in ("auto", "required", "now"):
            for parallel in (False, True):
                result = model.generate(
                    "Hello there",
                    temperature=0,
                    max_tokens=200,
                    constraint=tool_constraint(TOOLS, choice, parallel=parallel),
                )
                said, calls = read([result.text.strip()])
                if choice == "auto":
                    assert (said, calls) == ("Hello there", [])
                else:
                    assert result.text.startswith("<tool_call>")
