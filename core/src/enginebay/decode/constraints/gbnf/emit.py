"""Writes a GBNF grammar as Lark text for llguidance, without a change of meaning. Knows the tree, not where it came from.

The library's lexer takes the longest match, and GBNF has no lexer. So each class and each character of a literal is a lexeme
of one code point, which nothing can extend. A grammar without recursion and without tokens is one regular expression instead.
"""

from __future__ import annotations

from enginebay.decode.constraints.gbnf.automaton import nullable_rules
from enginebay.decode.constraints.gbnf.prune import mentions, references
from enginebay.decode.constraints.gbnf.tree import Chars, GbnfGrammar, Group, Item, Ref, Repeat, Sequence, Token
from enginebay.decode.protocol import Vocabulary


def emit(grammar: GbnfGrammar, vocabulary: Vocabulary, terminals: frozenset[str] = frozenset()) -> str:
    """Lark text. A mention of one of ``terminals``, which have no recursion and no tokens, is one lexeme."""
    writer = _Writer(grammar, vocabulary, terminals)
    lines = [f"start: {writer.mention(grammar.root)}"]
    while writer.wanted:
        lines.append(writer.next_rule())
    return "\n".join([*lines, *writer.helpers, *writer.classes.values()])


def regular_rules(grammar: GbnfGrammar) -> frozenset[str]:
    """The rules that mention neither themselves, however far away, nor a token, and are of a size that can be written out."""
    sizes: dict[str, int] = {}
    unknown = {name: set(references(body)) for name, body in grammar.rules.items()}
    mentioned_by = mentions(grammar.rules)
    ready = [name for name, mentioned in unknown.items() if not mentioned]
    while ready:
        name = ready.pop()
        size = _size(grammar.rules[name], sizes)
        if size is not None and size <= _LARGEST_TERMINAL:
            sizes[name] = size
            for other in mentioned_by[name]:
                unknown[other].discard(name)
                if not unknown[other]:
                    ready.append(other)
    return frozenset(sizes) if sum(sizes.values()) <= _TERMINALS_TOGETHER else frozenset()


def _size(item: Item, sizes: dict[str, int]) -> int | None:
    """How large ``item`` is with the rules that it mentions written out; None if it has a token or another rule."""
    match item:
        case Chars():
            return 1
        case Ref(name):
            return sizes.get(name)
        case Sequence(parts) | Group(parts):
            inner = [_size(part, sizes) for part in parts]
            return None if None in inner else 1 + sum(size for size in inner if size is not None)
        case Repeat(part, _, _):
            return _size(part, sizes)
        case _:
            return None


_LARGEST_TERMINAL = 5_000
_TERMINALS_TOGETHER = 50_000
_DEEPEST_GROUP = 16
"""The library's parser takes few parentheses inside each other: what is deeper becomes a rule of its own."""


class _Writer:
    def __init__(self, grammar: GbnfGrammar, vocabulary: Vocabulary, terminals: frozenset[str]) -> None:
        self._rules = grammar.rules
        self._vocabulary = vocabulary
        self._terminals = terminals
        self._nullable = nullable_rules(grammar)
        self._numbers = {name: number for number, name in enumerate(grammar.rules)}
        self._named: set[str] = set()
        self.wanted: list[tuple[str, bool]] = []
        self.classes: dict[Chars, str] = {}
        self.helpers: list[str] = []
        self._depth = 0
        self._in_terminal = False

    def mention(self, rule: str) -> str:
        """The name of a rule or terminal where it is used. The library tells them apart by case; GBNF's names do not."""
        number = self._numbers[rule]
        if not self._in_terminal and rule not in self._terminals:
            return self._want(f"r{number}", rule, False)
        name = self._want(f"R{number}", rule, True)
        if self._in_terminal or rule not in self._nullable:
            return name
        # A lexeme is never empty: the empty text is the rule's affair.
        if f"N{number}" not in self._named:
            self._named.add(f"N{number}")
            self.helpers.append(f"N{number}: {name} & /(?s:.+)/")
        return f"N{number}?"

    def _want(self, name: str, rule: str, terminal: bool) -> str:
        if name not in self._named:
            self._named.add(name)
            self.wanted.append((rule, terminal))
        return name

    def next_rule(self) -> str:
        rule, self._in_terminal = self.wanted.pop()
        return f"{'R' if self._in_terminal else 'r'}{self._numbers[rule]}: {self._group(self._rules[rule])}"

    def _group(self, group: Group) -> str:
        return " | ".join(self._sequence(option) for option in group.options)

    def _sequence(self, sequence: Sequence) -> str:
        return " ".join(self._item(item) for item in sequence.items) or '""'

    def _item(self, item: Item) -> str:
        match item:
            case Chars():
                return self._class(item)
            case Token(token, negated):
                return self._token(token, negated)
            case Ref(name):
                return self.mention(name)
            case Group():
                return self._nested(item)
            case Sequence():
                return f"({self._sequence(item)})"
            case Repeat(part, low, high):
                inner = self._item(part)
                return f"({inner}){_count(low, high)}"

    def _nested(self, group: Group) -> str:
        depth = self._depth
        deepest = depth == _DEEPEST_GROUP
        self._depth = 0 if deepest else depth + 1
        inner = self._group(group)
        self._depth = depth
        if not deepest:
            return f"({inner})"
        name = f"{'G' if self._in_terminal else 'g'}{len(self.helpers)}"
        self.helpers.append(f"{name}: {inner}")
        return name

    def _class(self, item: Chars) -> str:
        if item not in self.classes:
            self.classes[item] = f"C{len(self.classes)}: /{class_regex(item)}/"
        return self.classes[item].partition(":")[0]

    def _token(self, token: int, negated: bool) -> str:
        vocabulary = self._vocabulary
        if not negated:
            return f"<[{token}]>"
        # As in llama.cpp: neither a token that ends generation nor one without text.
        left_out = {
            token,
            *vocabulary.end,
            *(i for i, piece in enumerate(vocabulary.pieces) if piece[:1] in (b"", b"\0")),
        }
        return f"<[^{','.join(map(str, sorted(left_out)))}]>"


def class_regex(item: Chars) -> str:
    """A regex that matches one code point of ``item``."""
    return "[" + "".join(f"\\u{{{low:x}}}-\\u{{{high:x}}}" for low, high in item.ranges) + "]"


def _count(low: int, high: int | None) -> str:
    match low, high:
        case 0, None:
            return "*"
        case 1, None:
            return "+"
        case 0, 1:
            return "?"
        case _, None:
            return f"{{{low},}}"
        case _:
            return f"{{{low},{high}}}"
