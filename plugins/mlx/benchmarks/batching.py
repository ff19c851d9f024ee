"""Tokens per second of eight greedy streams at once: enginebay over one stream, and over mlx_lm.batch_generate.

Run: python batching.py [MODEL_FOLDER]
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

PROMPTS = [f"{'Once upon a time ' * number}there was a small rabbit." for number in range(1, 9)]
TOKENS = 128
Round = Callable[[], tuple[int, float]]


def ours(folder: Path) -> Round:
    return streams(folder, PROMPTS)


def alone(folder: Path) -> Round:
    return streams(folder, PROMPTS[:1])


def streams(folder: Path, prompts: list[str]) -> Round:
    import enginebay

    model = enginebay.open(str(folder), engine="mlx")

    def one_round() -> tuple[int, float]:
        counts: list[int] = []

        def run(prompt: str) -> None:
            stream = model.stream(prompt, max_tokens=TOKENS, temperature=0, ignore_end=True, cache_prompt=False)
            counts.append(sum(len(chunk.tokens) for chunk in stream))

        threads = [threading.Thread(target=run, args=(prompt,)) for prompt in prompts]
        began = time.perf_counter()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return sum(counts), time.perf_counter() - began

    return one_round


def peer(folder: Path) -> Round:
    from mlx_lm import batch_generate, load

    model, tokenizer = load(str(folder))[:2]
    tokenizer.eos_token_ids = set()
    prompts = [tokenizer.encode(prompt, add_special_tokens=False) for prompt in PROMPTS]

    def one_round() -> tuple[int, float]:
        began = time.perf_counter()
        made = batch_generate(model, tokenizer, prompts, max_tokens=TOKENS, return_token_ids=True)
        assert made.token_ids
        return sum(map(len, made.token_ids)), time.perf_counter() - began

    return one_round


if __name__ == "__main__":
    from sides import main

    main(__file__, {"ours": "enginebay, 8 streams", "alone": "enginebay, 1 stream", "peer": "mlx_lm.batch_generate"})
