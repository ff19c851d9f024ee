"""Clauses on how tokens are drawn. The reported log-probabilities, and arithmetic on them, are the judge."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pytest

from enginebay.errors import Unsupported
from enginebay.model import Model
from enginebay.testing.base import Subject, refused
from enginebay.testing.oracle import Ranked, clear_cut, penalised, softmax, unlikely_counts

OPEN: Mapping[str, Any] = {"top_k": 0, "top_p": 1.0, "min_p": 0.0}


class SamplingClauses(Subject):
    """Determinism, filters, biases, penalties, log-probabilities."""

    def test_e26_greedy(self, opened: Model) -> None:
        """E26 Temperature 0 draws the likeliest token, every time, whatever the seed.

        Look at ties, and at a default temperature or penalty that is applied as well.
        """
        first = self.greedy(opened, seed=1)
        assert self.greedy(opened, seed=2).tokens == first.tokens
        if not self.lacks(opened, "logprobs"):
            for entry in self.greedy(opened, logprobs=5).logprobs:
                likeliest = [pair for pair in entry.top if pair[0] not in opened.info.end_tokens]
                assert entry.logprob >= likeliest[0][1] - 1e-4, f"{likeliest[0][0]} is likelier than {entry.token}"

    def test_e27_seed(self, opened: Model) -> None:
        """E27 A seed repeats its tokens, other seeds give others, and the result tells the seed that was used.

        Look for state that outlives a request.
        """
        if self.lacks(opened, "seed"):
            pytest.skip("the engine does not declare seeds")
        by_seed = {seed: self.drawn(opened, seed=seed).tokens for seed in range(8)}
        assert len(set(by_seed.values())) > 1, "eight seeds gave the same tokens"
        assert all(self.drawn(opened, seed=seed).tokens == tokens for seed, tokens in by_seed.items())
        unseeded = self.drawn(opened, seed=None)
        assert self.drawn(opened, seed=unseeded.seed).tokens == unseeded.tokens

    def test_e28_filters(self, opened: Model) -> None:
        """E28 ``top_k``, ``top_p`` and ``min_p`` leave exactly the tokens that the probabilities say.

        Look at the order of filters and temperature, and at what each compares with.
        """
        prompt, ranked, kept = self._ranked(opened)
        nucleus = sum(math.exp(logprob) for _, logprob in ranked[: kept - 1]) + math.exp(ranked[kept - 1][1]) / 2
        ratio = math.exp((ranked[kept - 1][1] + ranked[kept][1]) / 2 - ranked[0][1])
        allowed = {token for token, _ in ranked[:kept]}
        for only in ({"top_k": kept}, {"top_p": nucleus}, {"min_p": ratio}):
            seen = set(self._draws(opened, prompt, temperature=20.0, **{**OPEN, **only}))
            assert seen <= allowed, f"{only} let {seen - allowed} through"
            assert len(seen) > 1, f"{only} left one token of {kept}"
        assert self.drawn(opened, top_k=1).tokens == self.greedy(opened).tokens

    def test_e29_distribution(self, opened: Model) -> None:
        """E29 Drawn tokens follow the softmax of the logits over the temperature.

        Look at where the temperature is applied, and at how uniform the random numbers are.
        """
        prompt, ranked, kept = self._ranked(opened)
        for temperature in (0.7, 3.0):
            drawn = self._draws(opened, prompt, temperature=temperature, **{**OPEN, "top_k": kept})
            strange = unlikely_counts(drawn, softmax(ranked[:kept], temperature))
            assert not strange, f"at temperature {temperature}, token: (times, expected): {strange}"

    def test_e30_logit_bias(self, opened: Model) -> None:
        """E30 A logit bias makes a token certain, or keeps it out.

        Look at whether it is added before the filters.
        """
        plain = self.greedy(opened, max_tokens=1).tokens[0]
        other = next(t for t in opened.tokenize("zebra", special=False) if t != plain)
        forced = self.drawn(opened, max_tokens=3, logit_bias={other: 1e6})
        assert forced.tokens == (other,) * 3
        assert self.greedy(opened, max_tokens=1, logit_bias={plain: -1e6}).tokens[0] != plain

    def test_e31_penalties(self, opened: Model) -> None:
        """E31 Frequency and presence penalties lower the logits of tokens that the prompt and the result hold already.

        Look at the window, and at whether the prompt and every generated token are counted.
        """
        if self.lacks(opened, "logprobs"):
            pytest.skip("without log-probabilities the kit cannot compute the penalised logits")
        prompt = opened.prompt_tokens(f"{self.prompt} {self.prompt}")
        frequency, presence, window = 1.5, 0.5, 12
        result = self.greedy(
            opened,
            prompt,
            logprobs=100,
            frequency_penalty=frequency,
            presence_penalty=presence,
            repeat_window_tokens=window,
        )
        for i, entry in enumerate(result.logprobs):
            before = (*prompt, *result.tokens[:i])[-window:]
            scores = penalised(entry, before, frequency, presence)
            best = max(score for token, score in scores.items() if token not in opened.info.end_tokens)
            assert entry.token in scores, "a token was drawn that is not among the hundred likeliest"
            assert scores[entry.token] >= best - 1e-3, f"token {i} is not the best after penalties"

    def test_e32_logprobs(self, opened: Model) -> None:
        """E32 Log-probabilities are those of the unmodified logits, best first, for every token.

        Look at whether temperature, bias, penalties or filters come before them.
        """
        if self.lacks(opened, "logprobs"):
            with refused(Unsupported):
                self.greedy(opened, logprobs=1)
            return
        plain = self.greedy(opened, logprobs=10)
        assert [entry.token for entry in plain.logprobs] == list(plain.tokens)
        for entry in plain.logprobs:
            values = [logprob for _, logprob in entry.top]
            assert len(values) == 10
            assert values == sorted(values, reverse=True)
            assert sum(map(math.exp, values)) <= 1 + 1e-3
            assert dict(entry.top).get(entry.token, entry.logprob) == pytest.approx(entry.logprob, abs=1e-4)
        bent = self.drawn(opened, logprobs=10, max_tokens=1, logit_bias={plain.tokens[0]: -5.0}, repeat_penalty=1.5)
        assert dict(bent.logprobs[0].top) == pytest.approx(dict(plain.logprobs[0].top), abs=1e-3)
        assert all(entry.top == () for entry in self.greedy(opened, logprobs=0).logprobs)
        assert self.greedy(opened).logprobs == ()

    def _ranked(self, opened: Model) -> tuple[str, Ranked, int]:
        """A prompt, its likeliest first tokens, and how many of them stand clearly before the rest."""
        if self.lacks(opened, "logprobs"):
            pytest.skip("without log-probabilities the kit cannot compute what to expect")
        most = min(100, opened.info.vocabulary_tokens)
        for prompt in (self.prompt, "The", "I have a", "1 2 3", "\n"):
            top = self.greedy(opened, prompt, max_tokens=1, logprobs=most, ignore_end=False).logprobs[0].top
            kept = clear_cut(top)
            if kept:
                return prompt, top, kept
        raise AssertionError("no prompt has several likely tokens: give the test class another prompt")

    def _draws(self, opened: Model, prompt: str, **options: Any) -> list[int]:
        """First tokens of many draws."""
        drawn = self.within(lambda: opened.choices(prompt, self.draws, max_tokens=1, seed=0, **options))
        return [result.tokens[0] for result in drawn]
