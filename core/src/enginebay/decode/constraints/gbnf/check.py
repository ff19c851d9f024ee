"""Refuses the grammars that llama.cpp refuses for left recursion. Knows no vocabulary.

Source: ``llama_grammar_detect_left_recursion``. As there, a rule counts as possibly empty only where one of its alternatives
has no element at all, and what is in parentheses or repeated is a rule of its own.
"""

from __future__ import annotations

from collections.abc import Iterator

from enginebay.decode.constraints.gbnf.tree import GbnfGrammar, Group, Item, Ref, Repeat, Sequence
from enginebay.errors import GrammarError


def check_grammar(grammar: GbnfGrammar) -> None:
    """Raises GrammarError for a left-recursive rule."""
    reader = _Reader(grammar)
    first = {name: reader.first(name, body) for name, body in grammar.rules.items()}
    done: set[str] = set()
    for name in grammar.rules:
        path: dict[str, Iterator[str]] = {name: iter(first[name])}
        while path:
            last = next(reversed(path))
            following = next((rule for rule in path[last] if rule not in done), None)
            if following is None:
                done.add(last)
                del path[last]
            elif following in path:
                names = list(path)
                circle = [*names[names.index(following) :], following]
                raise GrammarError(f"the grammar is left-recursive: {' → '.join(circle[:20])}")
            else:
                path[following] = iter(first[following])


class _Reader:
    def __init__(self, grammar: GbnfGrammar) -> None:
        self._rules = grammar.rules

    def first(self, name: str, body: Group) -> dict[str, None]:
        """The rules that may stand first in this one."""
        found: dict[str, None] = {}
        self._group(name, body, found)
        for part in _generated(body):
            self._sequence(name, [part], {})
        return found

    def _group(self, name: str, group: Group, found: dict[str, None]) -> None:
        for option in group.options:
            self._sequence(name, _elements(option), found)

    def _sequence(self, name: str, elements: list[Item], found: dict[str, None]) -> bool:
        """Collect what may stand first. Whether all of it may be left out."""
        for element in elements:
            match element:
                case Ref(rule):
                    found[rule] = None
                    skipped = _may_be_empty(self._rules[rule])
                case Group():
                    self._group(name, element, found)
                    skipped = _may_be_empty(element)
                case Repeat(item, low, high):
                    skipped = self._sequence(name, _elements(item), found)
                    if skipped and high is None:
                        raise GrammarError(
                            f"the grammar is left-recursive: rule {name} repeats what can be empty without end"
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
