"""Clauses on what a generation gives back: text, tokens, chunks, counts, ends. Greedy throughout."""

from __future__ import annotations

import math

import attrs
import pytest

from enginebay.data import Choice
from enginebay.model import Model
from enginebay.testing.base import Subject
from enginebay.testing.oracle import text_of

CHARACTERS = "naïve café 日本語 🙂"


class GenerationClauses(Subject):
    """One request at a time."""

    def test_e18_text_is_the_tokens_text(self, opened: Model) -> None:
        """E18 The text of a result is the text of its tokens, end tokens left out.

        Look at incremental detokenization: what is held back must come out in the end.
        """
        result = self.greedy(opened)
        assert result.tokens
        if not self.lacks(opened, "detokenize"):
            assert result.text == text_of(opened, result.tokens)

    def test_e19_stream(self, opened: Model) -> None:
        """E19 The chunks of a stream, joined, are the result; the last one, and no other, says how it ended.

        Look at the first and the last chunk.
        """
        whole = self.greedy(opened)
        stream = opened.stream(self.prompt, temperature=0, max_tokens=self.tokens, ignore_end=True)
        chunks = self.collect(stream)
        assert "".join(chunk.text for chunk in chunks) == whole.text
        assert tuple(token for chunk in chunks for token in chunk.tokens) == whole.tokens
        assert [chunk.finish is not None for chunk in chunks] == [False] * (len(chunks) - 1) + [True]
        assert next(stream, None) is None

    def test_e20_usage_and_timings(self, opened: Model) -> None:
        """E20 Usage counts the tokens of the prompt and of the result; timings are finite and not negative.

        Look at whether an end token, a prefix token or a cached token is counted twice or not at all.
        """
        prompt = opened.prompt_tokens(self.prompt)
        result = self.greedy(opened, prompt)
        assert result.usage.prompt_tokens == len(prompt)
        assert result.usage.completion_tokens == len(result.tokens)
        assert 0 <= result.usage.cached_tokens < len(prompt)
        assert all(0 <= value < math.inf for value in attrs.astuple(result.timings))

    def test_e21_max_tokens(self, opened: Model) -> None:
        """E21 ``max_tokens`` tokens are generated, none more, and the reason is ``length``.

        Look at the count of the first token.
        """
        for most in (1, 2, self.tokens):
            result = self.greedy(opened, max_tokens=most)
            assert len(result.tokens) == most
            assert result.finish_reason == "length"

    def test_e22_prompt_and_generation_agree(self, opened: Model) -> None:
        """E22 A prompt that goes on with what was generated is continued with the same tokens.

        Look at positions: prefill and decode must see the same sequence.
        """
        prompt = opened.prompt_tokens(self.prompt)
        whole = self.greedy(opened, prompt).tokens
        for split in (1, len(whole) // 2):
            longer = (*prompt, *whole[:split])
            for cached in (True, False):
                rest = self.greedy(opened, longer, max_tokens=len(whole) - split, cache_prompt=cached).tokens
                assert rest == whole[split:], f"after {split} tokens, cache_prompt={cached}"

    def test_e23_characters_stay_whole(self, opened: Model) -> None:
        """E23 A stream never splits a character between chunks.

        Look at tokens that are part of a character: their text must wait for the rest.
        """
        if self.lacks(opened, "grammar"):
            pytest.skip("without constraints the kit cannot choose what is generated")
        stream = opened.stream(self.prompt, constraint=Choice((CHARACTERS,)), temperature=0, max_tokens=100)
        chunks = self.collect(stream)
        assert "".join(chunk.text for chunk in chunks) == CHARACTERS
        assert all("\ufffd" not in chunk.text for chunk in chunks)

    def test_e24_end_token(self, opened: Model) -> None:
        """E24 An end token ends generation with ``stop`` and is no text.

        Look at which tokens end generation, and at what detokenization makes of them.
        """
        for end in sorted(opened.info.end_tokens)[:4]:
            result = self.greedy(opened, ignore_end=False, logit_bias={end: 1e6})
            assert (result.tokens, result.text, result.finish_reason) == ((end,), "", "stop")

    def test_e25_ignore_end(self, opened: Model) -> None:
        """E25 With ``ignore_end`` no end token is drawn, however likely it is.

        Look at the order of the logit bias and the mask of end tokens.
        """
        result = self.greedy(opened, logit_bias=dict.fromkeys(opened.info.end_tokens, 1e6))
        assert not opened.info.end_tokens.intersection(result.tokens)
        assert (len(result.tokens), result.finish_reason) == (self.tokens, "length")
