"""The fast sampler gives what a slow and obvious one gives, and its draws follow the distribution."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from attrs import evolve
from hypothesis import example, given, settings
from hypothesis import strategies as st

from enginebay.data import Sampling
from enginebay.decode.draw import coin, gumbel, hashes, position_key
from enginebay.decode.filters import _NUCLEUS_GUESS
from enginebay.decode.sampler import SequenceSampler, log_probabilities, sample
from enginebay.errors import GenerationError, RequestError

Row = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]
WIDE = 5000
"""More than the sampler filters whole."""
OFF = Sampling(temperature=1.0, top_k=0, top_p=1.0, min_p=0.0)


def noise(seed: int, position: int, tokens: Sequence[int]) -> list[float]:
    key = position_key(seed, position)
    halves = np.array([key & 0xFFFFFFFF, key >> 32], np.uint32)
    values: list[float] = gumbel(hashes(np.array(tokens, np.uint32), halves)).tolist()
    return values


def adjusted(row: Row, sampling: Sampling, tokens: Sequence[int], mask: Mask | None) -> list[float]:
    """Penalties, bias and mask, one token at a time."""
    f32 = np.float32
    values = row.copy()
    window = list(tokens)[-sampling.repeat_window_tokens :] if sampling.repeat_window_tokens else list(tokens)
    for token in set(window):
        value = values[token]
        value = value / f32(sampling.repeat_penalty) if value > 0 else value * f32(sampling.repeat_penalty)
        count = f32(window.count(token))
        values[token] = value - (count * f32(sampling.frequency_penalty) + f32(sampling.presence_penalty))
    for token, length in repetitions(sampling, list(tokens)).items():
        grown = sampling.dry_base ** (length - sampling.dry_allowed_tokens)
        values[token] -= f32(min(sampling.dry_multiplier * grown, 1e6))
    for token, bias in sampling.logit_bias.items():
        values[token] += f32(bias)
    if mask is not None:
        values[~mask] = -np.inf
    return [float(value) for value in values]


def repetitions(sampling: Sampling, tokens: list[int]) -> dict[int, int]:
    """For each token that would prolong a repetition the length of the longest one, by comparing all pairs of ends."""
    found: dict[int, int] = {}
    tokens = tokens[-sampling.dry_window_tokens :] if sampling.dry_window_tokens else tokens
    for end in range(1, len(tokens)):
        n = 0
        while n < end and tokens[end - 1 - n] == tokens[-1 - n] and tokens[-1 - n] not in sampling.dry_breakers:
            n += 1
        if n >= sampling.dry_allowed_tokens and sampling.dry_multiplier > 0:
            found[tokens[end]] = max(n, found.get(tokens[end], 0))
    return found


def first_to_share(left: list[int], weights: Mapping[int, float], share: float) -> list[int]:
    """The first tokens that together have a share of the weight; at least one."""
    reached, limit = 0.0, share * math.fsum(weights[i] for i in left)
    kept: list[int] = []
    for i in left:
        if kept and reached >= limit:
            break
        kept.append(i)
        reached += weights[i]
    return kept


def survivors(values: list[float], sampling: Sampling, key: int, slip: float = 0.0) -> list[int]:
    """The tokens that may be drawn, best first, by sorting all of them. ``slip`` shifts where a share ends."""
    left = sorted((i for i, value in enumerate(values) if value > -math.inf), key=lambda i: (-values[i], i))
    weights = {i: math.exp(values[i] - values[left[0]]) for i in left}
    if sampling.top_n_sigma:
        deviation = np.std(np.array([value for value in values if value > -math.inf]))
        left = [i for i in left if values[i] >= np.float32(values[left[0]] - sampling.top_n_sigma * deviation)]
    if sampling.top_k:
        left = left[: sampling.top_k]
    if sampling.typical_p < 1:
        total = math.fsum(weights[i] for i in left)
        surprise = {i: math.log(total) - values[i] + values[left[0]] for i in left}
        entropy = math.fsum(weights[i] / total * surprise[i] for i in left)
        nearest = sorted(left, key=lambda i: abs(surprise[i] - entropy))
        typical = set(first_to_share(nearest, weights, sampling.typical_p + slip))
        left = [i for i in left if i in typical]
    if sampling.top_p < 1:
        left = first_to_share(left, weights, sampling.top_p + slip)
    if sampling.min_p:
        floor = np.float32(values[left[0]] + math.log(sampling.min_p))
        left = [i for i in left if values[i] >= floor]
    if coin(key) < sampling.xtc_probability:
        share = sampling.xtc_threshold * math.fsum(weights[i] for i in left)
        left = left[max(0, sum(weights[i] >= share for i in left) - 1) :]
    return left


def reference(values: list[float], sampling: Sampling, seed: int, position: int, slip: float = 0.0) -> int:
    if sampling.temperature == 0:
        return values.index(max(values))
    left = survivors(values, sampling, position_key(seed, position), slip)
    scores = [(values[i] - values[left[0]]) / sampling.temperature for i in left]
    return left[int(np.argmax(np.array(scores) + noise(seed, position, left)))]


samplings = st.builds(
    Sampling,
    temperature=st.sampled_from([0.0, 1e-308, 0.01, 0.7, 1.0, 1.5, 100.0]),
    top_k=st.sampled_from([0, 0, 1, 2, 40, 300, 4000, 10_000_000]),
    top_p=st.sampled_from([0.0, 0.1, 0.5, 0.9, 0.999, 1.0, 1.0]),
    min_p=st.sampled_from([0.0, 0.0, 0.001, 0.05, 0.5, 1.0]),
    repeat_penalty=st.sampled_from([1.0, 1.0, 0.9, 1.3]),
    frequency_penalty=st.sampled_from([0.0, 0.0, 0.3, -0.3]),
    presence_penalty=st.sampled_from([0.0, 0.0, 0.5]),
    repeat_window_tokens=st.sampled_from([0, 1, 3, 64]),
    logit_bias=st.dictionaries(st.integers(0, 6), st.sampled_from([-100.0, -1.0, 0.5, 100.0]), max_size=2),
    top_n_sigma=st.sampled_from([0.0, 0.0, 0.5, 2.0]),
    typical_p=st.sampled_from([1.0, 1.0, 0.0, 0.3, 0.9]),
    xtc_probability=st.sampled_from([0.0, 0.0, 0.5, 1.0]),
    xtc_threshold=st.sampled_from([0.01, 0.1, 0.3]),
    dry_multiplier=st.sampled_from([0.0, 0.8, 50.0]),
    dry_base=st.sampled_from([1.0, 1.75, 10.0]),
    dry_allowed_tokens=st.integers(1, 3),
    dry_window_tokens=st.sampled_from([0, 1, 5]),
    dry_breakers=st.frozensets(st.integers(0, 2), max_size=1),
)


@st.composite
def rows(draw: st.DrawFn, width: int) -> Row:
    """Logits: bell-shaped of any width, few distinct values, mostly -inf, a few peaks."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    scale = draw(st.sampled_from([0.0, 1e-6, 0.1, 2.0, 10.0, 1000.0]))
    row = rng.normal(0, 1, width) * scale
    if draw(st.booleans()):
        row = np.round(row)
    if draw(st.booleans()):
        row[rng.random(width) < draw(st.sampled_from([0.5, 0.999]))] = -np.inf
    if draw(st.booleans()):
        row[rng.integers(0, width, 5)] = draw(st.sampled_from([5.0, 12.0, 12.0, 30.0]))
    return row.astype(np.float32)


def check(batch: list[Row], sampling: list[Sampling], masks: list[Mask | None], tokens: list[int]) -> None:
    """Compare a batch with the reference, row by row."""
    values = [adjusted(*parts) for parts in zip(batch, sampling, [tokens] * len(batch), masks, strict=True)]
    if any(max(row) == -math.inf for row in values):
        return
    states = [SequenceSampler(one, 7 + i, tokens[:2]) for i, one in enumerate(sampling)]
    for state in states:
        for token in tokens[2:]:
            state.accept(token)
    logits = np.stack(batch)
    before = logits.copy()
    drawn = sample(logits, states, masks)
    np.testing.assert_array_equal(logits, before)
    for i, token in enumerate(drawn):
        # Where top-p ends is a comparison of sums: rounding may move it by a token that lies on the edge to six digits.
        slips = (0.0, -2e-6, 2e-6)
        assert any(token == reference(values[i], sampling[i], 7 + i, len(tokens), slip) for slip in slips)


def masks_of(width: int) -> st.SearchStrategy[Mask | None]:
    return st.one_of(st.none(), st.floats(0.0, 1.0).map(lambda share: np.arange(width) % 97 < share * 97))


histories = st.one_of(st.lists(st.integers(0, 7), max_size=9), st.lists(st.integers(0, 2), max_size=12))


@given(st.data(), st.lists(samplings, min_size=1, max_size=4), st.sampled_from([8, 100, 1500]), histories)
@settings(max_examples=150, deadline=None)
def test_a_batch_gives_what_sorting_everything_gives(
    data: st.DataObject, sampling: list[Sampling], width: int, tokens: list[int]
) -> None:
    batch = [data.draw(rows(width)) for _ in sampling]
    masks = [data.draw(masks_of(width)) for _ in sampling]
    check(batch, sampling, masks, tokens)


@given(st.data(), samplings)
@settings(max_examples=120, deadline=None)
@example(None, evolve(OFF, top_p=0.9))
@example(None, evolve(OFF, top_p=0.0))
@example(None, evolve(OFF, top_p=0.9, min_p=0.001))
def test_so_does_a_wide_row(data: st.DataObject | None, sampling: Sampling) -> None:
    row = data.draw(rows(WIDE)) if data else np.round(np.random.default_rng(1).normal(0, 1, WIDE), 1).astype(np.float32)
    check([row, row[::-1]], [sampling, OFF], [None, None], [3, 3, 4])


SWEEPS: dict[str, list[Sampling]] = {
    "top-p": [evolve(OFF, top_p=float(share)) for share in np.linspace(0.02, 0.98, 33)],
    "min-p": [evolve(OFF, min_p=float(share)) for share in np.geomspace(1e-4, 0.9, 12)],
    "both": [evolve(OFF, top_p=0.9, min_p=float(share)) for share in np.geomspace(1e-4, 0.9, 12)],
    "top-n-sigma": [evolve(OFF, top_n_sigma=float(n)) for n in np.linspace(0.5, 4, 12)],
    "typical": [evolve(OFF, typical_p=float(share), top_p=0.9) for share in np.linspace(0.1, 0.9, 5)],
    "xtc": [evolve(OFF, min_p=0.01, xtc_probability=1.0, xtc_threshold=float(p)) for p in np.geomspace(1e-4, 0.01, 9)],
}


@pytest.mark.parametrize("spread", [0.5, 2.0])
@pytest.mark.parametrize("name", SWEEPS)
def test_so_does_a_wide_row_wherever_its_filters_end(name: str, spread: float) -> None:
    """From a few tokens to nearly all, with a temperature that makes what the filters exclude likely to win."""
    row = np.random.default_rng(9).normal(0, spread, WIDE).astype(np.float32)
    for sampling in SWEEPS[name]:
        check([row] * 4, [evolve(sampling, temperature=8.0)] * 4, [None] * 4, [])


def test_top_p_finds_what_lies_just_beyond_its_first_guess() -> None:
    row = np.random.default_rng(9).normal(0, 2, WIDE).astype(np.float32)
    weights = np.sort(np.exp(row.astype(np.float64)))[::-1]
    sampling = evolve(OFF, temperature=8.0, top_p=float(1.05 * weights[:_NUCLEUS_GUESS].sum() / weights.sum()))
    check([row] * 25, [sampling] * 25, [None] * 25, [])


def draws(row: Row, sampling: Sampling, n: int) -> npt.NDArray[np.int64]:
    """How often each token comes at ``n`` positions of one seed."""
    state = SequenceSampler(sampling, 11, [])
    counts = np.zeros(row.shape[0], np.int64)
    for _ in range(n):
        counts[sample(row[None], [state], [None])[0]] += 1
        state.accept(0)
    return counts


@pytest.mark.parametrize("width", [50, WIDE])
@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_draws_follow_the_distribution(width: int, temperature: float) -> None:
    n = 6000
    row = np.random.default_rng(3).normal(0, 1, width).astype(np.float32)
    counts = draws(row, evolve(OFF, temperature=temperature), n)
    expected = np.exp(row.astype(np.float64) / temperature)
    expected *= n / expected.sum()
    # Pearson's chi-square over tokens that are expected five times, the others in groups.
    order = np.argsort(-expected)
    groups = np.cumsum(expected[order]) // 20
    observed, ideal = np.bincount(groups.astype(int), counts[order]), np.bincount(groups.astype(int), expected[order])
    full = ideal > 5
    statistic = float(((observed - ideal)[full] ** 2 / ideal[full]).sum())
    degrees = int(full.sum()) - 1
    assert degrees > 10
    assert abs(statistic - degrees) < 4.5 * math.sqrt(2 * degrees)


def test_noise_of_neighbours_is_independent() -> None:
    """Between tokens, between positions and between seeds, of the noise and of its largest value."""
    tokens = np.arange(500, dtype=np.uint32)

    def block(seed: int) -> npt.NDArray[np.float64]:
        keys = [position_key(seed, position) for position in range(400)]
        return np.array([hashes(tokens, np.array([k & 0xFFFFFFFF, k >> 32], np.uint32)) for k in keys]) / 2.0**32

    one, other = block(5), block(6)
    limit = 5 / math.sqrt(one.size)
    assert abs(one.mean() - 0.5) < limit
    for a, b in ((one[:, 1:], one[:, :-1]), (one[1:], one[:-1]), (one, other), (one[:, 64:], one[:, :-64])):
        assert abs(np.corrcoef(a.ravel(), b.ravel())[0, 1]) < limit
    half, same = (hashes(tokens, np.array([9, k], np.uint32)).tolist() for k in (1, 2))
    assert set(half).isdisjoint(same)
    winners = np.bincount(one.argmax(axis=1), minlength=500)
    assert winners.max() < 8


def test_a_draw_does_not_depend_on_neighbours_or_on_the_way_to_its_position() -> None:
    rng = np.random.default_rng(2)
    logits = rng.normal(0, 2, (6, 600)).astype(np.float32)
    prompt = [1, 2, 3]
    sampling = [Sampling(temperature=1.0, repeat_penalty=1.2, top_k=k) for k in (0, 5, 40, 0, 5, 40)]
    together = [SequenceSampler(one, 100 + i, prompt) for i, one in enumerate(sampling)]
    for state in together:
        for token in (4, 5):
            state.accept(token)
    alone = [SequenceSampler(one, 100 + i, [*prompt, 4, 5]) for i, one in enumerate(sampling)]
    expected = [sample(logits[i : i + 1], [alone[i]], [None])[0] for i in range(6)]
    assert sample(logits, together, [None] * 6) == expected
    assert [sample(logits[[i]], [together[i]], [None])[0] for i in reversed(range(6))] == expected[::-1]


def test_seeds_and_positions_give_other_tokens_and_noise_in_the_last_bits_does_not() -> None:
    rng = np.random.default_rng(4)
    row = rng.normal(0, 2, 3000).astype(np.float32)
    nearly = (row + rng.normal(0, 1e-6, 3000)).astype(np.float32)
    sampling = evolve(OFF, top_p=0.95)
    states = [SequenceSampler(sampling, seed, range(position)) for seed in range(20) for position in range(20)]
    drawn = [sample(row[None], [state], [None])[0] for state in states]
    assert len(set(drawn)) > 100
    assert [sample(nearly[None], [state], [None])[0] for state in states] == drawn


@pytest.mark.parametrize("temperature", [1.0, 1e-308])
def test_xtc_leaves_the_least_of_the_top_choices(temperature: float) -> None:
    """At any temperature, though then no token that is left is near the best one."""
    row = np.array([[10, 5, 0, -90]], np.float32)
    always = evolve(OFF, temperature=temperature, min_p=1e-6, xtc_probability=1.0, xtc_threshold=1e-5)
    assert sample(row, [SequenceSampler(always, 0, [])], [None]) == [2]
    assert sample(row, [SequenceSampler(evolve(always, xtc_probability=0.0), 0, [])], [None]) == [0]


@given(samplings, st.lists(st.integers(0, 2), max_size=14), st.integers(0, 14), st.integers(0, 1000))
@settings(max_examples=400, deadline=None)
def test_penalties_see_the_right_tokens(sampling: Sampling, tokens: list[int], given_first: int, seed: int) -> None:
    """Also as their windows slide, and when a token is in one twice."""
    row = np.random.default_rng(seed).normal(0, 1, 8).astype(np.float32)
    state = SequenceSampler(sampling, 0, tokens[:given_first])
    for token in tokens[given_first:]:
        state.accept(token)
    assert state.penalized(row).tolist() == pytest.approx(adjusted(row, sampling, tokens, None), rel=1e-6)


def test_penalties_keep_up_with_a_long_sequence() -> None:
    """More distinct tokens than there was room for at first."""
    sampling = Sampling(presence_penalty=1.0, repeat_window_tokens=0, dry_multiplier=1.0, dry_allowed_tokens=1)
    state = SequenceSampler(sampling, 0, [])
    tokens = [*range(200), 3]
    for token in tokens:
        state.accept(token)
    row = np.zeros(300, np.float32)
    assert state.penalized(row).tolist() == adjusted(row, sampling, tokens, None)


@pytest.mark.parametrize("sampling", [Sampling(temperature=0), Sampling(), OFF, evolve(OFF, top_p=0.9)])
@pytest.mark.parametrize("width", [20, WIDE])
@pytest.mark.parametrize(
    ("damage", "message"), [(np.nan, "not numbers"), (np.inf, "infinite"), (-np.inf, "no token is left to draw")]
)
def test_logits_without_a_finite_best_are_an_error(sampling: Sampling, width: int, damage: float, message: str) -> None:
    logits = np.zeros((2, width), np.float32)
    logits[1, 7 if damage > 0 or math.isnan(damage) else slice(None)] = damage
    states = [SequenceSampler(sampling, 0, [])] * 2
    with pytest.raises(GenerationError, match=message) as caught:
        sample(logits, states, [None, None])
    assert caught.value.fields["row"] == 1
    assert 0 <= sample(logits[:1], states[:1], [None])[0] < width


def test_a_mask_that_forbids_all_is_an_error_and_does_not_hide_nan() -> None:
    state = SequenceSampler(Sampling(), 0, [])
    row = np.zeros((1, 10), np.float32)
    with pytest.raises(GenerationError, match="constraint forbids all"):
        sample(row, [state], [np.zeros(10, np.bool_)])
    row[0, 0] = np.nan
    with pytest.raises(GenerationError, match="not numbers"):
        sample(row, [state], [np.arange(10) > 4])


def test_a_bias_outside_the_vocabulary_is_refused() -> None:
    with pytest.raises(RequestError, match="no token 10 in a vocabulary of 10"):
        sample(np.zeros((1, 10), np.float32), [SequenceSampler(Sampling(logit_bias={10: 1.0}), 0, [])], [None])
    with pytest.raises(ValueError, match="logit_bias"):
        Sampling(logit_bias={-1: 1.0})


@pytest.mark.parametrize("width", [5, WIDE])
@pytest.mark.parametrize("top", [0, 3, 100])
def test_log_probabilities_are_those_of_the_softmax(width: int, top: int) -> None:
    row = np.round(np.random.default_rng(6).normal(0, 3, width), 1).astype(np.float32)
    row[2] = -np.inf
    exact: Any = row.astype(np.float64) - np.log(np.exp(row.astype(np.float64)).sum())
    found = log_probabilities(row, 4, top)
    best = sorted((i for i in range(width) if i != 2), key=lambda i: (-row[i], i))[:top]
    assert [token for token, _ in found.top] == best
    assert found.token == 4
    assert found.logprob == pytest.approx(exact[4], abs=1e-5)
    assert [value for _, value in found.top] == pytest.approx(exact[best], abs=1e-5)
