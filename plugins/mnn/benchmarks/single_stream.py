"""Tokens per second of one stream, over those of MNN's own ``generate`` with the same settings; prints both and the ratio.

    python single_stream.py [FOLDER] [--preset exact|fast] [--threads N] [--turns N]

Both sides take turns in one process, greedily, with the same prompt and as many tokens as MNN gives before it stops. The
time of a turn is that of the whole call; the median of the turns counts. Whether their tokens agreed is printed as well:
they do on a trained model, and may part at a tie on random weights.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from enginebay.data import GenerateRequest, LoadRequest, Sampling
from enginebay_mnn.native import library, quietly
from enginebay_mnn.options import Options
from enginebay_mnn.plugin import load

PROMPT = "Once upon a time there was a fox who lived in a small village."


def peer(folder: Path, options: Options, prompt: list[int]) -> Callable[[], tuple[float, list[int]]]:
    """MNN by itself."""
    level = "high" if options.preset == "exact" else "low"
    settings = {"precision": level, "memory": level, "thread_num": options.threads, "sampler_type": "greedy"}
    model: Any = quietly(library().create, str(folder / "config.json"))._c_obj
    model.set_config(json.dumps(settings))
    quietly(model.load)

    def turn() -> tuple[float, list[int]]:
        model.reset()
        model.generate_init(None, None)
        start = time.perf_counter()
        tokens = quietly(model.generate, prompt, 512)
        return len(tokens) / (time.perf_counter() - start), tokens

    return turn


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path, help="an exported folder (default: the demo model)")
    parser.add_argument("--preset", choices=("exact", "fast"), default="exact")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--turns", type=int, default=7)
    arguments = parser.parse_args()
    folder = arguments.folder
    if folder is None:
        import enginebay_demo

        folder = Path(enginebay_demo.__file__).parent / "models" / "mnn"
    options = Options(preset=arguments.preset, threads=arguments.threads)
    model = load(LoadRequest(folder, "mnn", options))
    prompt = model.tokenize(PROMPT, False)
    alone = peer(folder, options, prompt)
    rates: dict[str, list[float]] = {"mnn": [], "enginebay": []}
    agreed = True
    for _ in range(arguments.turns):
        rate, wanted = alone()
        rates["mnn"].append(rate)
        request = GenerateRequest(
            tuple(prompt), len(wanted), Sampling(temperature=0), ignore_end=True, cache_prompt=False
        )
        tokens: list[int] = []
        start = time.perf_counter()
        for chunk in model.generate(request):
            tokens += chunk.tokens
        rates["enginebay"].append(len(tokens) / (time.perf_counter() - start))
        agreed = agreed and tokens == wanted
    model.close()
    medians = {name: statistics.median(values) for name, values in rates.items()}
    for name, median in medians.items():
        print(f"{name:<10} {median:10.1f} tokens/s  (of {len(rates[name])} turns, {len(wanted)} tokens each)")
    print(f"tokens     {'agree' if agreed else 'differ'}")
    print(f"ratio      {medians['enginebay'] / medians['mnn']:10.3f}")


if __name__ == "__main__":
    main()
