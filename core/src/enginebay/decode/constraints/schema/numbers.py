"""Numbers in a schema that the compiler turns into exact regexes. Knows no keyword's meaning.

llguidance writes bounds from doubles: beyond 15 digits or 9 decimals its regexes were found to be off by one in the last digit.
"""

from __future__ import annotations

from decimal import Decimal
from math import lcm, prod

from enginebay.decode.constraints.schema.values import Json, Place
from enginebay.errors import GrammarError

LARGEST = 10**15
_DECIMALS = 9
_STEPS = 10_000


def is_number(value: Json) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def exact(value: int | float, place: Place) -> int | float:
    """``value`` if the compiler is exact for it, an integer where it is one. Raises GrammarError."""
    decimal = Decimal(repr(value)) if isinstance(value, float) else Decimal(value)
    if decimal == decimal.to_integral_value():
        if abs(decimal) <= LARGEST:
            return int(decimal)
    elif abs(decimal) < LARGEST and len(decimal.as_tuple().digits) <= 15 and -_exponent(decimal) <= _DECIMALS:
        return float(value)
    raise GrammarError(f"{place}: {str(value)[:60]} has too many digits to be enforced exactly")


def lower_bound(value: int | float, place: Place) -> int | float:
    """A bound from below: one that is lower than every number that is allowed becomes the lowest of those."""
    return -LARGEST if value < -LARGEST else exact(value, place)


def upper_bound(value: int | float, place: Place) -> int | float:
    """A bound from above, likewise."""
    return LARGEST if value > LARGEST else exact(value, place)


def inward(value: int | float, step: int, place: Place) -> int | float:
    """An exclusive bound as the next number inside that can be written exactly: at most 10^-9 away below 10^6.

    llguidance takes a whole number for allowed that is an exclusive bound, where the other bound is less than 1 away.

    :param step: 1 for a bound from below, -1 for one from above
    """
    decimal = Decimal(repr(value))
    decimals = min(_DECIMALS, 15 - max(0, decimal.adjusted() + 1))
    moved = decimal + step * Decimal(1).scaleb(-decimals)
    return exact(int(moved) if moved == moved.to_integral_value() else float(moved), place)


class Multiples:
    """All ``multipleOf`` of a schema: they may meet in one number, where the compiler takes their least common multiple."""

    def __init__(self) -> None:
        self._seen: set[tuple[int, int]] = set()

    def add(self, value: int | float, place: Place) -> int | float:
        """``value`` if it can be enforced together with those before. Raises GrammarError."""
        if value <= 0:
            raise GrammarError(f"{place}: expected a number above 0, got {value}")
        value = exact(value, place)
        decimal = Decimal(repr(value)).normalize()
        decimals = max(0, -_exponent(decimal))
        mine = (int(decimal.scaleb(decimals)), decimals)
        seen = {*self._seen, mine}
        most = max(decimals for _, decimals in seen)
        scaled = {steps * 10 ** (most - decimals) for steps, decimals in seen}
        together = lcm(*scaled)
        while most and together % 10 == 0:
            together, most = together // 10, most - 1
        # The compiler multiplies 32-bit numbers without looking: their product has to fit.
        fits = prod(scaled) * max(scaled) < 2**32
        if _as_the_compiler_reads(value) != mine or not fits or together > _STEPS:
            raise GrammarError(f"{place}: {value} cannot be enforced, alone or with the others of the schema")
        self._seen = seen
        return value


def _as_the_compiler_reads(value: float) -> tuple[int, int]:
    """The digits and decimals that llguidance finds in a double: it multiplies by ten until nothing is left."""
    value = float(value)
    decimals = 0
    while value % 1 and decimals < 30:
        value *= 10.0
        decimals += 1
    return int(value), decimals


def _exponent(decimal: Decimal) -> int:
    exponent = decimal.as_tuple().exponent
    assert isinstance(exponent, int)
    return exponent
