"""The draw: noise that depends on seed, position and token id alone, and the token that wins with it. No filters here.

A token is drawn by the Gumbel-max rule: the winner is the largest of ``logit / temperature + noise`` (Gumbel 1954;
Maddison, Tarlow and Minka, "A* Sampling", 2014), which draws from the softmax of the first term. Each token's noise is
a hash of the seed, the position and the token's id (a counter-based generator: Salmon et al., "Parallel random numbers:
as easy as 1, 2, 3", 2011). So the draw depends neither on the order of the candidates nor on which others there are,
and logits that differ in their last bits, from another engine or batch, give another token only where two are level to
those bits.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Floats: TypeAlias = npt.NDArray[np.float32]
Doubles: TypeAlias = npt.NDArray[np.float64]
Hashes: TypeAlias = npt.NDArray[np.uint32]

_MASK = 2**64 - 1
_GOLDEN = 0x9E3779B97F4A7C15
_SLACK = 1.001  # far more than float32 loses in the bounds of `draw_wide`


def _mix(x: int) -> int:
    """The finalizer of SplitMix64 (Steele, Lea and Flood 2014)."""
    x = ((x ^ x >> 30) * 0xBF58476D1CE4E5B9) & _MASK
    x = ((x ^ x >> 27) * 0x94D049BB133111EB) & _MASK
    return x ^ x >> 31


def position_key(seed: int, position: int) -> int:
    """64 bits for a position: that output of a SplitMix64 which starts at the mixed seed."""
    return _mix((_mix(seed ^ _GOLDEN) + (position + 1) * _GOLDEN) & _MASK)


def coin(key: int) -> float:
    """A number in [0, 1) for decisions that are made once a position, apart from the tokens' noise."""
    return _mix(key ^ 0xD1B54A32D192ED03) / 2.0**64


def hashes(tokens: Hashes, keys: Hashes) -> Hashes:
    """32 bits for each token. ``tokens``: shape (..., n). ``keys``: the halves of the key, shape (2, ..., 1) or (2,).

    Two rounds of multiplying and shifting with the constants of Wellons' ``lowbias32``; half of the key enters before
    the first round, half between them, so that no two positions have the same noise in another order.
    """
    x: Hashes = tokens + keys[0]
    x ^= x >> np.uint32(16)
    x *= np.uint32(0x7FEB352D)
    x += keys[1]
    x ^= x >> np.uint32(15)
    x *= np.uint32(0x846CA68B)
    x ^= x >> np.uint32(16)
    return x


def split_keys(keys: list[int]) -> Hashes:
    """The halves of several keys, shape (2, n, 1)."""
    return np.array([[key & 0xFFFFFFFF for key in keys], [key >> 32 for key in keys]], np.uint32)[:, :, None]


def gumbel(x: Hashes) -> Doubles:
    """Standard Gumbel noise from hashes; between -3.2 and 22.9."""
    exponential: Doubles = -np.log1p((x + 0.5) * -(2.0**-32))
    noise: Doubles = -np.log(exponential)
    return noise


@lru_cache(maxsize=4)
def _all_tokens(width: int) -> Hashes:
    return np.arange(width, dtype=np.uint32)


def draw_wide(row: Floats, peak: float, temperature: float, key: int) -> int:
    """Draw from all finite logits of a wide row: what the Gumbel-max rule gives, without a logarithm for each token.

    The rule is a race: token i arrives at ``-log(1 - u) / weight``, with ``u`` from its hash and ``weight`` from its
    logit. ``u / weight`` is never later than that, and cheap. Whoever has it above the arrival of one token cannot win.

    :param row: float32, shape (width,), the largest of it ``peak``
    """
    noise = hashes(_all_tokens(row.shape[0]), np.array([key & 0xFFFFFFFF, key >> 32], np.uint32))
    race = np.subtract(np.float32(peak), row)
    race *= np.float32(min(1.0 / temperature, 1e30))
    np.exp(race, out=race)
    uniform = noise.astype(np.float32)
    uniform += np.float32(0.5)
    race *= uniform
    early = int(race.argmin())
    u = (int(noise[early]) + 0.5) * 2.0**-32
    arrival = float(race[early]) * -math.log1p(-u) / u
    able = np.flatnonzero(race <= np.float32(arrival * _SLACK))
    scores = (row[able].astype(np.float64) - peak) / temperature + gumbel(noise[able])
    return int(able[scores.argmax()])
