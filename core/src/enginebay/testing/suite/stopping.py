"""Clauses on stop strings. Plain string search on the unstopped text is the judge."""

from __future__ import annotations

import pytest

from enginebay.model import Model
from enginebay.testing.base import Subject


class StopClauses(Subject):
    """Stop strings, alone and several, whole and split over tokens."""

    def test_e33_stop_string(self, opened: Model) -> None:
        """E33 A stop string ends the text right before its first occurrence, and the result names it.

        Look at whether the stop string itself, or what its last token holds beyond it, is given out.
        """
        whole = self._text(opened)
        for stop in (whole[len(whole) // 2], whole[len(whole) // 2 :][:3]):
            result = self.greedy(opened, stop=[stop])
            assert result.text == whole[: whole.index(stop)]
            assert (result.finish_reason, result.stop) == ("stop", stop)

    def test_e34_stop_across_chunks(self, opened: Model) -> None:
        """E34 A stop string that spans tokens never shows in a stream, and the earliest of several wins.

        Look at how much text is held back while it may still become a stop string.
        """
        whole = self._text(opened)
        middle = len(whole) // 2
        long, late = whole[middle - 3 : middle + 4], whole[-2:]
        stops = [late, long, "never \x00 there"]
        shown = ""
        for chunk in self.collect(
            opened.stream(self.prompt, temperature=0, max_tokens=self.tokens, ignore_end=True, stop=stops)
        ):
            shown += chunk.text
            assert whole.startswith(shown)
        earliest = min(whole.index(stop) for stop in (long, late))
        assert shown == whole[:earliest]

    def test_e35_stop_that_never_comes(self, opened: Model) -> None:
        """E35 A stop string that does not occur changes nothing, though the text ends with its beginning.

        Look at what was held back when generation ended.
        """
        whole = self._text(opened)
        result = self.greedy(opened, stop=[whole[-1] + "\x00 and more", "\x00"])
        assert (result.text, result.finish_reason, result.stop) == (whole, "length", None)

    def _text(self, opened: Model) -> str:
        text = self.greedy(opened).text
        if len(text) < 8:
            pytest.skip("the model generates too little text for this prompt")
        return text
