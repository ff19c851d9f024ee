"""What may follow what in a GBNF grammar, without its stack: more than can really happen, never less. Knows no vocabulary.

Positions in the manner of Glushkov's construction (V. M. Glushkov, "The abstract theory of automata", 1961), with a rule's end
leading to whatever follows any mention of the rule.
"""

from __future__ import annotations

from collections.abc import Collection

from attrs import define, field

from enginebay.decode.constraints.gbnf.prune import mentions
from enginebay.decode.constraints.gbnf.tree import Chars, GbnfGrammar, Group, Item, Ref, Repeat, Sequence, Token

_MOST_STEPS = 300_000


class TooLarge(Exception):
    """The grammar is too large to be looked through."""


class Budget:
    """How much looking is left; looking through a grammar is only worth it where it is quick."""

    def __init__(self) -> None:
        self._left = _MOST_STEPS

    def spend(self, steps: int) -> None:
        """Raises TooLarge when nothing is left."""
        self._left -= steps
        if self._left < 0:
            raise TooLarge


@define
class _Part:
    """A piece of a rule's body: whether it can be empty, and the positions that it can begin and end with."""

    nullable: bool
    first: set[int] = field(factory=set)
    last: set[int] = field(factory=set)


class Automaton:
    """Positions of ``grammar`` from the rule ``root`` on. Mentions of rules in ``leaves`` are positions like characters.

    ``symbols[p]`` is what stands at position ``p``, ``following[p]`` the positions of leaves that may come after it; ``last``
    has those after which the root may be over.
    """

    def __init__(
        self,
        grammar: GbnfGrammar,
        root: str,
        nullable: frozenset[str],
        budget: Budget,
        leaves: Collection[str] = (),
    ) -> None:
        self._budget = budget
        self._rules = grammar.rules
        self._leaves = leaves
        self._nullable = nullable
        self.symbols: list[Item] = []
        self._rule_of: list[str] = []
        self._after: list[set[int]] = []
        self._bodies: dict[str, _Part] = {}
        waiting = [root]
        while waiting:
            name = waiting.pop()
            if name not in self._bodies:
                begin = len(self.symbols)
                self._bodies[name] = self._part(self._rules[name], name)
                calls = (symbol for symbol in self.symbols[begin:] if isinstance(symbol, Ref))
                waiting += [call.name for call in calls if call.name not in self._leaves]
        self._calls: dict[str, list[int]] = {}
        for position, symbol in enumerate(self.symbols):
            if self._is_call(symbol):
                assert isinstance(symbol, Ref)
                self._calls.setdefault(symbol.name, []).append(position)
        self.start = self._entered(self._bodies[root].first)
        self.following: list[frozenset[int]] = []
        last: set[int] = set()
        for position, symbol in enumerate(self.symbols):
            ended = self._ended(position)
            self.following.append(self._entered({after for end in ended for after in self._after[end]}))
            if not self._is_call(symbol) and not ended.isdisjoint(self._bodies[root].last):
                last.add(position)
        self.last = frozenset(last)

    def _is_call(self, symbol: Item) -> bool:
        return isinstance(symbol, Ref) and symbol.name not in self._leaves

    def _part(self, item: Item, rule: str) -> _Part:
        match item:
            case Chars() | Token() | Ref():
                position = len(self.symbols)
                self.symbols.append(item)
                self._rule_of.append(rule)
                self._after.append(set())
                return _Part(isinstance(item, Ref) and item.name in self._nullable, {position}, {position})
            case Sequence(items):
                whole = _Part(True)
                for part in (self._part(inner, rule) for inner in items):
                    self._link(whole.last, part.first)
                    if whole.nullable:
                        whole.first |= part.first
                    whole.last = part.last | whole.last if part.nullable else part.last
                    whole.nullable = whole.nullable and part.nullable
                return whole
            case Group(options):
                parts = [self._part(option, rule) for option in options]
                return _Part(
                    any(part.nullable for part in parts),
                    set().union(*(part.first for part in parts)),
                    set().union(*(part.last for part in parts)),
                )
            case Repeat(inner, low, high):
                part = self._part(inner, rule)
                if high is None or high > 1:
                    self._link(part.last, part.first)
                return _Part(part.nullable or low == 0, part.first, part.last)

    def _link(self, before: set[int], after: set[int]) -> None:
        self._budget.spend(len(before) * len(after))
        for position in before:
            self._after[position] |= after

    def _entered(self, positions: set[int]) -> frozenset[int]:
        """The leaves among ``positions``, and those that mentioned rules can begin with."""
        seen: set[int] = set()
        waiting = list(positions)
        while waiting:
            position = waiting.pop()
            if position not in seen:
                seen.add(position)
                symbol = self.symbols[position]
                if isinstance(symbol, Ref) and self._is_call(symbol):
                    waiting += self._bodies[symbol.name].first
        self._budget.spend(len(seen))
        return frozenset(position for position in seen if not self._is_call(self.symbols[position]))

    def _ended(self, position: int) -> set[int]:
        """``position``, and the mentions of rules that may be over when it is."""
        ended: set[int] = set()
        waiting = [position]
        while waiting:
            current = waiting.pop()
            if current not in ended:
                ended.add(current)
                rule = self._rule_of[current]
                if current in self._bodies[rule].last:
                    waiting += self._calls.get(rule, ())
        self._budget.spend(len(ended))
        return ended

    def states(self, first: dict[str, Chars]) -> list[tuple[frozenset[int], frozenset[int]]]:
        """Sets of positions that one text can have come to, each with the positions that are possible then.

        Positions that can take the same character are taken together, so that a set may hold more than one text reaches.

        :param first: the characters that each rule among the leaves can begin with
        :raises TooLarge: there are too many
        """
        out = [(frozenset[int](), self.start)]
        seen: set[frozenset[int]] = set()
        for _, live in out:
            for together in self._overlapping(live, first):
                if together not in seen:
                    seen.add(together)
                    following = [self.following[position] for position in together]
                    self._budget.spend(sum(map(len, following)))
                    out.append((together, frozenset[int]().union(*following)))
        return out

    def _overlapping(self, live: frozenset[int], first: dict[str, Chars]) -> list[frozenset[int]]:
        groups: list[tuple[set[int], list[Item]]] = []
        for position in sorted(live):
            symbol = self.symbols[position]
            mine: tuple[set[int], list[Item]] = ({position}, [symbol])
            apart = []
            self._budget.spend(sum(len(group[1]) for group in groups))
            for group in groups:
                if any(symbols_overlap(symbol, other, first) for other in group[1]):
                    mine = (mine[0] | group[0], mine[1] + group[1])
                else:
                    apart.append(group)
            groups = [*apart, mine]
        return [frozenset(group[0]) for group in groups]


def symbols_overlap(one: Item, other: Item, first: dict[str, Chars]) -> bool:
    """Whether two leaves can take the same character, or the same token."""
    if isinstance(one, Token) and isinstance(other, Token):
        return one.negated == other.negated if one.token == other.token else one.negated or other.negated
    if isinstance(one, Token) or isinstance(other, Token):
        return False
    return one == other or chars_of(one, first).overlaps(chars_of(other, first))


def chars_of(symbol: Item, first: dict[str, Chars]) -> Chars:
    """The characters that a leaf can begin with; none for a token."""
    match symbol:
        case Chars():
            return symbol
        case Ref(name):
            return first[name]
        case _:
            return Chars(())


def nullable_rules(grammar: GbnfGrammar) -> frozenset[str]:
    """The rules that match the empty text."""
    mentioned_by = mentions(grammar.rules)
    found: set[str] = set()
    waiting = list(grammar.rules)
    while waiting:
        name = waiting.pop()
        if name not in found and _nullable(grammar.rules[name], found):
            found.add(name)
            waiting += mentioned_by[name]
    return frozenset(found)


def _nullable(item: Item, rules: set[str]) -> bool:
    match item:
        case Ref(name):
            return name in rules
        case Sequence(parts):
            return all(_nullable(part, rules) for part in parts)
        case Group(parts):
            return any(_nullable(part, rules) for part in parts)
        case Repeat(part, low, _):
            return low == 0 or _nullable(part, rules)
        case _:
            return False
