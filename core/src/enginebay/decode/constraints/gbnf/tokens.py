"""Refuses a GBNF grammar in which a token that is text may be meant as a token or as its text. Knows no way to write it.

Where both are possible, the library takes the token and forgets the text; llama.cpp follows both.
"""

from __future__ import annotations

from enginebay.decode.constraints.gbnf.automaton import Automaton, Budget, TooLarge, nullable_rules, symbols_overlap
from enginebay.decode.constraints.gbnf.tree import Chars, GbnfGrammar, Group, Item, Repeat, Sequence, Token
from enginebay.decode.protocol import Vocabulary
from enginebay.errors import GrammarError


def check_tokens(grammar: GbnfGrammar, vocabulary: Vocabulary) -> None:
    """Raises GrammarError for a token that is not in the vocabulary, ends generation, or can be taken for text."""
    tokens = {token for body in grammar.rules.values() for token in _tokens(body)}
    for token in tokens:
        _check_token(token, vocabulary)
    if not any(token.negated or not _is_special(token.token, vocabulary) for token in tokens):
        return
    try:
        automaton = Automaton(grammar, grammar.root, nullable_rules(grammar), Budget())
        states = automaton.states({})
    except TooLarge:
        raise GrammarError("the grammar is too large to tell its tokens from its text") from None
    for _, live in states:
        symbols = {automaton.symbols[position] for position in live}
        for one in symbols:
            if isinstance(one, Token) and any(_both(one, other, vocabulary) for other in symbols if other != one):
                name = f"{'!' if one.negated else ''}<[{one.token}]>"
                raise GrammarError(
                    f"{name} stands where the same token can also be text or another token of the grammar"
                )


def _check_token(token: Token, vocabulary: Vocabulary) -> None:
    size = len(vocabulary.pieces)
    if token.token >= size:
        raise GrammarError(f"token {token.token} is not in the vocabulary of {size:,} tokens")
    if token.token in vocabulary.end and not token.negated:
        raise GrammarError(
            f"token {token.token} ends generation and cannot be part of the grammar",
            hint="Leave it out: an end token is allowed wherever the grammar is complete.",
        )


def _is_special(token: int, vocabulary: Vocabulary) -> bool:
    return token in vocabulary.special or token in vocabulary.control


def _both(token: Token, other: Item, vocabulary: Vocabulary) -> bool:
    if isinstance(other, Token):
        return symbols_overlap(token, other, {})
    if token.negated:
        return True
    piece = vocabulary.pieces[token.token]
    if _is_special(token.token, vocabulary) or not isinstance(other, Chars):
        return False
    try:
        code = ord(piece.decode()[0])
    except UnicodeDecodeError:
        return True  # a part of a character: it may be the beginning of any
    return other.overlaps(Chars(((code, code),)))


def _tokens(item: Item) -> list[Token]:
    match item:
        case Token():
            return [item]
        case Sequence(parts) | Group(parts):
            return [token for part in parts for token in _tokens(part)]
        case Repeat(part, _, _):
            return _tokens(part)
        case _:
            return []
