"""Compares several ways to do the same, each in a process of its own, in turns. It knows nothing of what is measured.

A side is a function that prepares (loads a model, say) and returns a callable that makes one round and returns figures: tokens
per second, by name. All sides are prepared first; then each makes a round, and again, so that what else the machine does
falls on all of them. Processes of their own matter: threads of two libraries in one process wait for each other.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Callable, Mapping
from typing import IO, NoReturn

Round = Callable[[], Mapping[str, float]]
Side = Callable[[argparse.Namespace], Round]
NAME_WIDTH = 24


def compare(parser: argparse.ArgumentParser, sides: Mapping[str, Side], rounds: int = 5) -> argparse.Namespace:
    """Measure and print medians, ranges, and what the first side has over each; returns the arguments.

    The program calls itself with ``--side`` for each of them, so it must get here before it does anything else.

    :param parser: of the benchmark's own arguments, which every side is given
    :param sides: what to call each side, and how to prepare it
    """
    parser.add_argument("--rounds", type=int, default=rounds, help="rounds that count; one more warms up")
    parser.add_argument("--side", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.side:
        _serve(sides[given.side], given)
    processes = {name: _start(name) for name in sides}
    measured: dict[str, dict[str, list[float]]] = {}
    try:
        for turn in range(given.rounds + 1):
            for name, process in processes.items() if turn % 2 else reversed(processes.items()):
                for figure, value in _round(process, name).items():
                    if turn:
                        measured.setdefault(figure, {}).setdefault(name, []).append(value)
    finally:
        for process in processes.values():
            process.kill()
            process.wait()
    for figure, by_side in measured.items():
        _print(figure, by_side)
    return given


def _print(figure: str, by_side: Mapping[str, list[float]]) -> None:
    first, own = next(iter(by_side.items()))
    print(f"{figure:{NAME_WIDTH}}{'median':>10}  {'least to most':>20}   {first} over it (least to most)")
    for name, rates in by_side.items():
        ratios = [a / b for a, b in zip(own, rates, strict=True)]
        spread = f"{_shown(min(rates))} to {_shown(max(rates))}"
        ratio = "" if name == first else f"{statistics.median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f})"
        print(f"  {name:{NAME_WIDTH - 2}}{_shown(statistics.median(rates)):>10}  {spread:>20}   {ratio}".rstrip())


def _shown(value: float) -> str:
    return f"{value:,.1f}" if value >= 10 else f"{value:.3f}"


def _start(side: str) -> subprocess.Popen[str]:
    command = [sys.executable, *sys.argv, "--side", side]
    return subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )


def _round(process: subprocess.Popen[str], side: str) -> dict[str, float]:
    assert process.stdin
    assert process.stdout
    try:
        process.stdin.write("go\n")
        process.stdin.flush()
        answer = process.stdout.readline()
    except BrokenPipeError:
        answer = ""
    if not answer:
        raise SystemExit(f"{side} failed; run the same with --side {side!r} to see how")
    figures: dict[str, float] = json.loads(answer)
    return figures


def _serve(side: Side, given: argparse.Namespace) -> NoReturn:
    """A round for each line of standard input. Whatever the libraries print goes to standard error."""
    answers: IO[str] = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    one_round = side(given)
    for _ in sys.stdin:
        answers.write(json.dumps(one_round()) + "\n")
        answers.flush()
    os._exit(0)  # some libraries abort when they are torn down
