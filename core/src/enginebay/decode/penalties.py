"""Penalties for tokens that the sequence has already, and the caller's bias. They see tokens and one row of logits."""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from enginebay.data import Sampling
from enginebay.decode.draw import Floats

_MOST = 1e6


class RepeatPenalties:
    """Repeat, frequency and presence penalties over the last tokens, as llama.cpp has them.

    A positive logit of a token seen in the window is divided by ``repeat_penalty`` and any other multiplied with it
    (Keskar et al., "CTRL", 2019, with llama.cpp's change for negative logits); then ``frequency_penalty`` is taken off
    for each time that it was seen, and ``presence_penalty`` once.
    """

    def __init__(self, sampling: Sampling, tokens: Sequence[int]) -> None:
        window = sampling.repeat_window_tokens
        self._repeat = sampling.repeat_penalty
        self._frequency = sampling.frequency_penalty
        self._presence = sampling.presence_penalty
        self._recent = deque(tokens[-window:], window) if window else None
        # Distinct tokens and their counts lie side by side in two arrays, so that a step needs no loop over them.
        counted = Counter(tokens if self._recent is None else self._recent)
        self._slots = {token: i for i, token in enumerate(counted)}
        self._tokens = np.array([*counted, *[0] * 64], np.intp)
        self._counts = np.array([*counted.values(), *[0] * 64], np.float32)

    @staticmethod
    def wanted(sampling: Sampling) -> bool:
        return sampling.repeat_penalty != 1 or sampling.frequency_penalty != 0 or sampling.presence_penalty != 0

    def accept(self, token: int) -> None:
        if self._recent is not None:
            if len(self._recent) == self._recent.maxlen:
                self._forget(self._recent[0])
            self._recent.append(token)
        slot = self._slots.setdefault(token, len(self._slots))
        if slot == len(self._tokens):
            self._tokens = np.concatenate([self._tokens, np.zeros_like(self._tokens)])
            self._counts = np.concatenate([self._counts, np.zeros_like(self._counts)])
        self._tokens[slot] = token
        self._counts[slot] += 1

    def _forget(self, token: int) -> None:
        slot = self._slots[token]
        self._counts[slot] -= 1
        if self._counts[slot] == 0:
            last = len(self._slots) - 1
            del self._slots[token]
            if slot != last:
                moved = int(self._tokens[last])
                self._tokens[slot], self._counts[slot], self._slots[moved] = moved, self._counts[last], slot
            self._counts[last] = 0

    def apply(self, row: Floats) -> None:
        n = len(self._slots)
        tokens = self._tokens[:n]
        logits = row[tokens]
        logits = np.where(logits > 0, logits / np.float32(self._repeat), logits * np.float32(self._repeat))
        row[tokens] = logits - (self._counts[:n] * np.float32(self._frequency) + np.float32(self._presence))


class Dry:
    """The "don't repeat yourself" penalty for a token that would prolong a repetition, as llama.cpp has it.

    If the last ``n`` tokens stand in the window before, with a token after them, then that token's logit loses
    ``multiplier * base ** (n - allowed)``, for the longest such ``n`` from ``allowed`` on, and at most a million. The
    method has no paper; it is that of text-generation-webui, where it comes from.
    """

    def __init__(self, sampling: Sampling, tokens: Sequence[int]) -> None:
        self._sampling = sampling
        self._n = len(tokens)
        self._tokens = np.array([*tokens, *[0] * 64], np.intp)
        exponent = 0.0
        if sampling.dry_base > 1:
            exponent = max(0.0, math.log(_MOST / sampling.dry_multiplier) / math.log(sampling.dry_base))
        self._longest = sampling.dry_allowed_tokens + min(1000, math.ceil(exponent))

    @staticmethod
    def wanted(sampling: Sampling) -> bool:
        return sampling.dry_multiplier > 0

    def accept(self, token: int) -> None:
        if self._n == len(self._tokens):
            self._tokens = np.concatenate([self._tokens, np.zeros_like(self._tokens)])
        self._tokens[self._n] = token
        self._n += 1

    def apply(self, row: Floats) -> None:
        settings = self._sampling
        window = settings.dry_window_tokens or self._n
        tokens = self._tokens[max(0, self._n - window) : self._n]
        lengths = np.zeros(len(tokens), np.intp)
        ends = np.arange(len(tokens) - 1)
        for length in range(1, min(self._longest, len(tokens)) + 1):
            last = tokens[-length]
            ends = ends[ends >= length - 1]
            ends = ends[tokens[ends - (length - 1)] == last]
            if ends.size == 0 or int(last) in settings.dry_breakers:
                break
            lengths[ends] = length
        ends = np.flatnonzero(lengths >= settings.dry_allowed_tokens)
        if ends.size:
            following, places = np.unique(tokens[ends + 1], return_inverse=True)
            longest = np.zeros(len(following), np.intp)
            np.maximum.at(longest, places, lengths[ends])
            grown = settings.dry_base ** (longest - settings.dry_allowed_tokens).astype(np.float64)
            row[following] -= np.minimum(settings.dry_multiplier * grown, _MOST).astype(np.float32)


class Bias:
    """A number that is added to the logit of each of some tokens."""

    def __init__(self, bias: Mapping[int, float]) -> None:
        self.highest = max(bias)
        self._tokens = np.array([*bias], np.intp)
        self._values: npt.NDArray[np.float32] = np.array([*bias.values()], np.float32)

    def apply(self, row: Floats) -> None:
        row[self._tokens] += self._values
