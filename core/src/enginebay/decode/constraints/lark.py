"""A grammar in llguidance's dialect of Lark, checked before the compiler sees it. Knows the vocabulary for named tokens only.

Schemas inside (``%json``) go through the same checks as a schema of its own. What the library would do to the output rather than
to what is allowed (a temperature, text that is hidden or taken back) is refused.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

from enginebay.decode.constraints.grammar import Grammar
from enginebay.decode.constraints.limits import Limits
from enginebay.decode.constraints.regex import check_regex
from enginebay.decode.constraints.schema import embedded_schema
from enginebay.decode.protocol import Vocabulary
from enginebay.errors import GrammarError

_LEXEME = re.compile(
    r"""(?P<space>(?:\#|//)[^\n]*|\s+)
    |(?P<string>"(?:\\.|[^"\\\n])*"i?)
    |/(?P<regex>(?:\\.|[^/\\])+)/[imslux]*
    |(?P<token><[^<>\s]+>)
    |(?P<directive>%[a-z]+)
    |(?P<name>[!?_]*[A-Za-z][\w-]*)
    |(?P<number>[+-]?[0-9]+)
    |(?P<mark>.)""",
    re.VERBOSE,
)
_OPTIONS = frozenset({"no_forcing", "allow_initial_skip", "ignore_once"})
_NOT_HONOURED = frozenset({"temperature", "stop", "stop_capture", "max_tokens"})
_OPENING = {"(": ")", "[": "]", "{": "}"}


def lark_grammar(source: str, vocabulary: Vocabulary, limits: Limits) -> Grammar:
    """The grammar with its schemas replaced by what can be enforced.

    :raises GrammarError: it is over a limit, or has a part that cannot be enforced; the rest the compiler decides
    """
    limits.check_source(source)
    return Grammar("lark", "".join(_Reader(source, vocabulary, limits).parts()))


class _Reader:
    def __init__(self, source: str, vocabulary: Vocabulary, limits: Limits) -> None:
        self._source = source
        self._vocabulary = vocabulary
        self._limits = limits
        self._open: list[str] = []
        self._rules = 0

    def parts(self) -> Iterator[str]:
        at = 0
        before = ""  # the lexeme before this one
        while match := _LEXEME.match(self._source, at):
            text, kind = match[0], match.lastgroup
            at = match.end()
            if kind == "directive" and text in ("%json", "%llguidance"):
                value, at = self._json_after(at)
                yield f"{text} {self._checked(text, value, match.start())}"
            else:
                self._check(kind, match, before)
                yield text
            if kind != "space":
                before = text

    def _check(self, kind: str | None, match: re.Match[str], before: str) -> None:
        text = match[0]
        if kind == "regex":
            check_regex(match["regex"], self._limits)
        elif kind == "token":
            self._check_token(text, match.start())
        elif kind == "number" and (before in ("~", ".", "{") or (before == "," and self._open[-1:] == ["}"])):
            if len(text) > 9 or int(text) > self._limits.repetitions:
                raise self._error(
                    match.start(), f"the repetition {text[:20]} is more than {self._limits.repetitions:,}"
                )
        elif kind == "name" and text in _NOT_HONOURED and self._open[-1:] == ["]"]:
            raise self._error(match.start(), f"the attribute {text!r} cannot be honoured")
        elif kind == "mark":
            self._check_mark(text)

    def _check_mark(self, text: str) -> None:
        if text in _OPENING:
            self._open.append(_OPENING[text])
            self._limits.check("nested groups", len(self._open), self._limits.nesting)
        elif self._open and text == self._open[-1]:
            self._open.pop()
        elif text == ":":
            self._rules += 1
            self._limits.check("rules", self._rules, self._limits.rules)

    def _check_token(self, text: str, at: int) -> None:
        if text.startswith("<["):
            if text.startswith(("<[^", "<[*")):
                return  # an end token among those is taken out where the grammar is not complete
            numbers = [int(digits) for digits in re.findall(r"[0-9]{1,18}", text)]
        else:
            numbers = [token for token in self._vocabulary.end if self._vocabulary.pieces[token] == text.encode()]
        if any(number >= len(self._vocabulary.pieces) for number in numbers):
            raise self._error(at, f"{text[:60]} is not in the vocabulary of {len(self._vocabulary.pieces):,} tokens")
        if any(number in self._vocabulary.end for number in numbers):
            raise self._error(
                at,
                f"{text[:60]} ends generation and cannot be part of the grammar",
                "Leave it out: an end token is allowed wherever the grammar is complete.",
            )

    def _json_after(self, at: int) -> tuple[object, int]:
        start = at + len(self._source[at:]) - len(self._source[at:].lstrip())
        try:
            return json.JSONDecoder().raw_decode(self._source, start)
        except (ValueError, RecursionError) as error:
            raise self._error(start, f"this is not JSON: {error}") from None

    def _checked(self, directive: str, value: object, at: int) -> str:
        if directive == "%json":
            try:
                return embedded_schema(value, self._limits)
            except GrammarError as error:
                raise self._error(at, f"%json: {error.message}") from None
        if not isinstance(value, dict) or not _OPTIONS.issuperset(value):
            raise self._error(at, f"%llguidance: only the options {', '.join(sorted(_OPTIONS))} are honoured")
        return json.dumps(value)

    def _error(self, at: int, message: str, hint: str | None = None) -> GrammarError:
        before = self._source[:at]
        return GrammarError(
            f"line {before.count(chr(10)) + 1}, column {at - before.rfind(chr(10))}: {message}", hint=hint
        )
