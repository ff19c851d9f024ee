"""How much of waiting prompts a step carries beside the tokens of others. It knows no job, no cache and no engine.

Processor sharing: a step that also computes prompts gives each prompt as much time as the step would take without any. So one
long prompt makes others' tokens come at most half as fast, however long it is.

Requests that arrive together are computed together: who gets the first token early waits a while for the other prompts, so
that all decode in the same steps.
"""

from __future__ import annotations

HOLD_SECONDS = 30.0
"""How long those who have just begun to speak wait, at most, for prompts that came with them."""
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

        Zero where no such step was seen without prompts yet: the next one is then measured, once for each number.
        """
        if not decoding:
            return self._step_tokens
        if decoding not in self._ordinary:
            return 0
        if self._cost is None:
            return 1
        return max(1, min(self._step_tokens, int(prompts * self._ordinary[decoding] / max(self._cost, 1e-9))))

    def holds(self, tokens: int) -> bool:
        """Whether prompts of so many tokens are worth waiting for: steps of many sequences are the cheaper ones."""
        return tokens > 0 and self._cost is not None and tokens * self._cost <= HOLD_SECONDS

    def learn(self, decoding: int, prompt_tokens: int, seconds: float) -> None:
        """Take in what a step took. What something else held up counts for little."""
        if not prompt_tokens:
            self._ordinary[decoding] = _moved(self._ordinary.get(decoding), seconds, _ORDINARY_WEIGHT)
        elif decoding in self._ordinary:
            added = max(0.0, seconds - self._ordinary[decoding]) / prompt_tokens
            self._cost = _moved(self._cost if self._mixed else None, added, _COST_WEIGHT)
            self._mixed = True
        elif not decoding and not self._mixed:
            self._cost = seconds / prompt_tokens


def _moved(known: float | None, seen: float, weight: float) -> float:
    """The moving average; a value far above it counts as twice as much only."""
    return seen if known is None else known + weight * (min(seen, 2 * known) - known)
