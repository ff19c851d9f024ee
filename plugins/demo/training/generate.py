"""Generates the demo model's training documents and its test cases; everything follows from a seed.

It knows nothing about tokens, weights or engines. ``cases`` and ``correct`` are what tests use.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterator

import attrs
from cases import ADD, PROMPTS, WEATHER, Case, Message, Tool, answer, json_case, tool_case
from stories import story
from words import WORDS, Writer, held_out_text

_CHAT = PROMPTS["chat"]


def cases(seed: int, unseen: bool, count: int) -> list[Case]:
    """``count`` fresh cases, JSON and tool in turn; with ``unseen``, every name, city and number is a held-out one."""
    writer = Writer(random.Random(f"cases {seed} {unseen}"), unseen, listed=1.0)
    return [tool_case(writer) if index % 2 else json_case(writer) for index in range(count)]


def correct(case: Case, text: str) -> bool:
    """Whether ``text`` is exactly one JSON value, or one tool call, that equals what the case expects."""
    text = text.removesuffix("<|im_end|>").strip()
    if case.kind == "tool":
        match = re.fullmatch(r"<tool_call>(.*)</tool_call>", text, re.DOTALL)
        if match is None:
            return False
        text = match.group(1)
    try:
        return bool(json.loads(text) == case.expected)
    except ValueError:
        return False


@attrs.frozen
class Document:
    """One training text: a story (``messages`` is None), or a conversation with the tools that it may use."""

    text: str | None
    messages: list[Message] | None
    tools: list[Tool] | None


def documents(seed: int) -> Iterator[Document]:
    """Training documents without end, none of which holds a held-out name, city or number."""
    writer = Writer(random.Random(f"documents {seed}"))
    while True:
        if writer.chance(0.1):
            document = Document(story(writer.random), None, None)
            held_out = held_out_text(document.text or "")
        else:
            messages, tools = _conversation(writer)
            document = Document(None, messages, tools)
            held_out = held_out_text("\n".join(message["content"] for message in messages))
        if held_out is None:
            yield document


def _conversation(writer: Writer) -> tuple[list[Message], list[Tool] | None]:
    messages: list[Message] = []
    tools: list[Tool] | None = None
    if writer.chance(0.42):
        messages, tools = _tool_turn(writer)
    elif writer.chance(0.1):
        tools = [WEATHER, ADD]
    more = 0.85 if writer.chance(0.015) else 0.15
    while not messages or writer.chance(more):
        messages += _turn(writer, tools)
    if writer.chance(0.12):
        messages.insert(0, {"role": "system", "content": writer.choose(_CHAT["systems"])})
    return messages, tools


def _tool_turn(writer: Writer) -> tuple[list[Message], list[Tool]]:
    """A question, the call, and, in some, the tool's result with the sentence made of it."""
    case = tool_case(writer, plain=False)
    assert case.tools is not None
    messages = [*case.messages, {"role": "assistant", "content": answer(case)}]
    if writer.chance(0.3):
        result, reply = _result(writer, case)
        messages += [{"role": "tool", "content": result}, {"role": "assistant", "content": reply}]
    return messages, case.tools


def _result(writer: Writer, case: Case) -> tuple[str, str]:
    """What the tool returns, plain or as a JSON object, and what the model says then."""
    name, arguments = case.expected["name"], case.expected["arguments"]
    if name == "get_time":
        time = f"{writer.number(0, 23)}:{writer.number(10, 59)}"
        return json.dumps({"time": time}), f"In {arguments['city']} it is {time}."
    if name == "get_weather":
        sky, degrees = writer.choose(PROMPTS["tools"]["skies"]), writer.number(-20 if writer.chance(0.2) else 0, 40)
        plain = writer.choose((f"{sky}, {degrees} degrees", f"{sky}", f"{degrees} degrees and {sky}"))
        if writer.chance(0.4):
            keys = writer.choose(("weather", "condition", "sky")), writer.choose(("temperature", "temp", "degrees"))
            result = json.dumps({keys[0]: sky, keys[1]: degrees})
            return result, f"In {arguments['city']} it is {sky}, {degrees} degrees."
        return plain, f"In {arguments['city']} it is {plain}."
    a, b = arguments["a"], arguments["b"]
    if name == "add" and writer.chance(0.7):
        number = json.dumps(a + b)
    else:
        number = json.dumps(writer.number(1, 10 ** writer.random.randint(1, 8)))
    result = number if writer.chance(0.7) else json.dumps({"result": json.loads(number)})
    return result, f"{a} {'plus' if name == 'add' else 'times'} {b} is {number}."


def _turn(writer: Writer, tools: list[Tool] | None) -> list[Message]:
    """One question and its answer that needs no tool."""
    draw = writer.random.random()
    if draw < 0.5:
        case = json_case(writer)
        return [*case.messages, {"role": "assistant", "content": answer(case)}]
    if draw < 0.54:
        question = writer.choose(_CHAT["unknown"]).format(writer.proper() if writer.chance(0.5) else writer.word())
        return _exchange(question, _CHAT["unknown_reply"])
    if draw < 0.74:
        talk = writer.choose(_CHAT["talk"])
        return _exchange(writer.choose(talk["questions"]), writer.choose(talk["replies"]))
    if draw < 0.92 or tools:
        if writer.chance(0.3):
            return _exchange(writer.choose(_CHAT["stories"]), story(writer.random))
        hero = writer.choose(WORDS["things"]) if writer.chance(0.7) else f"a {writer.word()}"
        asked = hero
        if writer.chance(0.3) and not hero.endswith(("s", "x", "y", "f", "h", "mouse")):
            asked = f"{hero.split()[1]}{writer.choose(('s', ''))}"
        return _exchange(writer.choose(_CHAT["stories_about"]).format(asked), story(writer.random, hero))
    if writer.chance(0.5):
        question = writer.choose(PROMPTS["tools"]["get_weather"]).format(writer.city())
        return _exchange(question, "I cannot see the weather without a tool.")
    question = writer.choose(PROMPTS["tools"]["add"]).format(writer.addend(), writer.addend())
    return _exchange(question, "I cannot calculate without a tool.")


def _exchange(question: str, reply: str) -> list[Message]:
    return [{"role": "user", "content": question}, {"role": "assistant", "content": reply}]
