"""Takes out of a GBNF grammar what can never match, and rules that nothing leads to. Knows no vocabulary."""

from __future__ import annotations

from enginebay.decode.constraints.gbnf.tree import Chars, GbnfGrammar, Group, Item, Ref, Repeat, Sequence
from enginebay.errors import GrammarError


def pruned(grammar: GbnfGrammar) -> GbnfGrammar:
    """The same language without dead alternatives. Raises GrammarError if nothing is left."""
    mentioned_by = mentions(grammar.rules)
    dead: set[str] = set()
    alive: dict[str, Group] = {}
    unsettled = dict.fromkeys(grammar.rules)
    while unsettled:
        name, _ = unsettled.popitem()
        body = _group(grammar.rules[name], dead)
        if body is not None:
            alive[name] = body
        else:
            dead.add(name)
            alive.pop(name, None)
            unsettled |= dict.fromkeys(other for other in mentioned_by[name] if other not in dead)
    if grammar.root in dead:
        raise GrammarError("the grammar matches no text at all")
    reached: dict[str, Group] = {}
    waiting = [grammar.root]
    while waiting:
        name = waiting.pop()
        if name not in reached:
            reached[name] = alive[name]
            waiting.extend(references(alive[name]))
    return GbnfGrammar(grammar.root, {name: reached[name] for name in grammar.rules if name in reached})


def mentions(rules: dict[str, Group]) -> dict[str, list[str]]:
    """For each rule those that mention it."""
    out: dict[str, list[str]] = {name: [] for name in rules}
    for name, body in rules.items():
        for mention in set(references(body)):
            out[mention].append(name)
    return out


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
