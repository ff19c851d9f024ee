"""Tokens per second of one greedy stream beside MNN's own ``generate``, with the same settings and the prompt included.

    python throughput.py [FOLDER] [--preset exact|fast] [--threads N]

Both stop at the end token.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from enginebay.testing.sides import Round, compare

PROMPT = "Once upon a time there was a fox who lived in a small village."
FIGURE = "one stream"


def rate(run: Callable[[], int]) -> dict[str, float]:
    began = time.perf_counter()
    return {FIGURE: run() / (time.perf_counter() - began)}


def prompt_of(folder: Path) -> list[int]:
    from enginebay_mnn.files import check_folder

    return check_folder(folder).tokenizer.encoder().encode(PROMPT, False)


def mnn(given: argparse.Namespace) -> Round:
    from enginebay_mnn.native import library, quietly

    level = "high" if given.preset == "exact" else "low"
    settings = {"precision": level, "memory": level, "thread_num": given.threads, "sampler_type": "greedy"}
    model: Any = quietly(library().create, str(given.folder / "config.json"))._c_obj
    model.set_config(json.dumps(settings))
    quietly(model.load)
    prompt = prompt_of(given.folder)

    def run() -> int:
        model.reset()
        model.generate_init(None, None)
        return len(quietly(model.generate, prompt, given.tokens))

    return lambda: rate(run)


def ours(given: argparse.Namespace) -> Round:
    import enginebay

    options = {"preset": given.preset, "threads": given.threads}
    model = enginebay.open(given.folder, engine="mnn", isolation=given.isolation, options=options)
    prompt = prompt_of(given.folder)

    def run() -> int:
        result = model.generate(prompt, max_tokens=given.tokens, temperature=0, cache_prompt=False)
        return len(result.tokens)

    return lambda: rate(run)


def main() -> None:
    import enginebay_demo

    demo = Path(enginebay_demo.__file__).parent / "models" / "mnn"
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path, default=demo)
    parser.add_argument("--preset", choices=("exact", "fast"), default="exact")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--tokens", type=int, default=256)
    parser.add_argument("--isolation", choices=("inline", "process"), default="process")
    compare(parser, {"enginebay": ours, "MNN generate": mnn}, rounds=7)


if __name__ == "__main__":
    main()
