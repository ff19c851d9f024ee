"""From the tokens of one sequence to its text, piece by piece. It knows no request, no thread and no sampling."""

from __future__ import annotations

import codecs
from collections.abc import Sequence

from enginebay.decode.protocol import Vocabulary


class TextStream:
    """The text of a sequence as its tokens arrive; a pure function of the tokens.

    All that ``push`` and ``finish`` return, joined, is the pieces of all tokens but control ones, decoded as a whole
    (undecodable bytes become U+FFFD) and cut where the first stop string begins. The first one is the one that is
    complete first, and the longest where several end together, so that it does not matter how text falls into tokens.
    """

    def __init__(self, vocabulary: Vocabulary, stop: Sequence[str]) -> None:
        self.stopped: str | None = None
        """The stop string that matched."""
        self._pieces = vocabulary.pieces
        self._control = vocabulary.control
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._stops = tuple((text, _borders(text)) for text in sorted(set(stop), key=len, reverse=True))
        self._first = frozenset(text[0] for text in stop)
        self._matched = [0] * len(self._stops)
        self._held = ""

    def push(self, token: int) -> str:
        """The text that is certain now: whole characters, and nothing that may be the beginning of a stop string."""
        if token in self._control or self.stopped is not None:
            return ""
        return self._release(self._decoder.decode(self._pieces[token]))

    def finish(self) -> str:
        """What was held back; nothing after a stop string matched."""
        if self.stopped is not None:
            return ""
        text = self._release(self._decoder.decode(b"", final=True)) + self._held
        self._held = ""
        return text

    def _release(self, text: str) -> str:
        """Add ``text``; return what no longer can be part of a stop string."""
        if not self._stops or (not self._held and self._first.isdisjoint(text)):
            return text
        whole = self._held + text
        for end, character in enumerate(text, len(self._held) + 1):
            for i, (stop, borders) in enumerate(self._stops):
                matched = self._matched[i]
                while matched and stop[matched] != character:
                    matched = borders[matched - 1]
                if stop[matched] == character:
                    matched += 1
                if matched == len(stop):
                    self.stopped, self._held = stop, ""
                    return whole[: end - matched]
                self._matched[i] = matched
        certain = len(whole) - max(self._matched)
        self._held = whole[certain:]
        return whole[:certain]


def _borders(text: str) -> list[int]:
    """For each prefix, the length of its longest proper prefix that is also its suffix (Knuth, Morris, Pratt 1977)."""
    borders = [0] * len(text)
    length = 0
    for i in range(1, len(text)):
        while length and text[length] != text[i]:
            length = borders[length - 1]
        if text[length] == text[i]:
            length += 1
        borders[i] = length
    return borders
