"""Refuses grammars that llama.cpp refuses for left recursion, and rules that lead too far. Knows no vocabulary.

Source: ``llama_grammar_detect_left_recursion``. As there, a rule counts as possibly empty only where one of its alternatives
has no element at all; each rule is visited once instead of once for each way to it.
"""

from __future__ import annotations

from collections.abc import Iterator

from enginebay.decode.constraints.gbnf.tree import GbnfGrammar, Group, Item, Ref, Repeat, Sequence
from enginebay.decode.constraints.limits import Limits
from enginebay.errors import GrammarError


def check_grammar(grammar: GbnfGrammar, limits: Limits) -> None:
    """Raises GrammarError for a left-recursive rule or a chain of rules over the limit."""
    visitor = _Visitor(grammar, limits)
    for name, body in grammar.rules.items():
        visitor.rule(name)
        for part in _generated(body):
            visitor.generated(name, part)


class _Visitor:
    def __init__(self, grammar: GbnfGrammar, limits: Limits) -> None:
        self._rules = grammar.rules
        self._limits = limits
        self._done: set[str] = set()
        self._open: list[str] = []

    def rule(self, name: str) -> None:
        if name in self._done:
            return
        if name in self._open:
            circle = " → ".join([*self._open[self._open.index(name) :], name])
            raise GrammarError(f"the grammar is left-recursive: {circle}")
        self._open.append(name)
        self._limits.check("rules that lead to each other", len(self._open), self._limits.chain)
        self._group(self._rules[name])
        self._open.pop()
        self._done.add(name)

    def generated(self, name: str, part: Group | Repeat) -> None:
        """Visit what llama.cpp makes a rule of its own, wherever it stands in the rule ``name``."""
        self._open.append(name + " (in parentheses or repeated)")
        self._sequence([part])
        self._open.pop()

    def _group(self, group: Group) -> None:
        for option in group.options:
            self._sequence(_elements(option))

    def _sequence(self, elements: list[Item]) -> bool:
        """Visit what may stand first. Whether all of it may be left out."""
        for element in elements:
            match element:
                case Ref(name):
                    self.rule(name)
                    skipped = _may_be_empty(self._rules[name])
                case Group():
                    self._group(element)
                    skipped = _may_be_empty(element)
                case Repeat(item, low, high):
                    skipped = self._sequence(_elements(item))
                    if skipped and high is None:
                        where = f"rule {self._open[-1]}"
                        raise GrammarError(
                            f"the grammar is left-recursive: {where} repeats what can be empty without end"
                        )
                    skipped = skipped or low == 0
                case _:
                    skipped = False
            if not skipped:
                return False
        return True


def _elements(item: Item) -> list[Item]:
    """What llama.cpp has as elements of a rule: literals spread out, what is repeated no times left out."""
    match item:
        case Sequence(items):
            return [element for part in items for element in _elements(part)]
        case Repeat(_, _, 0):
            return []
        case _:
            return [item]


def _may_be_empty(group: Group) -> bool:
    return any(not _elements(option) for option in group.options)


def _generated(item: Item) -> Iterator[Group | Repeat]:
    match item:
        case Group(parts) | Sequence(parts):
            if isinstance(item, Group):
                yield item
            for part in parts:
                yield from _generated(part)
        case Repeat(part, low, high):
            if high is None or high > low:
                yield item
            yield from _generated(part)
