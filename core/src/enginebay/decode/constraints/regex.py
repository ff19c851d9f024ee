"""A regular expression as a grammar: one terminal. Knows no vocabulary; Rust's syntax is checked by the compiler itself."""

from __future__ import annotations

import re

from enginebay.decode.constraints.grammar import Grammar
from enginebay.decode.constraints.limits import Limits
from enginebay.errors import GrammarError

_VERBOSE = re.compile(r"\(\?[A-Za-z]*x[A-Za-z-]*[:)]")
_COUNT = re.compile(r"\{\s*(\d*)\s*(?:,\s*(\d*)\s*)?\}")


def regex_grammar(pattern: str, limits: Limits) -> Grammar:
    """The whole output matches ``pattern``. Raises GrammarError for one that is over a limit."""
    check_regex(pattern, limits)
    if _VERBOSE.search(pattern):
        raise GrammarError(
            "the regex has the flag 'x', under which line ends and '#' have another meaning", hint="Leave it out."
        )
    return Grammar("regex", f"start: T\nT: /(?:{slashed(pattern)})/")


def slashed(pattern: str) -> str:
    """``pattern`` as it stands between slashes in Lark: slashes and line ends escaped, the meaning unchanged."""
    out: list[str] = []
    escaped = False
    for char in pattern:
        if escaped:
            # An escaped slash or line end stands for itself; the escape that is written for it does the same.
            out[-1:] = [_SPELLED[char]] if char in _SPELLED else ["\\", char]
            escaped = False
            continue
        escaped = char == "\\"
        out.append(_SPELLED.get(char, char))
    return "".join(out)


_SPELLED = {"/": "\\/", "\n": "\\n", "\r": "\\r"}


def check_regex(pattern: str, limits: Limits) -> None:
    """Check size, nesting of groups and repetition counts."""
    limits.check_source(pattern)
    depth = index = 0
    in_class = 0
    while index < len(pattern):
        char = pattern[index]
        if char == "\\":
            index += 2
            continue
        if char == "[":
            in_class += 1
        elif char == "]" and in_class:
            in_class -= 1
        elif not in_class:
            if char == "(":
                depth += 1
                limits.check("nested groups", depth, limits.nesting)
            elif char == ")":
                depth -= 1
            elif char == "{" and (count := _COUNT.match(pattern, index)):
                _check_count(count, limits)
        index += 1


def _check_count(count: re.Match[str], limits: Limits) -> None:
    numbers = [digits for digits in count.groups() if digits]
    if any(len(digits) > 9 for digits in numbers):
        raise GrammarError(f"the repetition {count[0][:40]} at character {count.start()} is too large")
    limits.check("repetitions", max(map(int, numbers), default=0), limits.repetitions)
