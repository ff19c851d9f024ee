"""Tokens per second of one greedy stream: enginebay over mlx_lm.stream_generate.

Run: python single_stream.py [MODEL_FOLDER]
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

PROMPT = "Once upon a time there was a small rabbit who wanted to sing."
TOKENS = 256
Round = Callable[[], tuple[int, float]]


def ours(folder: Path) -> Round:
    import enginebay

    model = enginebay.open(str(folder), engine="mlx")

    def one_round() -> tuple[int, float]:
        began = time.perf_counter()
        stream = model.stream(PROMPT, max_tokens=TOKENS, temperature=0, ignore_end=True, cache_prompt=False)
        count = sum(len(chunk.tokens) for chunk in stream)
        return count, time.perf_counter() - began

    return one_round


def peer(folder: Path) -> Round:
    from mlx_lm import load, stream_generate

    model, tokenizer = load(str(folder))[:2]
    tokenizer.eos_token_ids = set()
    prompt = tokenizer.encode(PROMPT, add_special_tokens=False)

    def one_round() -> tuple[int, float]:
        began = time.perf_counter()
        count = sum(1 for _ in stream_generate(model, tokenizer, prompt, max_tokens=TOKENS))
        return count, time.perf_counter() - began

    return one_round


if __name__ == "__main__":
    from sides import main

    main(__file__, {"ours": "enginebay", "peer": "mlx_lm.stream_generate"})
