"""A GBNF grammar as a tree. Knows neither the text it came from nor what is made of it."""

from __future__ import annotations

from typing import TypeAlias

from attrs import frozen

MAX_CODE_POINT = 0x10FFFF
_SURROGATES = (0xD800, 0xDFFF)


@frozen
class Chars:
    """One code point out of inclusive ``ranges``, sorted and apart from each other; without ranges nothing matches."""

    ranges: tuple[tuple[int, int], ...]

    def overlaps(self, other: Chars) -> bool:
        """Whether a code point is in both."""
        return any(low <= high2 and low2 <= high for low, high in self.ranges for low2, high2 in other.ranges)


@frozen
class Token:
    """One token whose id is ``token``, or with ``negated`` any other that does not end generation."""

    token: int
    negated: bool = False


@frozen
class Ref:
    """A rule by its name."""

    name: str


@frozen
class Sequence:
    """Items one after the other; a literal is a sequence of its characters."""

    items: tuple[Item, ...] = ()


@frozen
class Group:
    """Alternatives in parentheses, or the body of a rule."""

    options: tuple[Sequence, ...]


@frozen
class Repeat:
    """``item`` at least ``low`` times and at most ``high`` (None: without end)."""

    item: Item
    low: int
    high: int | None


Item: TypeAlias = Chars | Token | Ref | Sequence | Group | Repeat


@frozen
class GbnfGrammar:
    """Rules by name, in order; ``root`` is one of them."""

    root: str
    rules: dict[str, Group]


def chars(ranges: list[tuple[int, int]], negated: bool = False) -> Chars:
    """The code points of ``ranges``, or all others. NUL and surrogates are never among them: no text token has them."""
    merged: list[tuple[int, int]] = []
    for low, high in sorted(ranges):
        if low > high:
            continue
        if merged and low <= merged[-1][1] + 1:
            merged[-1] = (merged[-1][0], max(high, merged[-1][1]))
        else:
            merged.append((low, high))
    if negated:
        merged = _complement(merged)
    out: list[tuple[int, int]] = []
    for low, high in merged:
        for floor, ceiling in ((1, _SURROGATES[0] - 1), (_SURROGATES[1] + 1, MAX_CODE_POINT)):
            if (start := max(low, floor)) <= (stop := min(high, ceiling)):
                out.append((start, stop))
    return Chars(tuple(out))


def _complement(ranges: list[tuple[int, int]]) -> list[tuple[int, int]]:
    gaps: list[tuple[int, int]] = []
    start = 0
    for low, high in ranges:
        gaps.append((start, low - 1))
        start = high + 1
    gaps.append((start, MAX_CODE_POINT))
    return [(low, high) for low, high in gaps if low <= high]
