"""Tokens per second beside the engine alone: one stream, and eight at once.

    python make_large_gguf.py large.gguf
    python build_llama_tools.py tools
    python throughput.py large.gguf --threads 2 [--tools tools/bin]

Sides: enginebay, llama-cpp-python's ``create_completion``, and llama.cpp's own ``llama-bench`` and ``llama-batched-bench`` if
their folder is given. One stream is measured without its prompt (the time for the prompt and one token is taken off), as
``llama-bench`` does; eight at once with their prompts, as ``llama-batched-bench`` does. ``--beside`` opens a second model in
enginebay's process, which then is idle.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from enginebay.testing.sides import Round, Side, compare

PROMPT_TOKENS = 32
CONTEXT_TOKENS = 1024
SEQUENCES = 8
ONE, MANY = "one stream", f"{SEQUENCES} at once"


def prompt(number: int) -> list[int]:
    return list(range(1000 * (number + 1), 1000 * (number + 1) + PROMPT_TOKENS))


def rate(run: Callable[[int], int], tokens: int) -> float:
    """Tokens per second after the first."""
    began = time.perf_counter()
    run(1)
    first = time.perf_counter()
    made = run(tokens)
    return (made - 1) / (time.perf_counter() - first - (first - began))


def ours(given: argparse.Namespace) -> Round:
    import enginebay

    settings: dict[str, Any] = {
        "engine": "llamacpp",
        "context_tokens": CONTEXT_TOKENS,
        "sequences": SEQUENCES,
        "options": {"threads": given.threads},
        "isolation": given.isolation,
    }
    model = enginebay.open(given.model, **settings)
    if given.beside:
        enginebay.open(given.model, **settings).generate(prompt(0), max_tokens=4)
    pool = ThreadPoolExecutor(SEQUENCES)

    def one(number: int, tokens: int) -> int:
        options: Any = {"max_tokens": tokens, "temperature": 0, "ignore_end": True, "cache_prompt": False}
        return len(model.generate(prompt(number), **options).tokens)

    def figures() -> dict[str, float]:
        single = rate(lambda tokens: one(0, tokens), given.tokens)
        began = time.perf_counter()
        made = sum(pool.map(one, range(SEQUENCES), [given.tokens] * SEQUENCES))
        return {ONE: single, MANY: made / (time.perf_counter() - began)}

    return figures


def completion(given: argparse.Namespace) -> Round:
    from llama_cpp import Llama

    threads = given.threads
    model: Any = Llama(
        str(given.model), n_ctx=CONTEXT_TOKENS, n_threads=threads, n_threads_batch=threads, verbose=False
    )

    def one(number: int, tokens: int) -> int:
        model.reset()
        result = model.create_completion(prompt(number), max_tokens=tokens, temperature=0)
        return int(result["usage"]["completion_tokens"])

    def figures() -> dict[str, float]:
        single = rate(lambda tokens: one(0, tokens), given.tokens)
        began = time.perf_counter()
        made = sum(one(number, given.tokens) for number in range(SEQUENCES))
        return {ONE: single, MANY: made / (time.perf_counter() - began)}

    return figures


def tool(given: argparse.Namespace, name: str, *arguments: str) -> list[dict[str, Any]]:
    """What one of llama.cpp's programs says, as lines of JSON."""
    command = [str(given.tools / name), "-m", str(given.model), "-t", str(given.threads), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


def llama_bench(given: argparse.Namespace) -> Round:
    arguments = f"-p 0 -n {given.tokens} -d {PROMPT_TOKENS} -r 1 -o jsonl".split()
    return lambda: {ONE: float(tool(given, "llama-bench", *arguments)[0]["avg_ts"])}


def llama_batched_bench(given: argparse.Namespace) -> Round:
    arguments = f"-c {CONTEXT_TOKENS * SEQUENCES} -npp {PROMPT_TOKENS} -ntg {given.tokens} -npl {SEQUENCES}"

    def figures() -> dict[str, float]:
        row = tool(given, "llama-batched-bench", *arguments.split(), "--output-format", "jsonl")[0]
        return {MANY: SEQUENCES * given.tokens / float(row["t"])}

    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--tools", type=Path, help="the folder of llama-bench and llama-batched-bench")
    parser.add_argument("--isolation", choices=("inline", "process"), default="inline")
    parser.add_argument("--beside", action="store_true", help="with a second, idle model in enginebay's process")
    sides: dict[str, Side] = {"enginebay": ours, "create_completion": completion}
    if parser.parse_known_args()[0].tools:
        sides |= {"llama-bench": llama_bench, "llama-batched-bench": llama_batched_bench}
    compare(parser, sides)


if __name__ == "__main__":
    main()
