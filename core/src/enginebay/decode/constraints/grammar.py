"""What a front end hands on: one grammar text and what to report. Also how text is written in that grammar."""

from __future__ import annotations

from collections.abc import Callable

from attrs import field, frozen


@frozen
class Grammar:
    """A grammar in llguidance's dialect of Lark whose rule ``start`` is the whole output.

    ``fallback`` is for when ``lark`` is too much for the compiler: the same language, or with ``make_check`` a wider one.
    ``make_check`` gives what decides on finished text, where something was dropped. ``explain`` turns the compiler's reason
    for a refusal into one that speaks of the constraint.
    """

    kind: str
    lark: str = field(repr=False)
    warnings: tuple[str, ...] = ()
    fallback: str | None = field(default=None, repr=False)
    make_check: Callable[[], Callable[[str], bool | None]] | None = field(default=None, repr=False)
    explain: Callable[[str], str] | None = field(default=None, repr=False)


def literal_regex(text: str) -> str:
    """A regex, usable between slashes in Lark, that matches exactly ``text``."""
    return "".join(char if char.isascii() and char.isalnum() else f"\\u{{{ord(char):x}}}" for char in text)
