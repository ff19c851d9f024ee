"""Tool calls: what output a set of tools allows, and calls read out of a text as it comes. It knows no engine and no template.

A call is ``<tool_call>{"name": …, "arguments": …}</tool_call>``, as Hermes, Qwen and the models that follow them write it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal, TypeAlias

from attrs import frozen

from enginebay.data import Lark

OPENING, CLOSING = "<tool_call>", "</tool_call>"

ToolChoice: TypeAlias = Literal["auto", "required"] | str
"""``auto``: text or calls. ``required``: a call. Any other text: a call of the tool with this name."""


@frozen
class TextPiece:
    """Text beside the calls."""

    text: str


@frozen
class CallBegun:
    """A call whose name is known. ``call`` counts from 0."""

    call: int
    name: str


@frozen
class CallPiece:
    """More of a call's arguments: JSON text, in pieces that are joined."""

    call: int
    arguments: str


Piece: TypeAlias = TextPiece | CallBegun | CallPiece


def tool_constraint(
    tools: Sequence[Mapping[str, Any]],
    choice: ToolChoice = "auto",
    *,
    parallel: bool = True,
    marks: tuple[int, int] | None = None,
) -> Lark:
    """What the output must match so that every call in it is a call of a tool, with arguments that its schema accepts.

    :param tools: OpenAI's form: ``{"type": "function", "function": {"name", "description", "parameters"}}``
    :param parallel: whether more than one call may be made
    :param marks: the tokens around a call where the model has one for each (``mark_tokens``); None: they are plain text
    """
    opening, closing = (f"<[{mark}]>" for mark in marks) if marks else (json.dumps(OPENING), json.dumps(CLOSING))
    functions = [tool["function"] for tool in tools]
    if choice not in ("auto", "required"):
        functions = [function for function in functions if function["name"] == choice]
    calls = " | ".join(f"call_{i}" for i in range(len(functions)))
    lines = [
        f"body: BREAK? ({calls}) BREAK? {closing}",
        f"call: {opening} body",
        "BREAK: /\\n/",
    ]
    for i, function in enumerate(functions):
        beginning = json.dumps(f'{{"name": {json.dumps(function["name"])}, "arguments": ')
        schema = json.dumps(function.get("parameters") or {"type": "object"})
        lines.append(f'call_{i}: {beginning} %json {schema} "}}"')
    more = "(BREAK? call)*" if parallel else ""
    if choice == "auto":
        lines.append("TEXT: /(.|\\n)*/ & ~/(.|\\n)*<tool_call>(.|\\n)*/")
        if marks:
            lines.insert(0, f"start: TEXT (call {more})?")
        else:
            lines.insert(0, f"start: TEXT | beginning body {more}")
            lines.append("beginning[lazy]: /(.|\\n)*<tool_call>/")
    else:
        lines.insert(0, f"start: call {more}")
    return Lark("\n".join(lines) + "\n")


def mark_tokens(tokenize: Callable[[str], Sequence[int]]) -> tuple[int, int] | None:
    """The tokens that begin and end a call, if the model has one for each."""
    opening, closing = tokenize(OPENING), tokenize(CLOSING)
    return (opening[0], closing[0]) if len(opening) == len(closing) == 1 else None


_HEAD = re.compile(r'\s*\{\s*"name"\s*:\s*("(?:[^"\\]|\\.)*")\s*,\s*"arguments"\s*:\s*')
_HEAD_CHARACTERS = 1024


class ToolCallReader:
    """Splits text, as it comes, into text and calls. What is not the form of a call stays text."""

    def __init__(self) -> None:
        self.calls = 0
        self._rest = ""
        self._state: Literal["text", "head", "arguments", "tail"] = "text"
        self._depth = 0
        self._in_string = False
        self._escaped = False

    def feed(self, text: str) -> Iterator[Piece]:
        """What ``text`` adds. A mark that may have begun is held back."""
        self._rest += text
        while self._rest:
            before = self._state, len(self._rest)
            yield from getattr(self, f"_{self._state}")()
            if (self._state, len(self._rest)) == before:
                return

    def end(self) -> Iterator[Piece]:
        """What was held back, once no more text comes."""
        if self._state == "head":
            yield TextPiece(OPENING + self._rest)
        elif self._state == "text" and self._rest and not (self.calls and self._rest.isspace()):
            yield TextPiece(self._rest)
        self._rest = ""

    def _text(self) -> Iterator[Piece]:
        text, mark, rest = self._rest.partition(OPENING)
        held = 0 if mark else _overlap(text, OPENING)
        free = text[: len(text) - held]
        if self.calls and not free.strip():
            free = ""  # line ends between calls
        if free:
            yield TextPiece(free)
        if mark:
            self._rest, self._state = rest, "head"
        else:
            self._rest = text[len(text) - held :]

    def _head(self) -> Iterator[Piece]:
        match = _HEAD.match(self._rest)
        if match and match.end() < len(self._rest):
            try:
                name = json.loads(match[1])
            except ValueError:
                name = match[1][1:-1]
            yield CallBegun(self.calls, name)
            self._rest, self._state = self._rest[match.end() :], "arguments"
            self._depth, self._in_string, self._escaped = 0, False, False
        elif CLOSING in self._rest or len(self._rest) > _HEAD_CHARACTERS:
            yield TextPiece(OPENING + self._rest)
            self._rest, self._state = "", "text"

    def _arguments(self) -> Iterator[Piece]:
        at = 0
        for at, character in enumerate(self._rest, 1):  # noqa: B007 - used after the loop
            if self._in_string:
                if self._escaped:
                    self._escaped = False
                elif character == "\\":
                    self._escaped = True
                elif character == '"':
                    self._in_string = False
            elif character == '"':
                self._in_string = True
            elif character in "{[":
                self._depth += 1
            elif character in "}]":
                self._depth -= 1
            if self._depth <= 0 and not self._in_string:
                self._state = "tail"
                break
        yield CallPiece(self.calls, self._rest[:at])
        self._rest = self._rest[at:]
        if self._state == "tail":
            self.calls += 1

    def _tail(self) -> Iterator[Piece]:
        _, mark, rest = self._rest.partition(CLOSING)
        if mark:
            self._rest, self._state = rest, "text"
        yield from ()


def _overlap(text: str, mark: str) -> int:
    """How many characters at the end of ``text`` may be the beginning of ``mark``."""
    return next((n for n in range(min(len(text), len(mark) - 1), 0, -1) if mark.startswith(text[-n:])), 0)
