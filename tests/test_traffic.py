"""On real engines too, output with prefix reuse, neighbours, cancels and seeds is the output alone."""

from __future__ import annotations

import os
import random
import threading
from typing import Any

from engines import PROMPTS

import enginebay

REQUESTS = int(os.environ.get("ENGINEBAY_TEST_REQUESTS", "80"))
"""Requests for each engine; 2,000 in a long run."""
READERS = 8


def test_traffic(model: enginebay.Model) -> None:
    draw = random.Random(12)
    stories = [model.generate(prompt, max_tokens=80, seed=1).tokens for prompt in PROMPTS[:4]]
    kinds: list[tuple[tuple[int, ...], dict[str, Any]]] = []
    for i in range(24):
        which = draw.randrange(4)
        prompt = (*model.prompt_tokens(PROMPTS[which]), *stories[which][: draw.randrange(1, len(stories[which]))])
        kinds.append((prompt, {"temperature": draw.choice([0.0, 0.8]), "seed": i, "max_tokens": draw.randint(1, 40)}))
    alone = [model.generate(prompt, cache_prompt=False, **options).tokens for prompt, options in kinds]
    left, wrong, lock = iter(range(REQUESTS)), [], threading.Lock()

    def reader(seed: int) -> None:
        chance = random.Random(seed)
        while True:
            with lock:
                if next(left, None) is None:
                    return
            which = chance.randrange(len(kinds))
            prompt, options = kinds[which]
            stop_after = chance.choice([None, None, None, chance.randrange(1, 10)])
            tokens: list[int] = []
            with model.stream(prompt, cache_prompt=chance.random() < 0.9, **options) as stream:
                for chunk in stream:
                    tokens.extend(chunk.tokens)
                    if stop_after is not None and len(tokens) >= stop_after:
                        break
                else:
                    stop_after = None
            expected = alone[which] if stop_after is None else alone[which][: len(tokens)]
            if tuple(tokens) != expected:
                wrong.append((which, tokens, expected))

    threads = [threading.Thread(target=reader, args=(seed,)) for seed in range(READERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong, (len(wrong), wrong[0])
