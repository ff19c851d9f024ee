"""Clauses on limits: long prompts, a full context, unknown tokens. What does not fit is refused and harms nothing."""

from __future__ import annotations

from typing import Any

from enginebay.errors import ContextOverflow, RequestError, Unsupported
from enginebay.model import Model
from enginebay.testing.base import Subject, refused, usable


class LimitClauses(Subject):
    """Requests at and beyond the edge."""

    def test_e44_prompt_too_long(self, opened: Model) -> None:
        """E44 A prompt longer than the context is refused with context_overflow; nothing is cut off silently.

        Look at the check before the prompt is computed. A prompt that just fits must work.
        """
        room = opened.info.context_tokens
        for length in (room, room + 1, 2 * room):
            with refused(ContextOverflow):
                self.greedy(opened, self.long_prompt(opened, length))
        fits = self.greedy(opened, self.long_prompt(opened, room - 1), max_tokens=1)
        assert fits.usage.prompt_tokens == room - 1
        assert len(fits.tokens) == 1

    def test_e45_context_fills_up(self, opened: Model) -> None:
        """E45 Without ``max_tokens`` a generation ends with ``length`` when the context is full.

        Look at the count of positions: prompt and result together never exceed the context.
        """
        room = opened.info.context_tokens
        result = self.greedy(opened, self.long_prompt(opened, room - 8), max_tokens=None)
        assert result.finish_reason == "length"
        assert 1 <= len(result.tokens) <= 8

    def test_e46_unknown_tokens(self, opened: Model) -> None:
        """E46 Token ids outside the vocabulary are refused, in the prompt, in ``logit_bias`` and in ``resume``.

        Look at the range check before native code indexes with them.
        """
        prompt = opened.prompt_tokens(self.prompt)
        for wrong in (-1, opened.info.vocabulary_tokens, 2**40):
            with refused(RequestError):
                self.greedy(opened, (*prompt, wrong))
            with refused(RequestError):
                self.greedy(opened, prompt, logit_bias={wrong: 1.0})
            with refused(RequestError):
                self.greedy(opened, prompt, resume=[wrong])
        usable(opened)

    def test_e47_empty_prompt(self, opened: Model) -> None:
        """E47 A prompt without tokens is refused.

        Look at what the first step would be fed.
        """
        with refused(RequestError):
            self.greedy(opened, ())
        usable(opened)

    def test_e48_context_shift(self) -> None:
        """E48 With ``context="shift"`` a generation goes past the context and tells how many tokens left it.

        Look at ``keep_tokens``, and at whether shifting is declared as a capability.
        """
        with self.open(context_tokens=64) as model:
            options: dict[str, Any] = {"context": "shift", "keep_tokens": 8, "max_tokens": 100}
            if self.lacks(model, "context_shift"):
                with refused(Unsupported):
                    self.greedy(model, **options)
                return
            result = self.greedy(model, **options)
            assert (len(result.tokens), result.finish_reason) == (100, "length")
            assert result.shifted_tokens >= result.usage.prompt_tokens + 100 - 64
            assert self.greedy(model, **options).tokens == result.tokens
