"""Runs several ways to do the same in a process each, in turn, and compares them. It knows nothing of what is measured.

A benchmark is a module with a function for each way. It takes the model's folder and returns a callable that makes one
round and returns how many tokens it generated and in how many seconds.
"""

from __future__ import annotations

import argparse
import importlib.util
import statistics
import subprocess
import sys
from pathlib import Path

import enginebay_demo

ROUNDS = 7


def main(file: str, ways: dict[str, str]) -> None:
    """Measure in alternating rounds, so that what else the machine does falls on all; print medians and bests.

    :param ways: what to call each way, by the name of its function; the first is compared with the others
    """
    arguments = argparse.ArgumentParser(description=(sys.modules["__main__"].__doc__ or "").splitlines()[0])
    arguments.add_argument("folder", nargs="?", default=str(Path(enginebay_demo.__file__).parent / "models" / "mlx"))
    arguments.add_argument("--rounds", type=int, default=ROUNDS)
    given = arguments.parse_args()
    processes = {
        way: subprocess.Popen(
            [sys.executable, __file__, file, way, given.folder],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for way in ways
    }
    rates: dict[str, list[float]] = {way: [] for way in ways}
    for number in range(given.rounds + 1):
        for way, process in processes.items():
            assert process.stdin
            assert process.stdout
            process.stdin.write("go\n")
            process.stdin.flush()
            rate = float(process.stdout.readline())
            if number:  # the first round warms up
                rates[way].append(rate)
    for process in processes.values():
        process.communicate()
    print(f"{'tokens per second':<36} {'median':>9} {'ratio':>6} {'best':>9} {'ratio':>6}")
    first = next(iter(rates.values()))
    for way, name in ways.items():
        median, best = statistics.median(rates[way]), max(rates[way])
        ratios = statistics.median(first) / median, max(first) / best
        print(f"{name:<36} {median:9,.1f} {ratios[0]:6.2f} {best:9,.1f} {ratios[1]:6.2f}")


def serve(file: str, way: str, folder: str) -> None:
    """One way: load, then a round for each line of standard input."""
    spec = importlib.util.spec_from_file_location("benchmark", file)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    one_round = getattr(module, way)(Path(folder))
    for _ in sys.stdin:
        tokens, seconds = one_round()
        print(tokens / seconds, flush=True)


if __name__ == "__main__":
    serve(*sys.argv[1:])
