"""What structured output costs on a large vocabulary: tokens per second with a JSON Schema over without, one run.

    python make_large_gguf.py large.gguf
    python constrained.py large.gguf --threads 2

Beside it: llama.cpp's own grammar sampler in a bare loop over its C functions, and ``create_completion`` of llama-cpp-python
with its grammar, each over the same without. Then what compiling costs (a small, a large and a hostile schema), and the
time to the first token with a schema that is new, one that is known, and none. All sides run in turns; medians are compared.
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

from attrs import frozen

import enginebay
from enginebay.errors import GrammarError

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
HOSTILE: dict[str, Any] = {"type": "string", "pattern": "^(((a{1,1000}){1,1000}){1,1000})$"}
# A long string keeps a model of random weights inside the schema until its tokens are spent.
LONG = {"type": "object", "properties": {"name": {"type": "string", "minLength": 10_000}}, "required": ["name"]}
GBNF = 'root ::= "{\\"name\\": \\"" [^"\\\\\\x7F\\x00-\\x1F]{2000} "\\"}"'
PROMPT_TOKENS = 32


@frozen
class Side:
    """One way to generate: at how many sequences, and with or without a constraint."""

    name: str
    sequences: int
    run: Callable[[bool], int]


def prompt(number: int) -> list[int]:
    return list(range(1000 * (number + 1), 1000 * (number + 1) + PROMPT_TOKENS))


def ours(model: enginebay.Model, sequences: int, tokens: int, pool: ThreadPoolExecutor) -> Callable[[bool], int]:
    def one(number: int, constrained: bool) -> int:
        result = model.generate(
            prompt(number),
            max_tokens=tokens,
            temperature=0,
            cache_prompt=False,
            constraint=enginebay.JsonSchema(LONG) if constrained else None,
            ignore_end=not constrained,
        )
        return len(result.tokens)

    return lambda constrained: sum(pool.map(one, range(sequences), [constrained] * sequences))


def bare(native: Any, path: str, threads: int, tokens: int) -> Callable[[bool], int]:
    """llama.cpp's greedy sampler, with its grammar sampler before it, over ``llama_decode``."""
    params = native.llama_context_default_params()
    params.n_ctx, params.n_threads, params.n_threads_batch = 1024, threads, threads
    model = native.llama_model_load_from_file(path.encode(), native.llama_model_default_params())
    context = native.llama_init_from_model(model, params)
    vocabulary = native.llama_model_get_vocab(model)

    def run(constrained: bool) -> int:
        native.llama_memory_clear(native.llama_get_memory(context), True)
        chain = native.llama_sampler_chain_init(native.llama_sampler_chain_default_params())
        if constrained:
            native.llama_sampler_chain_add(chain, native.llama_sampler_init_grammar(vocabulary, GBNF.encode(), b"root"))
        native.llama_sampler_chain_add(chain, native.llama_sampler_init_greedy())
        batch = (native.llama_token * PROMPT_TOKENS)(*prompt(0))
        native.llama_decode(context, native.llama_batch_get_one(batch, PROMPT_TOKENS))
        token = (native.llama_token * 1)()
        for _ in range(tokens):
            token[0] = native.llama_sampler_sample(chain, context, -1)
            native.llama_decode(context, native.llama_batch_get_one(token, 1))
        native.llama_sampler_free(chain)
        return tokens

    return run


def completion(path: str, threads: int, tokens: int) -> Callable[[bool], int]:
    from llama_cpp import Llama, LlamaGrammar

    model: Any = Llama(path, n_ctx=1024, n_threads=threads, n_threads_batch=threads, verbose=False)
    grammar = LlamaGrammar.from_string(GBNF, verbose=False)

    def run(constrained: bool) -> int:
        model.reset()
        done = model.create_completion(
            prompt(0), max_tokens=tokens, temperature=0, grammar=grammar if constrained else None
        )
        return int(done["usage"]["completion_tokens"])

    return run


def speed(sides: list[Side], rounds: int) -> None:
    rates: dict[tuple[str, int, bool], list[float]] = {}
    for turn in range(rounds + 1):
        for side in sides if turn % 2 else reversed(sides):
            for constrained in (False, True):
                began = time.perf_counter()
                made = side.run(constrained)
                if turn:  # the first round warms up
                    key = side.name, side.sequences, constrained
                    rates.setdefault(key, []).append(made / (time.perf_counter() - began))
    print(f"{'':34}{'without':>9}{'with':>9}   tokens/s, prompts included")
    for side in sides:
        free, bound = (rates[side.name, side.sequences, constrained] for constrained in (False, True))
        ratio = statistics.median(b / a for a, b in zip(free, bound, strict=True))
        name = f"{side.name}, {side.sequences} at once"
        print(f"{name:34}{statistics.median(free):9.1f}{statistics.median(bound):9.1f}   ratio {ratio:.3f}")


def compiling(model: enginebay.Model) -> None:
    """Seconds until a schema can be used, or is refused."""
    for name, schema in {"small": PERSON, "large": LARGE, "hostile": HOSTILE}.items():
        began = time.perf_counter()
        try:
            model.compile(enginebay.JsonSchema(schema))
            outcome = "compiled"
        except GrammarError as error:
            outcome = f"refused: {error.message[:60]}"
        size = len(json.dumps(schema))
        print(f"schema, {name:8} {size:7,} bytes {(time.perf_counter() - began) * 1000:9.1f} ms   {outcome}")


def first_token(model: enginebay.Model, rounds: int) -> None:
    """Milliseconds to the first token of a prompt, with a schema and without."""
    times: dict[str, list[float]] = {"no schema": [], "a new schema": [], "a known schema": []}
    for turn in range(rounds):
        schema = {**PERSON, "title": f"turn {turn}", "required": ["name"], "maxProperties": 3 + turn}
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
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    tokens, threads, path = arguments.tokens, arguments.threads, arguments.model
    from enginebay_llamacpp import library

    native = library.load()
    native.llama_token = ctypes.c_int32
    settings: dict[str, Any] = {"context_tokens": 1024, "isolation": "inline", "options": {"threads": threads}}
    with enginebay.open(path, engine="llamacpp", sequences=8, **settings) as model, ThreadPoolExecutor(8) as pool:
        began = time.perf_counter()
        model.compile(enginebay.Regex("a"))
        print(f"vocabulary of {model.info.vocabulary_tokens:,} prepared in {time.perf_counter() - began:.2f} s")
        compiling(model)
        first_token(model, arguments.rounds)
        speed(
            [
                *(Side("enginebay", n, ours(model, n, tokens, pool)) for n in (1, 8)),
                Side("llama.cpp's sampler", 1, bare(native, path, threads, tokens)),
                Side("create_completion", 1, completion(path, threads, tokens)),
            ],
            arguments.rounds,
        )


if __name__ == "__main__":
    main()
