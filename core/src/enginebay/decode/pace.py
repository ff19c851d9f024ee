"""How much of waiting prompts a step carries beside the tokens of others. It knows no job, no cache and no engine.

Processor sharing: a step that also computes prompts gives each prompt as much time as the step would take without any. So one
long prompt makes others' tokens come at most half as fast, however long it is, and eight prompts that arrive together do
not wait for the first of them to be answered.
"""

from __future__ import annotations

_ORDINARY_WEIGHT = 0.1
_COST_WEIGHT = 0.3


class Pace:
    """Learns what steps cost, and says how many tokens of prompts the next one may have."""

    def __init__(self, step_tokens: int) -> None:
        self._step_tokens = step_tokens
        self._ordinary: dict[int, float] = {}
        """Seconds of a step without prompts, by the number of its sequences."""
        self._cost: float | None = None
        """Seconds that a token of a prompt adds to a step of others, at the sizes that were used last."""
        self._mixed = False

    def allowance(self, decoding: int, prompts: int) -> int:
        """Tokens of ``prompts`` waiting prompts for a step that decodes ``decoding`` sequences.

        Zero only until an ordinary step was seen: the next one is then measured.
        """
        if not decoding:
            return self._step_tokens
        ordinary = self._ordinary_seconds(decoding)
        if ordinary is None:
            return 0
        if self._cost is None:
            return 1
        return max(1, min(self._step_tokens, int(prompts * ordinary / max(self._cost, 1e-9))))

    def learn(self, decoding: int, prompt_tokens: int, seconds: float) -> None:
        """Take in what a step took."""
        if not prompt_tokens:
            known = self._ordinary.get(decoding, seconds)
            # One step that something else held up does not count for more than two.
            self._ordinary[decoding] = known + _ORDINARY_WEIGHT * (min(seconds, 2 * known) - known)
        elif not decoding:
            if not self._mixed:
                self._cost = seconds / prompt_tokens
        else:
            added = max(0.0, seconds - (self._ordinary_seconds(decoding) or 0.0)) / prompt_tokens
            known = self._cost if self._mixed and self._cost is not None else added
            self._cost = known + _COST_WEIGHT * (min(added, 4 * known) - known)
            self._mixed = True

    def _ordinary_seconds(self, decoding: int) -> float | None:
        """For a number of sequences not seen yet, the step of the nearest number below, or a share of the one above."""
        if decoding in self._ordinary:
            return self._ordinary[decoding]
        below = max((n for n in self._ordinary if n < decoding), default=None)
        if below is not None:
            return self._ordinary[below]
        above = min((n for n in self._ordinary if n > decoding), default=None)
        return None if above is None else self._ordinary[above] * decoding / above
