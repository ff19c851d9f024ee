"""Eight requests at once: total tokens per second over one stream's, here and through ``create_completion``.

    python make_large_gguf.py large.gguf
    python batching.py large.gguf --threads 2 [--llama-batched-bench PATH]

Requests that run at once share steps; ``create_completion`` takes one after the other. Every request has its own
prompt. Times include the prompts. All sides run in turns, ``--rounds`` times; the medians are compared.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import enginebay

PROMPT_TOKENS = 32


def prompts(count: int) -> list[list[int]]:
    return [list(range(1000 * (i + 1), 1000 * (i + 1) + PROMPT_TOKENS)) for i in range(count)]


def rate(run: Callable[[Sequence[list[int]]], int], count: int) -> float:
    """Generated tokens per second, all requests together."""
    began = time.perf_counter()
    return run(prompts(count)) / (time.perf_counter() - began)


def batched_bench(binary: Path, path: Path, threads: int, tokens: int, count: int) -> dict[int, float]:
    """Tokens per second of generation by number of sequences, from llama.cpp's own benchmark."""
    command = [str(binary), "-m", str(path), "-t", str(threads), "-c", "8192", "-npp", str(PROMPT_TOKENS)]
    command += ["-ntg", str(tokens), "-npl", f"1,{count}", "--output-format", "jsonl"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    rows = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    return {int(row["pl"]): float(row["pl"]) * tokens / float(row["t"]) for row in rows}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--sequences", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--llama-batched-bench", type=Path)
    arguments = parser.parse_args()
    tokens, threads, count = arguments.tokens, arguments.threads, arguments.sequences

    from llama_cpp import Llama

    settings = {"threads": threads}
    model = enginebay.open(
        arguments.model, engine="llamacpp", context_tokens=1024, sequences=count, options=settings, isolation="inline"
    )
    path = model.info.path
    library: Any = Llama(str(path), n_ctx=1024, n_threads=threads, n_threads_batch=threads, verbose=False)
    pool = ThreadPoolExecutor(count)

    def one(prompt: list[int]) -> int:
        result = model.generate(prompt, max_tokens=tokens, temperature=0, ignore_end=True, cache_prompt=False)
        return len(result.tokens)

    def at_once(given: Sequence[list[int]]) -> int:
        return sum(pool.map(one, given))

    def in_a_row(given: Sequence[list[int]]) -> int:
        total = 0
        for prompt in given:
            library.reset()
            result = library.create_completion(prompt, max_tokens=tokens, temperature=0)
            total += int(result["usage"]["completion_tokens"])
        return total

    measured: dict[str, list[tuple[float, float]]] = {"enginebay": [], "create_completion": []}
    for _ in range(arguments.rounds):
        measured["enginebay"].append((rate(at_once, 1), rate(at_once, count)))
        measured["create_completion"].append((rate(in_a_row, 1), rate(in_a_row, count)))
        if arguments.llama_batched_bench:
            found = batched_bench(arguments.llama_batched_bench, path, threads, tokens, count)
            measured.setdefault("llama-batched-bench", []).append((found[1], found[count]))
    model.close()
    for name, pairs in measured.items():
        single = statistics.median(pair[0] for pair in pairs)
        many = statistics.median(pair[1] for pair in pairs)
        print(f"{name:20} 1: {single:7.1f} tokens/s   {count}: {many:7.1f} tokens/s   ratio {many / single:.2f}")


if __name__ == "__main__":
    main()
