"""What drawing a token costs: milliseconds a row, for two vocabularies and for one and eight rows.

    python core/benchmarks/sampler.py

The logits are bell-shaped; "peaked" ones have a few likely tokens above, as a trained model's have, "flat" ones have
none. ``sort`` is the plain way on the peaked logits: sort all, softmax, cut, draw.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

import numpy as np
import numpy.typing as npt
from attrs import evolve

from enginebay.data import Sampling
from enginebay.decode.sampler import SequenceSampler, sample

OFF = Sampling(top_k=0, top_p=1.0, min_p=0.0)
SETTINGS = {
    "greedy": Sampling(temperature=0),
    "top-k 40": evolve(OFF, top_k=40),
    "top-p 0.95": evolve(OFF, top_p=0.95),
    "min-p 0.05": evolve(OFF, min_p=0.05),
    "all three": Sampling(),
    "temperature": OFF,
    "penalties": Sampling(repeat_penalty=1.1, presence_penalty=0.1),
}


def logits_of(width: int, rows: int, peaked: bool) -> npt.NDArray[np.float32]:
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2, (rows, width))
    if peaked:
        for row in logits:
            row[rng.choice(width, 12, replace=False)] = rng.uniform(10, 18, 12)
    return logits.astype(np.float32)


def milliseconds(action: Callable[[], object], seconds: float = 0.3) -> float:
    """The median processor time of a call: other programs that run do not count."""
    action()
    times = []
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        began = time.thread_time()
        action()
        times.append(time.thread_time() - began)
    return float(np.median(times)) * 1e3


def plain(row: npt.NDArray[np.float32], rng: np.random.Generator, sampling: Sampling) -> int:
    order = np.argsort(-row)
    values = row[order][: sampling.top_k]
    weights = np.exp(values - values[0])
    weights /= weights.sum()
    kept = weights[: int(np.searchsorted(np.cumsum(weights), sampling.top_p)) + 1]
    kept = kept[kept >= sampling.min_p * kept[0]] ** (1 / sampling.temperature)
    return int(order[rng.choice(kept.shape[0], p=kept / kept.sum())])


def main() -> None:
    rng = np.random.default_rng(1)
    for width in (152_000, 768):
        peaked, flat = logits_of(width, 8, True), logits_of(width, 8, False)
        masks = [row > -1 for row in flat]
        sort = milliseconds(partial(plain, peaked[0], rng, Sampling()))
        print(f"\nvocabulary {width:,}: sort {sort:.3f} ms a row")
        columns = ("1 peaked", "8 peaked", "1 flat", "8 flat", "1 masked")
        print(f"{'ms a row':<14}" + "".join(f"{name:>10}" for name in columns) + f"{'sort / 1 peaked':>17}")
        for name, sampling in SETTINGS.items():
            samplers = [SequenceSampler(sampling, seed, range(100)) for seed in range(8)]
            cells = []
            for logits, n in ((peaked, 1), (peaked, 8), (flat, 1), (flat, 8)):
                cells.append(milliseconds(partial(sample, logits[:n], samplers[:n], [None] * n)) / n)
            cells.append(milliseconds(partial(sample, peaked[:1], samplers[:1], masks[:1])))
            print(f"{name:<14}" + "".join(f"{cell:>10.3f}" for cell in cells) + f"{sort / cells[0]:>17.1f}")


if __name__ == "__main__":
    main()
