"""Tokens per second of one stream, over those of MNN's own ``generate`` with the same settings; prints both and the ratio.

    python single_stream.py [FOLDER] [--preset exact|fast] [--threads N] [--turns N]

Both sides take turns in one process, greedily, with the same prompt and as many tokens as MNN gives before it stops. The
time of a turn is that of the whole call, by the clock and of the processors (which other load disturbs less); the median
of the turns counts. Whether the tokens agreed is printed: they do on a trained model, and may part at a tie on random
weights.
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


def timed(generate: Callable[[], list[int]]) -> tuple[list[int], float, float]:
    """The tokens, and for each of them the seconds on the clock and of the processors."""
    clock, processors = time.perf_counter(), time.process_time()
    tokens = generate()
    return tokens, (time.perf_counter() - clock) / len(tokens), (time.process_time() - processors) / len(tokens)


def peer(folder: Path, options: Options, prompt: list[int]) -> Callable[[], list[int]]:
    """MNN by itself."""
    level = "high" if options.preset == "exact" else "low"
    settings = {"precision": level, "memory": level, "thread_num": options.threads, "sampler_type": "greedy"}
    model: Any = quietly(library().create, str(folder / "config.json"))._c_obj
    model.set_config(json.dumps(settings))
    quietly(model.load)

    def turn() -> list[int]:
        model.reset()
        model.generate_init(None, None)
        tokens: list[int] = quietly(model.generate, prompt, 512)
        return tokens

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
    seconds: dict[str, list[tuple[float, float]]] = {"mnn": [], "enginebay": []}
    agreed = True
    for _ in range(arguments.turns):
        wanted, *spent = timed(alone)
        seconds["mnn"].append((spent[0], spent[1]))
        request = GenerateRequest(
            tuple(prompt), len(wanted), Sampling(temperature=0), ignore_end=True, cache_prompt=False
        )
        tokens, *spent = timed(
            lambda asked=request: [token for chunk in model.generate(asked) for token in chunk.tokens]
        )
        seconds["enginebay"].append((spent[0], spent[1]))
        agreed = agreed and tokens[:-1] == wanted[:-1]  # the last of MNN's may be its end token
    model.close()
    clock = {name: statistics.median(item[0] for item in values) for name, values in seconds.items()}
    processors = {name: statistics.median(item[1] for item in values) for name, values in seconds.items()}
    for name in seconds:
        print(f"{name:<10} {1 / clock[name]:9.1f} tokens/s {processors[name] * 1e3:9.3f} ms of processor a token")
    by_clock, by_processor = (side["mnn"] / side["enginebay"] for side in (clock, processors))
    print(f"ratio      {by_clock:9.3f} by the clock {by_processor:9.3f} by processor")
    print(f"tokens     {'agree' if agreed else 'differ'}, {len(wanted)} a turn, {arguments.turns} turns")


if __name__ == "__main__":
    main()
