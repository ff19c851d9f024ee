"""Checks and copies a schema as plain JSON, before anything recurses into it. Knows no keyword."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, TypeAlias

from attrs import frozen

from enginebay.decode.constraints.limits import Limits
from enginebay.errors import GrammarError

Json: TypeAlias = Any
"""None, bool, int, float, str, list or dict with string keys, all the way down."""


@frozen
class Place:
    """Where in a schema something is, as a JSON pointer."""

    pointer: str = ""

    def __truediv__(self, part: str | int) -> Place:
        return Place(f"{self.pointer}/{str(part).replace('~', '~0').replace('/', '~1')}")

    def __str__(self) -> str:
        return "#" + self.pointer


def plain(value: object, limits: Limits) -> Json:
    """A copy of ``value`` out of plain dicts and lists. Raises GrammarError: not JSON, too deep or too large."""
    count = text = 0

    def check_text(value: str, place: Place) -> None:
        nonlocal text
        text += len(value)
        limits.check("characters", text, limits.source_bytes)
        try:
            value.encode()
        except UnicodeEncodeError:
            raise GrammarError(f"{place}: half of a surrogate pair is not text") from None

    def copy(value: object, depth: int, place: Place) -> Json:
        nonlocal count
        count += 1
        limits.check("JSON values", count, limits.schema_nodes)
        limits.check("levels of JSON", depth, limits.schema_depth)
        match value:
            case None | bool():
                return value
            case int():
                # Beyond this many digits Python itself refuses to write an integer down.
                if abs(value) >= 10**4000:
                    raise GrammarError(f"{place}: the integer has more than 4,000 digits")
                return value
            case str():
                check_text(value, place)
                return value
            case float():
                if not math.isfinite(value):
                    raise GrammarError(f"{place}: {value} is not a JSON number")
                return value
            case Mapping():
                out: dict[str, Json] = {}
                for key, item in value.items():
                    if not isinstance(key, str):
                        raise GrammarError(f"{place}: the key {key!r} is not a string")
                    check_text(key, place)
                    out[key] = copy(item, depth + 1, place / key)
                return out
            case list() | tuple():
                return [copy(item, depth + 1, place / index) for index, item in enumerate(value)]
            case _:
                raise GrammarError(f"{place}: {type(value).__name__} is not a JSON value")

    return copy(value, 0, Place())
