"""GBNF, llama.cpp's grammars, as a grammar text for the compiler. Knows the vocabulary only for tokens that are named."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from enginebay.decode.constraints.gbnf.check import check_grammar
from enginebay.decode.constraints.gbnf.emit import emit, regular_rules
from enginebay.decode.constraints.gbnf.parse import parse_gbnf, parse_rules
from enginebay.decode.constraints.gbnf.promote import safe_terminals
from enginebay.decode.constraints.gbnf.prune import pruned
from enginebay.decode.constraints.gbnf.tokens import check_tokens
from enginebay.decode.constraints.gbnf.tree import GbnfGrammar
from enginebay.decode.constraints.grammar import Grammar
from enginebay.decode.constraints.limits import Limits
from enginebay.decode.protocol import Vocabulary

__all__ = ["gbnf_grammar", "rules_grammar"]


def gbnf_grammar(
    source: str, vocabulary: Vocabulary, encode: Callable[[str], list[int]], limits: Limits, plain: bool = False
) -> Grammar:
    """What llama.cpp accepts for ``source``.

    :param plain: write one lexeme for each code point and nothing else: slow, and what the other forms are held against
    :raises GrammarError: it is malformed, over a limit, or matches nothing
    """
    return _written("gbnf", parse_gbnf(source, _finder(vocabulary, encode), limits), vocabulary, plain)


def rules_grammar(
    root: str,
    rules: Mapping[str, tuple[str, ...]],
    vocabulary: Vocabulary,
    encode: Callable[[str], list[int]],
    limits: Limits,
) -> Grammar:
    """The same for rules that are given as lists of alternatives."""
    return _written("rules", parse_rules(root, rules, _finder(vocabulary, encode), limits), vocabulary, False)


def _written(kind: str, grammar: GbnfGrammar, vocabulary: Vocabulary, plain: bool) -> Grammar:
    check_grammar(grammar)
    grammar = pruned(grammar)
    check_tokens(grammar, vocabulary)
    simple = emit(grammar, vocabulary)
    regular = frozenset() if plain else regular_rules(grammar)
    terminals = frozenset({grammar.root}) if grammar.root in regular else safe_terminals(grammar, regular)
    return Grammar(kind, emit(grammar, vocabulary, terminals), fallback=simple) if terminals else Grammar(kind, simple)


def _finder(vocabulary: Vocabulary, encode: Callable[[str], list[int]]) -> Callable[[str], int | None]:
    """Finds the token that a text such as ``<think>`` is: a special one, or what the text is tokenized to."""

    def find(text: str) -> int | None:
        wanted = text.encode()
        for token in sorted(vocabulary.special | vocabulary.control):
            if vocabulary.pieces[token] == wanted:
                return token
        tokens = encode(text)
        return tokens[0] if len(tokens) == 1 and vocabulary.pieces[tokens[0]] == wanted else None

    return find
