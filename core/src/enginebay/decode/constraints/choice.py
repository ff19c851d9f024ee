"""A choice of strings as a grammar: one terminal of alternatives. Knows no vocabulary."""

from __future__ import annotations

from enginebay.decode.constraints.grammar import Grammar, literal_regex
from enginebay.decode.constraints.limits import Limits
from enginebay.errors import GrammarError


def choice_grammar(options: tuple[str, ...], limits: Limits) -> Grammar:
    """One terminal: as rules, 2,000 options would be more than a row of the parser holds."""
    limits.check("options", len(options), limits.choices)
    if not options:
        raise GrammarError("a choice needs at least one option")
    for index, option in enumerate(options):
        if not isinstance(option, str):
            raise GrammarError(f"option {index} of the choice is not a string")
    limits.check_source("".join(options))
    alternatives = "|".join(literal_regex(option) for option in dict.fromkeys(options))
    return Grammar("choice", f"start: T\nT: /({alternatives})/")
