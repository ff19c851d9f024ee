"""Tokens per second beside mlx-lm alone: one greedy stream, and eight at once, with their prompts.

    python throughput.py [MODEL_FOLDER] [--tokens N]

Sides: enginebay in the model's own number format, as mlx-lm computes; ``mlx_lm.stream_generate``; and
``mlx_lm.batch_generate`` for eight at once.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from enginebay.testing.sides import Round, compare

PROMPTS = [f"{'Once upon a time ' * number}there was a small rabbit." for number in range(1, 9)]
ONE, MANY = "one stream", f"{len(PROMPTS)} at once"


def rate(run: Callable[[], int]) -> float:
    began = time.perf_counter()
    return run() / (time.perf_counter() - began)


def ours(given: argparse.Namespace) -> Round:
    import enginebay

    model = enginebay.open(str(given.folder), engine="mlx", isolation="inline", options={"precision": "model"})
    pool = ThreadPoolExecutor(len(PROMPTS))

    def one(prompt: str) -> int:
        options: Any = {"max_tokens": given.tokens, "temperature": 0, "ignore_end": True, "cache_prompt": False}
        return sum(len(chunk.tokens) for chunk in model.stream(prompt, **options))

    return lambda: {ONE: rate(lambda: one(PROMPTS[0])), MANY: rate(lambda: sum(pool.map(one, PROMPTS)))}


def loaded(given: argparse.Namespace) -> tuple[Any, Any, list[list[int]]]:
    from mlx_lm import load

    model, tokenizer = load(str(given.folder))[:2]
    tokenizer.eos_token_ids = set()
    return model, tokenizer, [tokenizer.encode(prompt, add_special_tokens=False) for prompt in PROMPTS]


def stream_generate(given: argparse.Namespace) -> Round:
    from mlx_lm import stream_generate as generate

    model, tokenizer, prompts = loaded(given)
    return lambda: {ONE: rate(lambda: sum(1 for _ in generate(model, tokenizer, prompts[0], max_tokens=given.tokens)))}


def batch_generate(given: argparse.Namespace) -> Round:
    from mlx_lm import batch_generate as generate

    model, tokenizer, prompts = loaded(given)

    def many() -> int:
        made = generate(model, tokenizer, prompts, max_tokens=given.tokens, return_token_ids=True)
        return sum(map(len, made.token_ids or []))

    return lambda: {MANY: rate(many)}


def main() -> None:
    import enginebay_demo

    demo = Path(enginebay_demo.__file__).parent / "models" / "mlx"
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path, default=demo)
    parser.add_argument("--tokens", type=int, default=256)
    compare(
        parser,
        {"enginebay": ours, "stream_generate": stream_generate, "batch_generate": batch_generate},
        rounds=7,
    )


if __name__ == "__main__":
    main()
