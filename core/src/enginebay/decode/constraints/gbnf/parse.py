"""Reads GBNF as llama.cpp's parser does, quirks included. Knows no vocabulary but through a function that finds a token.

Source: ``llama_grammar_parser`` in llama.cpp's ``src/llama-grammar.cpp``, whose order of checks this follows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from enginebay.decode.constraints.gbnf.tree import GbnfGrammar, Group, Item, Ref, Repeat, Sequence, Token, chars
from enginebay.decode.constraints.limits import Limits
from enginebay.errors import GrammarError

_MAX_REPETITIONS = 2_000
"""llama.cpp's ``MAX_REPETITION_THRESHOLD``: a larger maximum means none, a larger minimum is an error."""

_WORD = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-")
_DIGITS = frozenset("0123456789")
_HEX = frozenset("0123456789abcdefABCDEF")
_ESCAPES = {"t": "\t", "r": "\r", "n": "\n", "\\": "\\", '"': '"', "[": "[", "]": "]", "-": "-"}
_HEX_DIGITS = {"x": 2, "u": 4, "U": 8}


def parse_gbnf(source: str, find_token: Callable[[str], int | None], limits: Limits) -> GbnfGrammar:
    """The grammar in ``source``, whose root is the rule ``root``.

    :param find_token: the id of the one token that ``<text>`` is, or None
    :raises GrammarError: it is malformed, names a rule that is not there, or is over a limit; says the line and column
    """
    limits.check_source(source)
    parser = _Parser(source, find_token, limits)
    parser.rules_to_end()
    return _checked("root", parser.rules, parser.references, limits)


def parse_rules(
    root: str, rules: Mapping[str, tuple[str, ...]], find_token: Callable[[str], int | None], limits: Limits
) -> GbnfGrammar:
    """The grammar whose rules are given by name, each as a list of alternatives in GBNF."""
    limits.check("rules", len(rules), limits.rules)
    limits.check_source("".join(rules) + "".join(text for options in rules.values() for text in options))
    bodies: dict[str, Group] = {}
    references: dict[str, Callable[[], str]] = {}
    symbols: set[str] = set()
    for name, options in rules.items():
        if not name or not _WORD.issuperset(name):
            raise GrammarError(f"rule name {name!r}: only letters, digits and '-' are allowed")
        if not isinstance(options, tuple | list) or not options:
            raise GrammarError(f"rule {name}: expected a list of at least one alternative")
        alternatives: list[Sequence] = []
        for index, text in enumerate(options):
            parser = _Parser(text, find_token, limits, f"rule {name}, alternative {index}, ", symbols)
            alternatives.extend(parser.alternative_to_end())
            references |= parser.references
        bodies[name] = Group(tuple(alternatives))
    return _checked(root, bodies, references, limits)


def _checked(
    root: str, rules: dict[str, Group], references: dict[str, Callable[[], str]], limits: Limits
) -> GbnfGrammar:
    limits.check("rules", len(rules), limits.rules)
    for name, place in references.items():
        if name not in rules:
            raise GrammarError(f"the grammar has no rule {name!r}, which {place()} names")
    if root not in rules:
        raise GrammarError(f"the grammar has no rule {root!r} to begin with")
    return GbnfGrammar(root, rules)


class _Parser:
    def __init__(
        self,
        text: str,
        find_token: Callable[[str], int | None],
        limits: Limits,
        where: str = "",
        symbols: set[str] | None = None,
    ) -> None:
        if "\0" in text:
            raise GrammarError(f"{where}the grammar holds a NUL character")
        self._text = text + "\0"
        self._at = 0
        self._find_token = find_token
        self._limits = limits
        self._where = where
        self._depth = 0
        # llama.cpp bounds repetitions by the number of symbols that a group made, so they are counted as it does.
        self._names: set[str] = set() if symbols is None else symbols
        self._generated = 0
        self.rules: dict[str, Group] = {}
        self.references: dict[str, Callable[[], str]] = {}

    def rules_to_end(self) -> None:
        self._space(newlines=True)
        while self._char() != "\0":
            self._rule()

    def alternative_to_end(self) -> tuple[Sequence, ...]:
        self._space(newlines=True)
        group = self._alternates(nested=True)
        if self._char() != "\0":
            raise self._error("this character has no meaning here")
        return group.options

    # --- one function for each of llama.cpp's ---

    def _rule(self) -> None:
        name = self._name()
        self._space(newlines=False)
        self._names.add(name)
        if not self._text.startswith("::=", self._at):
            raise self._error("expected '::='")
        self._at += 3
        self._space(newlines=True)
        self.rules[name] = self._alternates(nested=False)
        if self._char() == "\r":
            self._at += 2 if self._text[self._at + 1] == "\n" else 1
        elif self._char() == "\n":
            self._at += 1
        elif self._char() != "\0":
            raise self._error("expected the end of the line")
        self._space(newlines=True)

    def _alternates(self, nested: bool) -> Group:
        options = [self._sequence(nested)]
        while self._char() == "|":
            self._at += 1
            self._space(newlines=True)
            options.append(self._sequence(nested))
        return Group(tuple(options))

    def _sequence(self, nested: bool) -> Sequence:
        items: list[Item] = []
        symbols_made = 1  # llama.cpp's n_prev_rules
        while True:
            char = self._char()
            if char == '"':
                items.append(self._literal())
                symbols_made = 1
            elif char == "[":
                items.append(self._class())
                symbols_made = 1
            elif char in "<!":
                items.append(self._token())
                symbols_made = 1
            elif char in _WORD:
                at = self._at
                name = self._name()
                self._names.add(name)
                self.references.setdefault(name, partial(self._place, at))
                items.append(Ref(name))
                symbols_made = 1
            elif char == "(":
                before = len(self._names) + self._generated
                items.append(self._group())
                symbols_made = max(1, len(self._names) + self._generated - before)
            elif char == ".":
                self._at += 1
                items.append(chars([], negated=True))
                symbols_made = 1
            elif char in "*+?{":
                low, high = self._bounds(nested)
                if not items or _is_nothing(items[-1]):
                    raise self._error("expected something to repeat before this")
                symbols_made = self._repeated(symbols_made, low, high)
                items[-1] = Repeat(items[-1], low, high)
                continue
            else:
                return Sequence(tuple(items))
            self._space(nested)

    def _repeated(self, symbols_made: int, low: int, high: int | None) -> int:
        if high is not None and high < low:
            raise self._error(f"the repetition has the maximum {high} below its minimum {low}")
        total = high or low or 1
        if symbols_made * total > _MAX_REPETITIONS:
            raise self._error(f"what is repeated would be more than {_MAX_REPETITIONS:,} rules")
        self._generated += 1 if high is None else high - low
        return symbols_made * total

    def _bounds(self, nested: bool) -> tuple[int, int | None]:
        char = self._char()
        self._at += 1
        self._space(nested)
        if char != "{":
            return {"*": (0, None), "+": (1, None), "?": (0, 1)}[char]
        low = self._integer()
        self._space(nested)
        high: int | None = low
        if self._char() == ",":
            self._at += 1
            self._space(nested)
            high = None
            if self._char() in _DIGITS:
                high = self._integer()
                self._space(nested)
        if self._char() != "}":
            raise self._error("expected '}'")
        self._at += 1
        self._space(nested)
        if low > _MAX_REPETITIONS:
            raise self._error(f"the repetition is more than {_MAX_REPETITIONS:,}")
        return low, None if high is None or high > _MAX_REPETITIONS else high

    def _group(self) -> Group:
        self._depth += 1
        self._limits.check("nested groups", self._depth, self._limits.nesting)
        self._at += 1
        self._space(newlines=True)
        self._generated += 1
        group = self._alternates(nested=True)
        if self._char() != ")":
            raise self._error("expected ')'")
        self._at += 1
        self._depth -= 1
        return group

    def _literal(self) -> Item:
        self._at += 1
        items: list[Item] = []
        while self._char() != '"':
            code = self._code_point()
            items.append(chars([(code, code)]))
        self._at += 1
        return items[0] if len(items) == 1 else Sequence(tuple(items))

    def _class(self) -> Item:
        self._at += 1
        negated = self._char() == "^"
        self._at += negated
        ranges: list[tuple[int, int]] = []
        while self._char() != "]":
            low = high = self._code_point()
            if self._char() == "-" and self._text[self._at + 1] != "]":
                self._at += 1
                high = self._code_point()
            ranges.append((low, high))
        self._at += 1
        # llama.cpp reads an empty class, negated or not, as nothing at all.
        return chars(ranges, negated) if ranges else Sequence()

    def _token(self) -> Token:
        negated = self._char() == "!"
        self._at += negated
        if self._char() != "<":
            raise self._error("expected '<'")
        if self._text[self._at + 1] == "[":
            self._at += 2
            token = self._integer()
            if not self._text.startswith("]>", self._at):
                raise self._error("expected ']>'")
            self._at += 2
            return Token(token, negated)
        stop = self._text.find(">", self._at)
        if stop < 0:
            raise self._error("expected '>'")
        text = self._text[self._at : stop + 1]
        found = self._find_token(text)
        if found is None:
            raise self._error(f"{text[:100]} is not one token of this model's vocabulary")
        self._at = stop + 1
        return Token(found, negated)

    def _code_point(self) -> int:
        char = self._char()
        if char == "\0":
            raise self._error("the grammar ends in the middle")
        self._at += 1
        if char != "\\":
            return ord(char)
        escape = self._char()
        self._at += 1
        if escape in _ESCAPES:
            return ord(_ESCAPES[escape])
        size = _HEX_DIGITS.get(escape)
        if size is None:
            raise self._error("unknown escape", back=2)
        digits = self._text[self._at : self._at + size]
        if len(digits) != size or not _HEX.issuperset(digits):
            raise self._error(f"expected {size} hexadecimal digits")
        self._at += size
        return int(digits, 16)

    def _name(self) -> str:
        start = self._at
        while self._char() in _WORD:
            self._at += 1
        if self._at == start:
            raise self._error("expected the name of a rule")
        return self._text[start : self._at]

    def _integer(self) -> int:
        start = self._at
        while self._char() in _DIGITS:
            self._at += 1
        if self._at == start:
            raise self._error("expected a number")
        if self._at - start > 9:
            raise self._error("the number is too large")
        return int(self._text[start : self._at])

    def _space(self, newlines: bool) -> None:
        skipped = " \t\r\n" if newlines else " \t"
        while True:
            if self._char() == "#":
                while self._char() not in "\r\n\0":
                    self._at += 1
            elif self._char() in skipped:
                self._at += 1
            else:
                return

    def _char(self) -> str:
        return self._text[self._at]

    def _place(self, at: int | None = None) -> str:
        before = self._text[: self._at if at is None else at]
        return f"{self._where}line {before.count(chr(10)) + 1}, column {len(before) - before.rfind(chr(10))}"

    def _error(self, message: str, back: int = 0) -> GrammarError:
        return GrammarError(f"{self._place(self._at - back)}: {message}")


def _is_nothing(item: Item) -> bool:
    """Whether llama.cpp has no element for this: an empty literal or class, or something repeated no times."""
    match item:
        case Sequence(items):
            return all(_is_nothing(part) for part in items)
        case Repeat(_, _, high):
            return high == 0
        case _:
            return False
