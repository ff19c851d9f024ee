"""Finds the rules of a GBNF grammar that may be terminals of a longest-match lexer without a change of meaning.

A terminal is one lexeme instead of one for each code point, which makes masks hundreds of times cheaper. It is safe where

- what may follow it cannot also extend it, so that the longest match is the only one, and
- nothing else that is possible at the same place begins with one of its characters.

Knows neither a vocabulary nor how a grammar is written.
"""

from __future__ import annotations

from enginebay.decode.constraints.gbnf.automaton import (
    Automaton,
    Budget,
    TooLarge,
    chars_of,
    nullable_rules,
    symbols_overlap,
)
from enginebay.decode.constraints.gbnf.tree import Chars, GbnfGrammar, Ref, chars

_MOST_RULES = 100


def safe_terminals(grammar: GbnfGrammar, regular: frozenset[str]) -> frozenset[str]:
    """Those of the ``regular`` rules that are safe as terminals; none if the grammar is too large to tell."""
    if len(grammar.rules) > _MOST_RULES:
        return frozenset()
    nullable = nullable_rules(grammar)
    promoted = set(regular)
    budget = Budget()
    try:
        shapes = {name: _shape(Automaton(grammar, name, nullable, budget)) for name in regular}
        while promoted:
            unsafe = _unsafe(Automaton(grammar, grammar.root, nullable, budget, promoted), promoted, shapes)
            if not unsafe:
                break
            promoted -= unsafe
    except TooLarge:
        return frozenset()
    return frozenset(promoted)


def _shape(automaton: Automaton) -> tuple[Chars, Chars]:
    """The characters that a regular rule can begin with, and those that can extend a text that it matches already."""
    extending = [live for taken, live in automaton.states({}) if not taken.isdisjoint(automaton.last)]
    return _union(automaton, automaton.start), _union(automaton, frozenset[int]().union(*extending))


def _union(automaton: Automaton, positions: frozenset[int]) -> Chars:
    return chars([pair for position in positions for pair in chars_of(automaton.symbols[position], {}).ranges])


def _unsafe(automaton: Automaton, promoted: set[str], shapes: dict[str, tuple[Chars, Chars]]) -> set[str]:
    first = {name: shape[0] for name, shape in shapes.items()}
    symbols = automaton.symbols
    terminals = {p: symbol for p, symbol in enumerate(symbols) if isinstance(symbol, Ref) and symbol.name in promoted}
    unsafe: set[str] = set()
    for position, terminal in terminals.items():
        extending = shapes[terminal.name][1]
        if any(chars_of(symbols[after], first).overlaps(extending) for after in automaton.following[position]):
            unsafe.add(terminal.name)
    for _, live in automaton.states(first):
        for position in live & terminals.keys():
            terminal = terminals[position]
            if any(symbols[other] != terminal and symbols_overlap(terminal, symbols[other], first) for other in live):
                unsafe.add(terminal.name)
    return unsafe
