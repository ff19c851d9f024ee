"""What a worker costs: tokens per second of ``process`` over ``inline``, both sides in turns in one run.

    python tests/benchmarks/isolation.py [REFERENCE] [--engine ENGINE] [--tokens N] [--rounds N]

Also prints the time from a switch to its first token beside that of a plain load.
"""

from __future__ import annotations

import argparse
import statistics
import time

import enginebay
from enginebay.bay import Bay


def rate(model: enginebay.Model, tokens: int) -> float:
    began = time.perf_counter()
    count = sum(
        len(chunk.tokens)
        for chunk in model.stream(
            "Once upon a time", max_tokens=tokens, temperature=0, ignore_end=True, cache_prompt=False
        )
    )
    return count / (time.perf_counter() - began)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("reference", nargs="?", default="demo")
    parser.add_argument("--engine", default="llamacpp")
    parser.add_argument("--tokens", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=7)
    given = parser.parse_args()
    with (
        enginebay.open(given.reference, engine=given.engine, isolation="inline", sequences=1) as inline,
        enginebay.open(given.reference, engine=given.engine, isolation="process", sequences=1) as process,
    ):
        ratios = []
        for turn in range(given.rounds + 1):
            sides = [rate(inline, given.tokens), rate(process, given.tokens)]
            if turn:  # the first round warms up
                ratios.append(sides[1] / sides[0])
                print(f"inline {sides[0]:8.1f} tokens/s   process {sides[1]:8.1f} tokens/s   ratio {ratios[-1]:.3f}")
    print(f"process over inline, median of {given.rounds}: {statistics.median(ratios):.3f}")

    def first_token(model: enginebay.Model) -> None:
        model.generate("Once", max_tokens=1)

    began = time.perf_counter()
    with enginebay.open(given.reference, engine=given.engine, isolation="process") as model:
        first_token(model)
        plain = time.perf_counter() - began
    with Bay(enginebay.Config(isolation="process")) as bay:
        bay.load("echo", "echo")
        began = time.perf_counter()
        bay.switch(model=given.reference, engine=given.engine)
        with bay.use() as model:
            first_token(model)
        switched = time.perf_counter() - began
    print(f"load to first token: plain {plain:.2f} s, as a switch {switched:.2f} s")


if __name__ == "__main__":
    main()
