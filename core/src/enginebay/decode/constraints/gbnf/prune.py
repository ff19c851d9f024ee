"""Takes out of a GBNF grammar what can never match, and rules that nothing leads to. Knows no vocabulary."""

from __future__ import annotations

from enginebay.decode.constraints.gbnf.tree import Chars, GbnfGrammar, Group, Item, Ref, Repeat, Sequence
from enginebay.errors import GrammarError


def pruned(grammar: GbnfGrammar) -> GbnfGrammar:
    """The same language without dead alternatives. Raises GrammarError if nothing is left."""
    dead: set[str] = set()
    while True:
        rules = {name: _group(body, dead) for name, body in grammar.rules.items() if name not in dead}
        newly_dead = {name for name, body in rules.items() if body is None}
        if not newly_dead:
            break
        dead |= newly_dead
    if grammar.root in dead:
        raise GrammarError("the grammar matches no text at all")
    alive = {name: body for name, body in rules.items() if body is not None}
    reached: dict[str, Group] = {}
    waiting = [grammar.root]
    while waiting:
        name = waiting.pop()
        if name not in reached:
            reached[name] = alive[name]
            waiting.extend(references(alive[name]))
    return GbnfGrammar(grammar.root, {name: reached[name] for name in alive if name in reached})


def references(item: Item) -> list[str]:
    """The names of the rules that ``item`` mentions."""
    match item:
        case Ref(name):
            return [name]
        case Sequence(parts) | Group(parts):
            return [name for part in parts for name in references(part)]
        case Repeat(part, _, _):
            return references(part)
        case _:
            return []


def _group(group: Group, dead: set[str]) -> Group | None:
    options = tuple(option for option in (_sequence(option, dead) for option in group.options) if option is not None)
    return Group(options) if options else None


def _sequence(sequence: Sequence, dead: set[str]) -> Sequence | None:
    items: list[Item] = []
    for part in sequence.items:
        item = _item(part, dead)
        if item is None:
            return None
        items.extend(item.items if isinstance(item, Sequence) else (item,))
    return Sequence(tuple(items))


def _item(item: Item, dead: set[str]) -> Item | None:
    """``item`` without its dead parts; None if it can never match."""
    match item:
        case Chars(ranges):
            return item if ranges else None
        case Ref(name):
            return None if name in dead else item
        case Sequence():
            return _sequence(item, dead)
        case Group():
            return _group(item, dead)
        case Repeat(part, low, high):
            alive = _item(part, dead)
            if alive is None or high == 0:
                return Sequence() if low == 0 else None
            return Repeat(alive, low, high)
        case _:
            return item
