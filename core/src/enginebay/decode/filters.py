"""Which tokens may be drawn, over a batch of rows. It knows no penalties, masks or sequences.

    top-n-sigma  Tang et al., "Top-n-sigma: Not All Logits Are You Need", 2024
    top-k        Fan, Lewis and Dauphin, "Hierarchical Neural Story Generation", 2018
    typical      Meister et al., "Locally Typical Sampling", 2022
    top-p        Holtzman et al., "The Curious Case of Neural Text Degeneration", 2019
    min-p        Nguyen et al., "Turning Up the Heat: Min-p Sampling for Creative and Coherent LLM Outputs", 2024
    XTC          "exclude top choices": no paper; as in llama.cpp, whose order this is

Each looks at what the ones before it left, with probabilities that are those of temperature 1.

What a filter keeps is a matter of a few tokens, so a row is first cut down to the tokens above a bound that cannot hide
any of them, at the price of a comparison for each logit. The filters then work on all rows together, in float64.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from attrs import frozen

from enginebay.data import Sampling
from enginebay.decode.draw import Doubles, Floats, Hashes, coin, draw_wide, gumbel, hashes, split_keys

_LOWEST = np.finfo(np.float32).min
_NO_LOGIT = np.float32(-np.inf)
_NARROW = 2048
"""Rows with at most so many tokens are filtered whole."""
_NUCLEUS_GUESS = 256
"""How many of the largest logits are tried first where top-p alone decides."""


def keep_only(row: Floats, mask: npt.NDArray[np.bool_]) -> Floats:
    """A copy of the row with -inf where the mask is false. A NaN stays one, also there.

    Arithmetic instead of ``where``: a mask without pattern makes that ten times slower.
    """
    bound = mask.astype(np.float32)
    bound -= np.float32(0.5)
    bound *= np.float32(np.inf)
    return np.minimum(row, bound, out=bound)


def largest_bounds(rows: Floats, ranks: Sequence[int]) -> Floats:
    """For each row a lower bound of its ``rank``-th largest value: that of the maxima over disjoint parts.

    :param rows: float32, shape (n, width)
    :param ranks: one for each row, 0 to width (0 gives the bound of width)
    """
    n, width = rows.shape
    ranks = [rank or width for rank in ranks]
    parts = min(width, max(1024, 4 * max(ranks)))
    depth = width // parts
    if depth > 1:
        maxima = rows[:, : depth * parts].reshape(n, depth, parts).max(axis=1)
    else:
        maxima, parts = rows, width
    at = [parts - rank for rank in ranks]
    maxima = np.partition(maxima, sorted(set(at)), axis=1)
    bounds: Floats = maxima[np.arange(n), at]
    return bounds


def draw_rows(
    rows: Sequence[Floats], peaks: Sequence[float], settings: Sequence[Sampling], keys: list[int]
) -> list[int]:
    """Filter each row and draw a token from what is left.

    :param rows: float32, each of shape (width,), with ``peaks`` (finite) the largest of each
    :param settings: with a temperature above 0
    :param keys: from ``position_key``
    """
    width = rows[0].shape[0]
    rows = [_top_n_sigma(*row) if row[2].top_n_sigma else row[0] for row in zip(rows, peaks, settings, strict=True)]
    tokens = [-1] * len(rows)
    left, kept, masses = [], [], []
    if width <= _NARROW:
        left, kept, masses = [*range(len(rows))], _kept_of_narrow(rows, settings), [math.nan] * len(rows)
    else:
        for i, (row, peak, sampling) in enumerate(zip(rows, peaks, settings, strict=True)):
            all_seen = not _rank(sampling, width) and sampling.typical_p == 1
            whole = _Weights.of(row, peak) if sampling.top_p < 1 and all_seen else None
            some = _kept_of_wide(row, peak, sampling, whole)
            if some is None:
                tokens[i] = _draw_unsorted(row, peak, sampling, whole, keys[i])
            else:
                left.append(i)
                kept.append(some)
                masses.append(whole.mass if whole else math.nan)
    # Rows with many tokens go alone, because those that go together are padded to the longest.
    together = [j for j in range(len(left)) if kept[j].shape[0] <= _NARROW // 4]
    for group in [together, *([j] for j in range(len(left)) if kept[j].shape[0] > _NARROW // 4)]:
        if group:
            at = [left[j] for j in group]
            values, candidates = _padded([rows[i] for i in at], [kept[j] for j in group])
            chosen = [settings[i] for i in at]
            drawn = _filter_and_draw(values, candidates, [masses[j] for j in group], chosen, [keys[i] for i in at])
            for i, token in zip(at, drawn, strict=True):
                tokens[i] = token
    return tokens


def _rank(sampling: Sampling, width: int) -> int:
    """Top-k, 0 if it takes nothing away."""
    return sampling.top_k if sampling.top_k < width else 0


def _kept_of_narrow(rows: Sequence[Floats], settings: Sequence[Sampling]) -> list[npt.NDArray[np.intp]]:
    width = rows[0].shape[0]
    block = np.stack(rows)
    ranks = [_rank(sampling, width) for sampling in settings]
    bounds = np.maximum(largest_bounds(block, ranks), _LOWEST) if any(ranks) else np.full(len(rows), _LOWEST)
    flat = np.flatnonzero(block >= bounds[:, None])
    cuts = np.searchsorted(flat, np.arange(len(rows) + 1) * width).tolist()
    return [flat[cuts[i] : cuts[i + 1]] - i * width for i in range(len(rows))]


@frozen
class _Weights:
    """``exp(logit - peak)`` of a row and the sum of them: what top-p needs where it looks at a whole row."""

    each: Floats
    mass: float

    @classmethod
    def of(cls, row: Floats, peak: float) -> _Weights:
        weights = row - np.float32(peak)
        np.exp(weights, out=weights)
        return cls(weights, float(weights.sum()))


def _kept_of_wide(row: Floats, peak: float, sampling: Sampling, whole: _Weights | None) -> npt.NDArray[np.intp] | None:
    """The tokens above a bound below which no filter keeps any, or None if they are too many."""
    if rank := _rank(sampling, row.shape[0]):
        return np.flatnonzero(row >= max(largest_bounds(row[None], [rank])[0], _LOWEST))
    xtc = sampling.xtc_probability > 0
    if sampling.typical_p < 1 or (xtc and sampling.min_p == 0):
        return np.flatnonzero(row >= _LOWEST)
    if sampling.min_p > 0:
        kept = np.flatnonzero(row >= _min_p_floor(peak, sampling))
        return kept if xtc or kept.shape[0] <= _NARROW else None
    if whole is None:
        return None
    kept = np.flatnonzero(row >= max(largest_bounds(row[None], [_NUCLEUS_GUESS])[0], _LOWEST))
    enough = float(whole.each[kept].sum()) >= sampling.top_p * whole.mass * (1 + 1e-5)
    return kept if enough and kept.shape[0] <= _NARROW else None


def _top_n_sigma(row: Floats, peak: float, sampling: Sampling) -> Floats:
    """The row with -inf for logits more than ``top_n_sigma`` standard deviations of all finite ones below the best."""
    deviation = float(row[row >= _LOWEST].std(dtype=np.float64))
    return keep_only(row, row >= np.float32(peak - sampling.top_n_sigma * deviation))


def _min_p_floor(peak: float, sampling: Sampling) -> np.float32:
    """The smallest logit that min-p keeps: that of a token ``min_p`` times as probable as the best one."""
    return np.float32(peak + math.log(sampling.min_p)) if sampling.min_p else _LOWEST


def _draw_unsorted(row: Floats, peak: float, sampling: Sampling, whole: _Weights | None, key: int) -> int:
    """Top-p, min-p and the draw over a row of which too much is left to sort it.

    A token's noise does not depend on the others, so the winner of a set that is within a part of the set has won that
    part too. So draw from all first. If the winner is not one that the filters keep, neither is any token that is not
    better than it: draw again from those that are better.
    """
    floor = _min_p_floor(peak, sampling)
    while True:
        token = draw_wide(row, peak, sampling.temperature, key)
        best = row[token]
        if best < floor:
            row = keep_only(row, row >= floor)
            continue
        if whole is None:
            return token
        better = row > best
        better[:token] |= row[:token] == best
        before = float(np.multiply(whole.each, better, dtype=np.float32).sum())
        if before == 0 or before < sampling.top_p * whole.mass:
            return token
        row = keep_only(row, better)


def _padded(rows: Sequence[Floats], kept: Sequence[npt.NDArray[np.intp]]) -> tuple[Floats, Hashes]:
    """Kept logits and tokens of rows, as matrices as wide as the longest; -inf fills the others."""
    if len(rows) == 1:
        return rows[0][kept[0]][None], kept[0].astype(np.uint32)[None]
    shape = len(rows), max(some.shape[0] for some in kept)
    values, tokens = np.full(shape, _NO_LOGIT), np.zeros(shape, np.uint32)
    for i, (row, some) in enumerate(zip(rows, kept, strict=True)):
        values[i, : some.shape[0]] = row[some]
        tokens[i, : some.shape[0]] = some
    return values, tokens


def _filter_and_draw(
    values: Floats, tokens: Hashes, masses: list[float], settings: Sequence[Sampling], keys: list[int]
) -> list[int]:
    """Exact filters and the draw over several rows, each with its settings. ``values`` and ``tokens``: shape (n, m)."""
    n, m = values.shape
    ranks = [sampling.top_k or m for sampling in settings]
    typical = any(sampling.typical_p < 1 for sampling in settings)
    nucleus = any(sampling.top_p < 1 for sampling in settings)
    # XTC is decided once a position; a threshold of 2 never excludes.
    xtc = [s.xtc_threshold if coin(key) < s.xtc_probability else 2.0 for s, key in zip(settings, keys, strict=True)]
    if min(ranks) < m or typical or nucleus or min(xtc) <= 1:
        # Tokens are in order of id, and a stable sort keeps that among equals: the lower id is the better one.
        order = np.argsort(-values, axis=1, kind="stable")[:, : max(ranks)]
        at = np.arange(n)[:, None]
        values, tokens = values[at, order], tokens[at, order]
        if min(ranks) < values.shape[1]:
            values[np.arange(values.shape[1]) >= np.array(ranks)[:, None]] = -np.inf
    if typical:
        values[_not_typical(values, [sampling.typical_p for sampling in settings])] = -np.inf
    peak = values.max(axis=1, keepdims=True)
    gap: Doubles = values.astype(np.float64) - peak
    if nucleus:
        reached = np.exp(gap).cumsum(axis=1)
        total = np.where(np.isnan(masses), reached[:, -1], masses)
        gap[:, 1:][_beyond(reached, total, [sampling.top_p for sampling in settings])] = -np.inf
    if any(sampling.min_p > 0 for sampling in settings):
        floors = [_min_p_floor(p, sampling) for p, sampling in zip(peak[:, 0].tolist(), settings, strict=True)]
        gap[values < np.array(floors)[:, None]] = -np.inf
    if min(xtc) <= 1:
        weights = np.exp(gap)
        top = weights >= np.array(xtc)[:, None] * weights.sum(axis=1, keepdims=True)
        gap[top & (top.cumsum(axis=1) < top.sum(axis=1, keepdims=True))] = -np.inf
        gap -= gap.max(axis=1, keepdims=True)
    gap /= np.array([[sampling.temperature] for sampling in settings])
    gap += gumbel(hashes(tokens, split_keys(keys)))
    return [int(token) for token in tokens[np.arange(n), gap.argmax(axis=1)]]


def _beyond(reached: Doubles, total: Doubles, shares: list[float]) -> npt.NDArray[np.bool_]:
    """What comes after the sum has reached a share (1: all) of the total, in the columns from the second on.

    A share of 0 leaves the first that weighs anything.
    """
    limits = np.maximum(total * [share if share < 1 else 2.0 for share in shares], np.finfo(np.float64).tiny)
    beyond: npt.NDArray[np.bool_] = reached[:, :-1] >= limits[:, None]
    return beyond


def _not_typical(values: Floats, shares: list[float]) -> npt.NDArray[np.bool_]:
    """All but the tokens whose surprise is nearest to the expected one, up to a share of the probability."""
    gap = values.astype(np.float64) - values.max(axis=1, keepdims=True)
    weights = np.exp(gap)
    total = weights.sum(axis=1, keepdims=True)
    # The distance of -log(p) from the entropy, up to a constant that both have.
    expected = -np.where(weights > 0, weights * gap, 0.0).sum(axis=1, keepdims=True) / total
    order = np.argsort(np.abs(-gap - expected), axis=1, kind="stable")
    at = np.arange(values.shape[0])[:, None]
    out = np.zeros(values.shape, np.bool_)
    out[at, order[:, 1:]] = _beyond(weights[at, order].cumsum(axis=1), total[:, 0], shares)
    return out
