"""Draws names, cities, numbers and words: listed ones, random ones, or the held-out ones that training never sees.

It knows nothing about sentences, chat or models.
"""

from __future__ import annotations

import random
import re
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

WORDS = tomllib.loads((Path(__file__).parent / "words.toml").read_text())

_HELD_OUT = re.compile(
    r"(?<!\w)(?:" + "|".join(map(re.escape, (*WORDS["unseen_names"], *WORDS["unseen_cities"]))) + r")(?!\w)"
)
_DIGITS = re.compile(r"\d+")


def held_out_number(value: int) -> bool:
    """Whether a number is kept out of the training text: one in eleven of those with two digits or more."""
    return value >= 10 and value % 11 == 5


def held_out_text(text: str) -> str | None:
    """The first held-out name, city or number in ``text``, or None."""
    found = _HELD_OUT.search(text)
    if found:
        return found.group()
    return next((digits for digits in _DIGITS.findall(text) if held_out_number(int(digits))), None)


class Writer:
    """Draws values: a share ``listed`` from the lists, the rest at random; or, when ``unseen``, held-out ones only."""

    def __init__(self, random_source: random.Random, unseen: bool = False, listed: float = 0.35) -> None:
        self.random = random_source
        self.unseen = unseen
        self.listed = 1.0 if unseen else listed

    def chance(self, probability: float) -> bool:
        return self.random.random() < probability

    def choose(self, options: Sequence[Any]) -> Any:
        return self.random.choice(options)

    def word(self) -> str:
        """A random lower-case word: one to four syllables, or letters in any order, some of them accented."""
        if self.chance(0.25):
            word = "".join(self.choose("abcdefghijklmnopqrstuvwxyz") for _ in range(self.random.randint(2, 10)))
        else:
            word = "".join(self._syllable(first=place == 0) for place in range(self.random.randint(1, 4)))
        if self.chance(0.12):
            word = "".join(self.choose(WORDS["accented"]) if self.chance(0.25) else letter for letter in word)
        return word

    def _syllable(self, first: bool) -> str:
        onset = self.choose(WORDS["onsets"]) if not first or self.chance(0.8) else ""
        vowel = self.choose(WORDS["vowels"])
        return f"{onset}{vowel}{self.choose(WORDS['ends']) if self.chance(0.4) else ''}"

    def proper(self) -> str:
        """A random proper noun: capitalised, sometimes hyphenated, of several words, or with an apostrophe."""
        shape = self.random.random()
        word = self.word().capitalize()
        if shape < 0.07:
            return f"{word}-{self.word().capitalize()}"
        if shape < 0.2:
            return f"{word} {self.word().capitalize()}"
        if shape < 0.24:
            return " ".join((word, self.choose(("de", "del", "of", "am", "la", "van")), self.word().capitalize()))
        if shape < 0.26:
            return f"{word}-{self.choose(('en', 'sur', 'le', 'aux'))}-{self.word().capitalize()}"
        if shape < 0.28:
            return str(self.choose(("O'", "D'", "Mc", "St. ", "San ", "Port ", "New ", "Saint-"))) + word
        if shape < 0.31:
            return word.upper() if self.chance(0.4) else word.lower()
        if shape < 0.33:
            return f"{word} {self.word().capitalize()} {self.word().capitalize()}"
        return word

    def name(self) -> str:
        if self.unseen:
            return str(self.choose(WORDS["unseen_names"]))
        return str(self.choose(WORDS["names"])) if self.chance(self.listed) else self.proper()

    def city(self) -> str:
        if self.unseen:
            return str(self.choose(WORDS["unseen_cities"]))
        return str(self.choose(WORDS["cities"])) if self.chance(self.listed) else self.proper()

    def number(self, low: int, high: int) -> int:
        """A number of ``low`` to ``high``, held out exactly when this writer is ``unseen``."""
        while True:
            value = self.random.randint(low, high)
            if held_out_number(value) == self.unseen:
                return value

    def age(self) -> int:
        return self.number(10, 99) if self.unseen or self.chance(0.9) else self.number(1, 9999)

    def addend(self) -> str:
        """A number as it is written: of one to nine digits, sometimes negative or with a decimal."""
        digits = self.random.randint(2, 6) if self.unseen or self.chance(0.8) else self.random.randint(1, 9)
        value = str(self.number(10 ** (digits - 1), 10**digits - 1))
        if self.unseen or self.chance(0.88):
            return value
        return str(self.choose((f"-{value}", f"{value}.{self.random.randint(1, 9)}")))

    def listed_or_word(self, options: Sequence[str]) -> str:
        return str(self.choose(options)) if self.listed == 1.0 or self.chance(0.8) else self.word()
