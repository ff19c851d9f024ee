"""What structured output costs on a large vocabulary: tokens per second with a JSON Schema over without.

    python make_large_gguf.py large.gguf
    python constrained.py large.gguf --threads 2

Beside it: llama.cpp's own grammar sampler in a bare loop over its C functions, and ``create_completion`` of llama-cpp-python
with its grammar, each over the same without; prompts are included. Then what compiling costs (a small, a large and two hostile
schemas), and the time to the first token with a schema that is new, one that is known, and none.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import enginebay
from enginebay.errors import GrammarError
from enginebay.testing.sides import Round, compare

PERSON: dict[str, Any] = {
    "type": "object",
    "properties": {
        "name": {"type": "string"},
        "age": {"type": "integer", "minimum": 0, "maximum": 150},
        "tags": {"type": "array", "items": {"enum": ["red", "green", "blue"]}},
        "address": {"type": "object", "properties": {"street": {"type": "string"}, "city": {"type": "string"}}},
    },
    "required": ["name", "age"],
    "additionalProperties": False,
}
LARGE: dict[str, Any] = {
    "type": "object",
    "properties": {f"section{i}": {"$ref": f"#/$defs/part{i % 20}"} for i in range(100)},
    "$defs": {f"part{i}": {**PERSON, "title": f"part {i}"} for i in range(20)},
}
CHAIN: dict[str, Any] = {
    "$ref": "#/$defs/link0",
    "$defs": {f"link{i}": {"$ref": f"#/$defs/link{i + 1}"} for i in range(3_000)} | {"link3000": {"type": "null"}},
}
EXPLODING: dict[str, Any] = {"type": "string", "pattern": "^((a|b)*a(a|b){20}){1,9}$"}
# A long string keeps a model of random weights inside the schema until its tokens are spent.
LONG = {"type": "object", "properties": {"name": {"type": "string", "minLength": 10_000}}, "required": ["name"]}
GBNF = 'root ::= "{\\"name\\": \\"" [^"\\\\\\x7F\\x00-\\x1F]{2000} "\\"}"'
PROMPT_TOKENS = 32


Run = Callable[[bool], int]
"""Generates with or without the constraint; returns how many tokens."""


def prompt(number: int) -> list[int]:
    return list(range(1000 * (number + 1), 1000 * (number + 1) + PROMPT_TOKENS))


def figures_of(runs: dict[str, Run]) -> dict[str, float]:
    """Tokens per second without and with, and with over without, for each way to run."""
    figures = {}
    for name, run in runs.items():
        rates = []
        for constrained in (False, True):
            began = time.perf_counter()
            rates.append(run(constrained) / (time.perf_counter() - began))
        figures |= {f"{name}, free": rates[0], f"{name}, bound": rates[1], f"{name}, bound/free": rates[1] / rates[0]}
    return figures


def opened(given: argparse.Namespace) -> enginebay.Model:
    options = {"threads": given.threads}
    return enginebay.open(
        given.model, engine="llamacpp", sequences=8, context_tokens=1024, isolation="inline", options=options
    )


def ours(given: argparse.Namespace) -> Round:
    model, pool = opened(given), ThreadPoolExecutor(8)

    def one(number: int, constrained: bool) -> int:
        result = model.generate(
            prompt(number),
            max_tokens=given.tokens,
            temperature=0,
            cache_prompt=False,
            constraint=enginebay.JsonSchema(LONG) if constrained else None,
            ignore_end=not constrained,
        )
        return len(result.tokens)

    def eight(constrained: bool) -> int:
        return sum(pool.map(one, range(8), [constrained] * 8))

    return lambda: figures_of({"1 at once": lambda constrained: one(0, constrained), "8 at once": eight})


def llama_sampler(given: argparse.Namespace) -> Round:
    """llama.cpp's greedy sampler, with its grammar sampler before it, over ``llama_decode``."""
    from llama_cpp import llama_cpp as native

    params = native.llama_context_default_params()
    params.n_ctx, params.n_threads, params.n_threads_batch = 1024, given.threads, given.threads
    model = native.llama_model_load_from_file(given.model.encode(), native.llama_model_default_params())
    context = native.llama_init_from_model(model, params)
    vocabulary = native.llama_model_get_vocab(model)

    def run(constrained: bool) -> int:
        native.llama_memory_clear(native.llama_get_memory(context), True)
        chain = native.llama_sampler_chain_init(native.llama_sampler_chain_default_params())
        if constrained:
            native.llama_sampler_chain_add(chain, native.llama_sampler_init_grammar(vocabulary, GBNF.encode(), b"root"))
        native.llama_sampler_chain_add(chain, native.llama_sampler_init_greedy())
        batch = (ctypes.c_int32 * PROMPT_TOKENS)(*prompt(0))
        native.llama_decode(context, native.llama_batch_get_one(batch, PROMPT_TOKENS))
        token = (ctypes.c_int32 * 1)()
        for _ in range(given.tokens):
            token[0] = native.llama_sampler_sample(chain, context, -1)
            native.llama_decode(context, native.llama_batch_get_one(token, 1))
        native.llama_sampler_free(chain)
        return int(given.tokens)

    return lambda: figures_of({"1 at once": run})


def completion(given: argparse.Namespace) -> Round:
    from llama_cpp import Llama, LlamaGrammar

    threads = given.threads
    model: Any = Llama(given.model, n_ctx=1024, n_threads=threads, n_threads_batch=threads, verbose=False)
    grammar = LlamaGrammar.from_string(GBNF, verbose=False)

    def run(constrained: bool) -> int:
        model.reset()
        bound = grammar if constrained else None
        done = model.create_completion(prompt(0), max_tokens=given.tokens, temperature=0, grammar=bound)
        return int(done["usage"]["completion_tokens"])

    return lambda: figures_of({"1 at once": run})


def once(given: argparse.Namespace) -> None:
    """What compiling costs, and the time to the first token."""
    with opened(given) as model:
        began = time.perf_counter()
        model.compile(enginebay.Regex("a"))
        print(f"vocabulary of {model.info.vocabulary_tokens:,} prepared in {time.perf_counter() - began:.2f} s")
        compiling(model)
        first_token(model, given.rounds)


def compiling(model: enginebay.Model) -> None:
    """Seconds until a schema can be used, or is refused."""
    for name, schema in {"small": PERSON, "large": LARGE, "a chain": CHAIN, "exploding": EXPLODING}.items():
        began = time.perf_counter()
        try:
            model.compile(enginebay.JsonSchema(schema))
            outcome = "compiled"
        except GrammarError as error:
            outcome = f"refused: {error.message[:60]}"
        size = len(json.dumps(schema))
        print(f"schema, {name:10} {size:7,} bytes {(time.perf_counter() - began) * 1000:9.1f} ms   {outcome}")


def first_token(model: enginebay.Model, rounds: int) -> None:
    """Milliseconds to the first token of a prompt, with a schema and without."""
    times: dict[str, list[float]] = {"no schema": [], "a new schema": [], "a known schema": []}
    for turn in range(rounds):
        schema = {**PERSON, "properties": {**PERSON["properties"], "age": {"type": "integer", "maximum": 100 + turn}}}
        for name, spent in times.items():
            constraint = None if name == "no schema" else enginebay.JsonSchema(schema)
            began = time.perf_counter()
            model.generate(prompt(turn), max_tokens=1, temperature=0, cache_prompt=False, constraint=constraint)
            spent.append(time.perf_counter() - began)
    for name, spent in times.items():
        print(f"first token, {name:16} {statistics.median(spent) * 1000:9.1f} ms")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--tokens", type=int, default=64)
    given = compare(parser, {"enginebay": ours, "llama.cpp's sampler": llama_sampler, "create_completion": completion})
    once(given)


if __name__ == "__main__":
    main()
