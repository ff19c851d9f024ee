"""Clauses on constrained output. ``json``, ``re`` and checks by hand are the judge, never the compiler."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import pytest

from enginebay.data import Choice, Constraint, Gbnf, JsonObject, JsonSchema, Lark, Regex, Rules
from enginebay.errors import GrammarError, Unsupported
from enginebay.model import Model
from enginebay.result import Result
from enginebay.testing.base import Subject, refused, usable
from enginebay.testing.oracle import PERSON_SCHEMA, is_person

MOST_TOKENS = 400
CODE = r"[A-Z]{2}-[0-9]{3,5}"
COLOURS = ("red", "green", "greenish", "blue")
RANGE = 'root ::= side " to " side\nside ::= ("up" | "down") [0-9] [0-9]?'
SIDES = r"(up|down)[0-9][0-9]? to (up|down)[0-9][0-9]?"
LARK = 'start: word ("," word)?\nword: "alpha" | "beta"'

Check = Callable[[str], object]


class ConstraintClauses(Subject):
    """Every kind of constraint, cold and hot, whole and cut short."""

    def test_e57_json_schema(self, opened: Model) -> None:
        """E57 Output under a JSON Schema is JSON that the schema describes, or the schema is refused.

        Look at the end: an end token is allowed only where the JSON is complete.
        """
        self._holds(opened, JsonSchema(PERSON_SCHEMA), is_person)

    def test_e58_regex(self, opened: Model) -> None:
        """E58 Output under a regex matches it as a whole.

        Look at anchoring: the whole output, not a part of it.
        """
        self._holds(opened, Regex(CODE), re.compile(CODE).fullmatch)

    def test_e59_choice(self, opened: Model) -> None:
        """E59 Output under a choice is one of its options, also where one begins another.

        Look at the end of the shorter option.
        """
        self._holds(opened, Choice(COLOURS), COLOURS.__contains__)
        if not self.lacks(opened, "grammar"):
            for colour in COLOURS:
                bias = dict.fromkeys(opened.tokenize(colour, special=False), 50.0)
                result = self.greedy(
                    opened, constraint=Choice((colour,)), logit_bias=bias, ignore_end=False, max_tokens=50
                )
                assert (result.text, result.finish_reason) == (colour, "stop")

    def test_e60_grammars(self, opened: Model) -> None:
        """E60 Output under GBNF, rules or Lark is in the grammar's language.

        Look at the form that was written differently from what the others translate to.
        """
        self._holds(opened, Gbnf(RANGE), re.compile(SIDES).fullmatch)
        rules = Rules("a", {"a": ('b " to " b',), "b": ('"up" c c?', '"down" c c?'), "c": ("[0-9]",)})
        self._holds(opened, rules, re.compile(SIDES).fullmatch)
        self._holds(opened, Lark(LARK), re.compile("(alpha|beta)(,(alpha|beta))?").fullmatch)

    def test_e61_json_object(self, opened: Model) -> None:
        """E61 Output under ``JsonObject`` is one JSON object; cut short, it is the beginning of one.

        Look at text before or after the object.
        """
        if self.lacks(opened, "grammar"):
            self._refuses(opened, JsonObject())
            return
        closing = {token: 20.0 for text in ("{", "}", '"') for token in opened.tokenize(text, special=False)}
        for seed in range(4):
            result = self.drawn(
                opened, constraint=JsonObject(), logit_bias=closing, ignore_end=False, max_tokens=60, seed=seed
            )
            assert result.text.startswith("{")
            if result.finish_reason == "stop":
                assert isinstance(json.loads(result.text), dict)

    def test_e62_malformed(self, opened: Model) -> None:
        """E62 A malformed constraint is refused with grammar_error before anything is generated.

        Look at a compiler's failure that turns into unconstrained output.
        """
        malformed: list[Constraint] = [
            Regex("(unclosed"),
            Gbnf("root ::= ("),
            Gbnf('other ::= "no root"'),
            Lark("start: ("),
            Choice(()),
            JsonSchema({"type": "nonsense"}),
            Rules("missing", {"a": ('"b"',)}),
        ]
        for constraint in malformed:
            if self.lacks(opened, "grammar"):
                self._refuses(opened, constraint)
                continue
            with refused(GrammarError):
                opened.compile(constraint)
            with refused(GrammarError):
                self.greedy(opened, constraint=constraint)
        usable(opened)

    def test_e63_cut_short(self, opened: Model) -> None:
        """E63 Constrained output that ``max_tokens`` cuts short says ``length``, and is the beginning of what matches.

        Look at a verdict that calls half an output complete.
        """
        constraint = Regex("[0-9]{20}")
        if self.lacks(opened, "grammar"):
            self._refuses(opened, constraint)
            return
        result = self.drawn(opened, constraint=constraint, ignore_end=False, max_tokens=2)
        assert re.fullmatch("[0-9]{1,19}", result.text)
        assert result.finish_reason == "length"

    def test_e64_what_was_applied(self, opened: Model) -> None:
        """E64 The result says which constraint was applied and by which compiler; without one it says nothing.

        Look at ``Finish.constraint``.
        """
        if self.lacks(opened, "grammar"):
            self._refuses(opened, Regex(CODE))
            return
        compiled = opened.compile(Regex(CODE)).applied
        assert compiled.kind == "regex"
        applied = self.drawn(opened, constraint=Regex(CODE), ignore_end=False, max_tokens=50).constraint
        assert applied is not None
        assert (applied.kind, applied.compiler, applied.warnings) == ("regex", compiled.compiler, ())
        assert applied.compiler
        assert applied.valid is not False
        assert self.greedy(opened).constraint is None

    def test_e65_constraints_meet(self, opened: Model) -> None:
        """E65 Constrained and plain requests at once do not touch each other; a constrained one resumes exactly.

        Look at a mask that is applied to another row, and at a matcher that is shared.
        """
        if self.lacks(opened, "grammar"):
            self._refuses(opened, Regex(CODE))
            return
        jobs: list[Callable[[], Result]] = [
            lambda: self.greedy(opened),
            lambda: self.drawn(opened, constraint=Regex(CODE), ignore_end=False, max_tokens=50),
            lambda: self.drawn(opened, constraint=Regex(CODE), ignore_end=False, max_tokens=50, seed=8),
            lambda: self.drawn(opened, constraint=Choice(COLOURS), ignore_end=False, max_tokens=50),
        ]
        alone = [job() for job in jobs]
        assert [result.tokens for result in self.together(jobs)] == [result.tokens for result in alone]
        code = alone[1].tokens
        for split in (1, len(code) // 2):
            rest = self.drawn(opened, constraint=Regex(CODE), ignore_end=False, max_tokens=50, resume=code[:split])
            assert rest.tokens == code[split:]

    def _holds(self, opened: Model, constraint: Constraint, check: Check) -> None:
        if self.lacks(opened, "grammar"):
            self._refuses(opened, constraint)
            return
        most = min(MOST_TOKENS, opened.info.context_tokens // 2)
        options: dict[str, Any] = {"constraint": constraint, "ignore_end": False, "max_tokens": most}
        results = [self.greedy(opened, **options)]
        results += [self.drawn(opened, seed=seed, temperature=3.0, **options) for seed in range(6)]
        for result in results:
            assert result.finish_reason == "stop", f"not finished after {most} tokens: {result.text!r}"
            assert check(result.text), f"{result.text!r} does not match"

    def _refuses(self, opened: Model, constraint: Constraint) -> None:
        with pytest.raises((Unsupported, GrammarError)):
            opened.compile(constraint)
        with pytest.raises((Unsupported, GrammarError)):
            self.greedy(opened, constraint=constraint)
