"""From logits to tokens: one order of filters for all engines, over a batch. It knows no requests, steps or text.

The order is: penalties, DRY, bias, constraint mask, top-n-sigma, top-k, typical, top-p, min-p, XTC, temperature, draw.
A token depends on nothing but the logits, the settings, the seed and the tokens so far; so a sequence that is resumed
from its token ids alone goes on as if it had never stopped. Mirostat is absent for that reason: its state depends on
past logits.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from enginebay.data import Sampling, TokenLogprob
from enginebay.decode.draw import Floats, position_key
from enginebay.decode.filters import draw_rows, keep_only, largest_bounds
from enginebay.decode.penalties import Bias, Dry, RepeatPenalties
from enginebay.errors import GenerationError, RequestError


class SequenceSampler:
    """The state of one sequence: how to draw, and what of the tokens so far the next draw depends on.

    The position of a draw is the number of tokens before it, those of the prompt included.
    """

    def __init__(self, sampling: Sampling, seed: int, prompt: Sequence[int]) -> None:
        self.sampling = sampling
        self._seed = seed
        self._position = len(prompt)
        self._penalties = [kind(sampling, prompt) for kind in (RepeatPenalties, Dry) if kind.wanted(sampling)]
        self._bias = Bias(sampling.logit_bias) if sampling.logit_bias else None

    def accept(self, token: int) -> None:
        """Take the token that was drawn, or that was generated before."""
        self._position += 1
        for penalty in self._penalties:
            penalty.accept(token)

    def key(self) -> int:
        """The random bits of this position."""
        return position_key(self._seed, self._position)

    def penalized(self, row: Floats) -> Floats:
        """The row after penalties and bias: the same if there are none, otherwise a changed copy."""
        if self._penalties or self._bias:
            row = row.copy()
        for penalty in self._penalties:
            penalty.apply(row)
        if self._bias:
            if self._bias.highest >= row.shape[0]:
                raise RequestError(
                    f"logit_bias: there is no token {self._bias.highest} in a vocabulary of {row.shape[0]}",
                    field="logit_bias",
                )
            self._bias.apply(row)
        return row


def sample(
    logits: Floats, samplers: Sequence[SequenceSampler], allowed: Sequence[npt.NDArray[np.bool_] | None]
) -> list[int]:
    """One token for each row. Changes neither the logits nor a sampler, so a call can be repeated.

    :param logits: float32, shape (n, vocabulary), row ``i`` for ``samplers[i]``
    :param allowed: for each row a mask, shape (vocabulary,), or None
    :raises GenerationError: a row has NaN, or nothing finite that is allowed; ``fields["row"]`` says which
    :raises RequestError: a bias is for a token outside the vocabulary
    """
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        rows = [sampler.penalized(logits[i]) for i, sampler in enumerate(samplers)]
        best = [int(row.argmax()) for row in rows]
        for i, (sampler, mask) in enumerate(zip(samplers, allowed, strict=True)):
            # The best of all is the best of those allowed, if it is one of them: then a greedy row needs no mask.
            if mask is not None and not (sampler.sampling.temperature == 0 and mask[best[i]]):
                rows[i] = keep_only(rows[i], mask)
                best[i] = int(rows[i].argmax())
        peaks = [float(row[token]) for row, token in zip(rows, best, strict=True)]
        for i, peak in enumerate(peaks):
            if not math.isfinite(peak):
                raise _nothing_to_draw(i, peak, allowed[i] is not None)
        drawn = [i for i, sampler in enumerate(samplers) if sampler.sampling.temperature > 0]
        if drawn:
            tokens = draw_rows(
                [rows[i] for i in drawn],
                [peaks[i] for i in drawn],
                [samplers[i].sampling for i in drawn],
                [samplers[i].key() for i in drawn],
            )
            for i, token in zip(drawn, tokens, strict=True):
                best[i] = token
    return best


def _nothing_to_draw(row: int, peak: float, masked: bool) -> GenerationError:
    if math.isnan(peak):
        what = "the engine computed logits that are not numbers (NaN)"
    elif peak > 0:
        what = "the engine computed infinite logits"
    else:
        what = "no token is left to draw: " + ("the constraint forbids" if masked else "the engine excludes") + " all"
    hint = None if peak < 0 else "The model's weights may be damaged, or too large for the precision that was chosen."
    return GenerationError(what, hint=hint, row=row)


def log_probabilities(row: Floats, token: int, top: int) -> TokenLogprob:
    """A token's log-probability and those of the ``top`` best tokens, from unmodified logits.

    :param row: float32, shape (vocabulary,)
    """
    peak = row.max()
    total = float(peak) + math.log(float(np.exp(row - peak).sum()))
    best: list[int] = []
    if top:
        some = np.flatnonzero(row >= largest_bounds(row[None], [min(top, row.shape[0])])[0])
        best = some[np.argsort(-row[some], kind="stable")[:top]].tolist()
    alternatives = tuple((other, float(row[other]) - total) for other in best if row[other] > -np.inf)
    return TokenLogprob(token, float(row[token]) - total, alternatives)
