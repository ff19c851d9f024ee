r"""Turns a pattern of JSON Schema into a regex in Rust's syntax that matches the whole string. Knows no schema.

A pattern is ECMA-262 (https://json-schema.org/draft/2020-12/json-schema-core#section-6.4) and may match anywhere. Validators read
it with their own library, and those differ in ``\d``, ``\w``, ``\s``, ``.`` and ``$``: where they do, the narrower meaning is
written, so that what is accepted is valid for all of them. What has no such meaning is refused.
"""

from __future__ import annotations

import re

from enginebay.decode.constraints.limits import Limits
from enginebay.errors import GrammarError

_SPACE = "\\u{9}-\\u{d}\\u{20}\\u{a0}\\u{1680}\\u{2000}-\\u{200a}\\u{2028}\\u{2029}\\u{202f}\\u{205f}\\u{3000}"
_SHORTHAND = {"d": "0-9", "w": "0-9A-Za-z_", "s": _SPACE}
_WIDER = {"d": "\\p{Nd}\\p{Cn}", "w": "\\p{L}\\p{N}\\p{M}\\p{Cn}_", "s": _SPACE + "\\u{1c}-\\u{1f}\\u{85}\\u{feff}"}
"""What some library takes for a digit, a letter or a space: the complement is what none takes for one."""

_CONTROL = {"t": 9, "n": 10, "v": 11, "f": 12, "r": 13, "0": 0}
_WRITABLE = frozenset(map(ord, "\b\t\n\f\r"))
_ANYTHING = "(?s:.*)"
_DOT = "[^\\n\\r\\u{2028}\\u{2029}]"

_COUNT = re.compile(r"\{(\d+)(?:(,)(\d*))?\}")
_AMBIGUOUS_COUNT = re.compile(r"\{\s*,?\s*\d")
_CODE = re.compile(r"x([0-9A-Fa-f]{2})|u([0-9A-Fa-f]{4})|u\{([0-9A-Fa-f]{1,6})\}")
_LOW_SURROGATE = re.compile(r"\\u(D[C-Fc-f][0-9A-Fa-f]{2})", re.IGNORECASE)
_GROUP_NAME = re.compile(r"\?(?::|P?<[A-Za-z_]\w*>)")
_PROPERTY = re.compile(r"[pP]\{[A-Za-z_]+(?:=[A-Za-z_]+)?\}")


def whole_match(pattern: str, limits: Limits) -> str:
    """A regex that, anchored at both ends, matches the strings in which ``pattern`` matches somewhere.

    :raises GrammarError: the pattern is malformed, over a limit, or has a part that cannot be enforced
    """
    return _Translator(pattern, limits).translate()


class _Translator:
    def __init__(self, pattern: str, limits: Limits) -> None:
        self._text = pattern
        self._at = 0
        self._depth = 0
        self._limits = limits
        self._closing = _matching_parentheses(pattern)

    def translate(self) -> str:
        out = self._alternatives(at_start=True, may_end=True)
        if self._at < len(self._text):
            raise self._error("')' without '('")
        return out

    def _alternatives(self, at_start: bool, may_end: bool) -> str:
        """Alternatives up to a ')' or the end.

        :param at_start: whether nothing stands before: text may then precede the match, unless there is a '^'
        :param may_end: whether nothing can stand behind, likewise for '$'
        """
        options = [self._sequence(at_start, may_end)]
        while self._peek() == "|":
            self._at += 1
            options.append(self._sequence(at_start, may_end))
        return "|".join(options)

    def _sequence(self, at_start: bool, may_end: bool) -> str:
        out: list[str] = []
        open_start = at_start
        open_end = may_end
        while self._peek() not in ("", "|", ")"):
            if self._peek() == "^":
                self._anchor("^", at_start and not out)
                open_start = False
            elif self._peek() == "$":
                self._at += 1
                if not may_end or self._peek() not in ("", "|", ")"):
                    raise self._error("'$' is only possible at the end", back=1)
                open_end = False
            elif self._peek() == "(" and not out and at_start and may_end and self._group_is_all():
                # A group that is a whole alternative may hold anchors of its own.
                return self._group(open_start, may_end)
            else:
                out.append(self._item())
        body = "".join(out)
        return (_ANYTHING if open_start else "") + body + (_ANYTHING if open_end else "")

    def _anchor(self, char: str, possible: bool) -> None:
        if not possible:
            raise self._error(f"'{char}' is only possible at the beginning")
        self._at += 1

    def _group_is_all(self) -> bool:
        """Whether the group that begins here ends its alternative and is not repeated."""
        end = self._closing.get(self._at)
        return end is not None and self._text[end + 1 : end + 2] in ("", "|", ")")

    def _item(self) -> str:
        char = self._peek()
        if char == "(":
            atom = self._group(at_start=False, may_end=False)
        elif char == "[":
            atom = self._class()
        elif char == ".":
            self._at += 1
            atom = _DOT
        elif char == "\\":
            atom = self._escape()
        elif char in "*+?" or (char == "{" and _COUNT.match(self._text, self._at)):
            raise self._error(f"nothing to repeat before '{char}'")
        elif char == "{" and _AMBIGUOUS_COUNT.match(self._text, self._at):
            raise self._error("'{' is read differently by different libraries here: write '\\{'")
        else:
            self._at += 1
            atom = self._one(ord(char))
        return atom + self._quantifier()

    def _quantifier(self) -> str:
        char = self._peek()
        count = _COUNT.match(self._text, self._at)
        if char != "" and char in "*+?":
            self._at += 1
            out = char
        elif count:
            self._at = count.end()
            low, comma, high = count.groups()
            if max(len(low), len(high or "")) > 9:
                raise self._error("the repetition is too large")
            self._limits.check("repetitions in a pattern", max(int(low), int(high or 0)), self._limits.repetitions)
            if high and int(high) < int(low):
                raise self._error("the repetition has its maximum below its minimum")
            out = f"{{{low}{comma or ''}{high or ''}}}"
        else:
            return ""
        if self._peek() == "?":  # lazy: another way to search, the same strings
            self._at += 1
        if self._peek() in ("*", "+", "?") or _COUNT.match(self._text, self._at):
            raise self._error("a repetition cannot be repeated")
        return out

    def _group(self, at_start: bool, may_end: bool) -> str:
        start = self._at
        self._at += 1
        self._depth += 1
        self._limits.check("nested groups in a pattern", self._depth, self._limits.nesting)
        if self._peek() == "?":
            named = _GROUP_NAME.match(self._text, self._at)
            if not named:
                raise self._error("look-around and flags cannot be enforced", back=1)
            self._at = named.end()
        body = self._alternatives(at_start, may_end)
        if self._peek() != ")":
            self._at = start
            raise self._error("'(' without ')'")
        self._at += 1
        self._depth -= 1
        return f"(?:{body})"

    def _class(self) -> str:
        self._at += 1
        negated = self._peek() == "^"
        self._at += negated
        if self._peek() == "]":
            raise self._error("an empty class is read differently by different libraries")
        parts: list[str] = []
        while self._peek() != "]":
            low = self._class_atom(negated)
            if self._peek() == "-" and self._text[self._at + 1 : self._at + 2] not in ("]", ""):
                self._at += 1
                high = self._class_atom(negated)
                if not isinstance(low, int) or not isinstance(high, int) or high < low:
                    raise self._error("the range in the class is not from a lower to a higher character")
                parts.append(f"{_literal(low)}-{_literal(high)}")
            else:
                parts.append(_literal(low) if isinstance(low, int) else low)
        self._at += 1
        return f"[{'^' if negated else ''}{''.join(parts)}]"

    def _class_atom(self, negated: bool) -> int | str:
        char = self._peek()
        if char == "":
            raise self._error("'[' without ']'")
        self._at += 1
        if char != "\\":
            return ord(char)
        letter = self._peek()
        if letter in _SHORTHAND:
            self._at += 1
            return _WIDER[letter] if negated else _SHORTHAND[letter]
        if letter and letter in "DWS":
            self._at += 1
            return f"[^{_SHORTHAND[letter.lower()] if negated else _WIDER[letter.lower()]}]"
        if letter == "b":
            self._at += 1
            return 8
        return self._code_point_or_property()

    def _escape(self) -> str:
        self._at += 1
        letter = self._peek()
        if letter in _SHORTHAND:
            self._at += 1
            return f"[{_SHORTHAND[letter]}]"
        if letter and letter in "DWS":
            self._at += 1
            return f"[^{_WIDER[letter.lower()]}]"
        if letter and letter in "bBk123456789":
            raise self._error("word boundaries and back references cannot be enforced", back=1)
        atom = self._code_point_or_property()
        return atom if isinstance(atom, str) else self._one(atom)

    def _one(self, code: int) -> str:
        if code not in _WRITABLE and (code < 32 or code == 127):
            raise self._error("a control character that only '\\u' can write cannot be enforced")
        return _literal(code)

    def _code_point_or_property(self) -> int | str:
        """What follows a backslash: a code point, or a Unicode property as Rust writes it."""
        if found := _PROPERTY.match(self._text, self._at):
            self._at = found.end()
            return "\\" + found[0]
        if found := _CODE.match(self._text, self._at):
            self._at = found.end()
            return self._joined(int(next(filter(None, found.groups())), 16))
        letter, after = self._peek(), self._text[self._at + 1 : self._at + 2]
        if letter == "c" and after.isascii() and after.isalpha():
            self._at += 2
            return ord(after) % 32
        if letter in _CONTROL and not (letter == "0" and after.isdigit()):
            self._at += 1
            return _CONTROL[letter]
        if letter and not letter.isalnum() and letter.isascii():
            self._at += 1
            return ord(letter)
        raise self._error(f"the escape '\\{letter}' has no meaning here", back=1)

    def _joined(self, code: int) -> int:
        r"""A code point, from a surrogate pair as well (``\ud83d\ude00``)."""
        if 0xD800 <= code < 0xDC00 and (low := _LOW_SURROGATE.match(self._text, self._at)):
            self._at += 6
            return 0x10000 + ((code - 0xD800) << 10) + int(low[1], 16) - 0xDC00
        if 0xD800 <= code < 0xE000 or code > 0x10FFFF:
            raise self._error("half of a surrogate pair, or no character at all")
        return code

    def _peek(self) -> str:
        return self._text[self._at : self._at + 1]

    def _error(self, message: str, back: int = 0) -> GrammarError:
        return GrammarError(f"pattern {self._text[:200]!r}, character {self._at - back}: {message}")


def _matching_parentheses(pattern: str) -> dict[int, int]:
    """Where each group that is closed ends."""
    out: dict[int, int] = {}
    opened: list[int] = []
    in_class = escaped = False
    for index, char in enumerate(pattern):
        if escaped or char == "\\":
            escaped = not escaped
        elif in_class:
            in_class = char != "]"
        elif char == "[":
            in_class = True
        elif char == "(":
            opened.append(index)
        elif char == ")" and opened:
            out[opened.pop()] = index
    return out


def _literal(code: int) -> str:
    char = chr(code)
    return char if char.isascii() and char.isalnum() else f"\\u{{{code:x}}}"
