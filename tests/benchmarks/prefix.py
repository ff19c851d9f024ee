"""What prefix reuse gives: time to first token of a second request that shares a long prefix, over the first's.

    python tests/benchmarks/prefix.py [REFERENCE] [--engine ENGINE] [--prefix N]

Also prints the longest gap between two tokens of one stream while a long prompt joins, over an ordinary step.
"""

from __future__ import annotations

import argparse
import itertools
import random
import statistics
import threading
import time

import enginebay

ROUNDS = 5


def first_token_seconds(model: enginebay.Model, prompt: list[int]) -> float:
    began = time.perf_counter()
    model.generate(prompt, max_tokens=1, temperature=0)
    return time.perf_counter() - began


def gaps(model: enginebay.Model, prompt: list[int], tokens: int, arrived: list[float]) -> None:
    for chunk in model.stream(prompt, max_tokens=tokens, temperature=0, ignore_end=True, cache_prompt=False):
        arrived.extend(time.perf_counter() for _ in chunk.tokens)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("reference", nargs="?", default="demo")
    parser.add_argument("--engine", default="llamacpp")
    parser.add_argument("--prefix", type=int, default=1000)
    parser.add_argument("--tokens", type=int, default=200, help="length of the stream that a long prompt joins")
    given = parser.parse_args()
    draw = random.Random(0)
    with enginebay.open(given.reference, engine=given.engine, isolation="inline") as model:
        tokens = [
            token for token in range(min(700, model.info.vocabulary_tokens)) if token not in model.info.end_tokens
        ]
        ratios = []
        for _ in range(ROUNDS):
            shared = draw.choices(tokens, k=given.prefix)
            first = first_token_seconds(model, [*shared, *draw.choices(tokens, k=8)])
            second = first_token_seconds(model, [*shared, *draw.choices(tokens, k=8)])
            ratios.append(second / first)
            print(f"first {first * 1000:8.1f} ms   second {second * 1000:8.1f} ms   ratio {ratios[-1]:.3f}")
        print(
            f"time to first token with {given.prefix} shared tokens, second over first: {statistics.median(ratios):.3f}"
        )
        arrived: list[float] = []
        reader = threading.Thread(target=gaps, args=(model, draw.choices(tokens, k=8), given.tokens, arrived))
        reader.start()
        while len(arrived) < given.tokens // 4:
            time.sleep(0.001)
        joined = time.perf_counter()
        first_token_seconds(model, draw.choices(tokens, k=min(4000, model.info.context_tokens - 8)))
        reader.join()
        steps = [(later - earlier, later) for earlier, later in itertools.pairwise(arrived)]
        ordinary = statistics.median(gap for gap, when in steps if when < joined)
        during = sorted(gap for gap, when in steps if when >= joined)
        print(
            f"ordinary step {ordinary * 1000:.2f} ms; while a long prompt joins: median {statistics.median(during) * 1000:.2f}, "
            f"95th percentile {during[int(0.95 * len(during))] * 1000:.2f}, longest {during[-1] * 1000:.2f} ms "
            f"({during[-1] / ordinary:.1f} ordinary steps)"
        )


if __name__ == "__main__":
    main()
