"""One stream: tokens per second here, of llama-cpp-python's ``create_completion``, and of ``llama-bench``.

    python make_large_gguf.py large.gguf
    python single_stream.py large.gguf --threads 2 [--llama-bench PATH]

All sides run in turns on the same file, threads and lengths, ``--rounds`` times; the medians are compared. A rate is
that of the tokens after the first: the time for the prompt and one token is measured as well and taken off.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import enginebay

PROMPT_TOKENS = 32


def ours(path: Path, threads: int) -> tuple[enginebay.Model, Callable[[int], int]]:
    model = enginebay.open(path, engine="llamacpp", context_tokens=1024, sequences=1, options={"threads": threads})
    prompt = list(range(1000, 1000 + PROMPT_TOKENS))

    def run(tokens: int) -> int:
        result = model.generate(prompt, max_tokens=tokens, temperature=0, ignore_end=True, cache_prompt=False)
        return len(result.tokens)

    return model, run


def peer(path: Path, threads: int) -> Callable[[int], int]:
    from llama_cpp import Llama

    model: Any = Llama(str(path), n_ctx=1024, n_threads=threads, n_threads_batch=threads, verbose=False)
    prompt = list(range(1000, 1000 + PROMPT_TOKENS))

    def run(tokens: int) -> int:
        model.reset()
        result = model.create_completion(prompt, max_tokens=tokens, temperature=0)
        return int(result["usage"]["completion_tokens"])

    return run


def rate(run: Callable[[int], int], tokens: int) -> float:
    """Tokens per second after the first."""
    began = time.perf_counter()
    run(1)
    first = time.perf_counter()
    made = run(tokens)
    return (made - 1) / (time.perf_counter() - first - (first - began))


def bench(binary: Path, path: Path, threads: int, tokens: int) -> float:
    command = [str(binary), "-m", str(path), "-t", str(threads), "-p", "0", "-n", str(tokens), "-r", "1", "-o", "json"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(json.loads(done.stdout)[-1]["avg_ts"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--llama-bench", type=Path)
    arguments = parser.parse_args()
    tokens, threads = arguments.tokens, arguments.threads
    model, here = ours(arguments.model, threads)
    there = peer(arguments.model, threads)
    sides: dict[str, Callable[[], float]] = {
        "enginebay": lambda: rate(here, tokens),
        "create_completion": lambda: rate(there, tokens),
    }
    if arguments.llama_bench:
        sides["llama-bench"] = lambda: bench(arguments.llama_bench, arguments.model, threads, tokens)
    measured: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(arguments.rounds):
        for name in sorted(sides, reverse=bool(number % 2)):
            measured[name].append(sides[name]())
    model.close()
    own = statistics.median(measured["enginebay"])
    for name, rates in measured.items():
        median = statistics.median(rates)
        spread = f"{min(rates):.1f} to {max(rates):.1f}"
        print(f"{name:18} {median:8.1f} tokens/s  ({spread})   enginebay over it: {own / median:.3f}")


if __name__ == "__main__":
    main()
