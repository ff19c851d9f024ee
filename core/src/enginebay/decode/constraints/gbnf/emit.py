"""Writes a GBNF grammar as Lark text for llguidance, without a change of meaning. Knows the tree, not where it came from.

The library's lexer takes the longest match, and GBNF has no lexer. So each class and each character of a literal is a lexeme
of one code point, which nothing can extend. A grammar without recursion and without tokens is one regular expression instead.
"""

from __future__ import annotations

from enginebay.decode.constraints.gbnf.prune import references
from enginebay.decode.constraints.gbnf.tree import Chars, GbnfGrammar, Group, Item, Ref, Repeat, Sequence, Token
from enginebay.decode.protocol import Vocabulary
from enginebay.errors import GrammarError


def emit(grammar: GbnfGrammar, vocabulary: Vocabulary, terminals: frozenset[str] = frozenset()) -> str:
    """Lark text. Rules in ``terminals`` become terminals; what they mention must be among them."""
    writer = _Writer(grammar, vocabulary, terminals)
    lines = [f"start: {writer.name(grammar.root)}"]
    lines += [f"{writer.name(name)}: {writer.group(body)}" for name, body in grammar.rules.items()]
    return "\n".join([*lines, *writer.classes.values()])


def regular_rules(grammar: GbnfGrammar) -> frozenset[str]:
    """The rules that mention neither themselves, however far away, nor a token."""
    regular: set[str] = set()
    mentions = {name: set(references(body)) for name, body in grammar.rules.items()}
    candidates = {name for name, body in grammar.rules.items() if not _has_token(body)}
    while found := {name for name in candidates - regular if mentions[name] <= regular}:
        regular |= found
    return frozenset(regular)


def _has_token(item: Item) -> bool:
    match item:
        case Token():
            return True
        case Sequence(parts) | Group(parts):
            return any(_has_token(part) for part in parts)
        case Repeat(part, _, _):
            return _has_token(part)
        case _:
            return False


class _Writer:
    def __init__(self, grammar: GbnfGrammar, vocabulary: Vocabulary, terminals: frozenset[str]) -> None:
        self._vocabulary = vocabulary
        # The library tells rules from terminals by their case, and GBNF's names do not.
        self._names = {name: f"{'R' if name in terminals else 'r'}{index}" for index, name in enumerate(grammar.rules)}
        self.classes: dict[Chars, str] = {}

    def name(self, rule: str) -> str:
        return self._names[rule]

    def group(self, group: Group) -> str:
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
                return self._names[name]
            case Group():
                return f"({self.group(item)})"
            case Sequence():
                return f"({self._sequence(item)})"
            case Repeat(part, low, high):
                inner = self._item(part)
                return f"({inner}){_count(low, high)}"

    def _class(self, item: Chars) -> str:
        if item not in self.classes:
            self.classes[item] = f"C{len(self.classes)}: /{class_regex(item)}/"
        return self.classes[item].partition(":")[0]

    def _token(self, token: int, negated: bool) -> str:
        vocabulary = self._vocabulary
        if token >= len(vocabulary.pieces):
            raise GrammarError(f"token {token} is not in the vocabulary of {len(vocabulary.pieces):,} tokens")
        if not negated:
            if token in vocabulary.end:
                raise GrammarError(
                    f"token {token} ends generation and cannot be part of the grammar",
                    hint="Leave it out: an end token is allowed wherever the grammar is complete.",
                )
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
