"""Serving speed beside other servers: the same model, the same threads, the same requests, in turns.

    python serving.py MODEL.gguf [--llama-server PATH] [--llama-cpp-python] [--threads 2] [--streams 1 4 8 16] [--rounds 3]
    python serving.py MLX_FOLDER

A folder is served by enginebay's ``mlx`` and by ``mlx_lm.server``. All servers run from the beginning to the end; in each
round each is measured alone, the first one being another every time. Prompts have unequal lengths and none is asked twice;
with ``--shared`` they begin with the same thousand tokens. Printed for each number of concurrent streams: generated tokens
per second, the median and the 95th percentile of the time to the first token and between tokens, and how many streams were
complete; at last the ratios.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from attrs import define, field

WORDS = (
    "the",
    "fox",
    "and",
    "a",
    "small",
    "red",
    "boat",
    "went",
    "over",
    "quiet",
    "hills",
    "to",
    "see",
    "what",
    "light",
    "brings",
)


@define
class Measured:
    """What one server did at one number of streams."""

    seconds: float = 0.0
    tokens: int = 0
    complete: int = 0
    streams: int = 0
    first: list[float] = field(factory=list)
    between: list[float] = field(factory=list)

    def add(self, other: Measured) -> None:
        """Count another round as well."""
        self.seconds += other.seconds
        self.tokens += other.tokens
        self.complete += other.complete
        self.streams += other.streams
        self.first += other.first
        self.between += other.between

    @property
    def tokens_per_second(self) -> float:
        return self.tokens / self.seconds if self.seconds else 0.0


def percentile(values: list[float], part: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * part))] if ordered else float("nan")


def words(count: int, seed: int) -> str:
    return " ".join(WORDS[(seed * 7 + i * (seed + 3)) % len(WORDS)] for i in range(count))


def prompt(number: int, shared: bool) -> str:
    start = words(530, 1) + "\n" if shared else ""
    return start + f"Request {number}: " + words(20 + 37 * (number % 6), number)


async def stream(port: int, model: str, text: str, max_tokens: int, into: Measured) -> None:
    """One request over a connection of its own; its events are timed as they come."""
    body = {
        "model": model,
        "prompt": text,
        "max_tokens": max_tokens,
        "temperature": 0,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    data = json.dumps(body).encode()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    head = "POST /v1/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\nContent-Type: application/json\r\n"
    began = last = time.perf_counter()
    writer.write(f"{head}Content-Length: {len(data)}\r\n\r\n".encode() + data)
    into.streams += 1
    events, used, done = 0, 0, False
    while line := await reader.readline():
        if line.startswith(b"data: [DONE]"):
            done = True
        elif line.startswith(b"data: "):
            event = json.loads(line[6:])
            used = (event.get("usage") or {}).get("completion_tokens", 0) or used
            if not any(choice.get("text") for choice in event.get("choices", ())):
                continue
            now = time.perf_counter()
            (into.between if events else into.first).append(now - last)
            last, events = now, events + 1
    writer.close()
    into.complete += done
    into.tokens += used or events
    into.seconds = max(into.seconds, time.perf_counter() - began)


async def measure(port: int, model: str, texts: list[str], max_tokens: int) -> Measured:
    """All requests at once."""
    one = Measured()
    await asyncio.gather(*(stream(port, model, text, max_tokens, one) for text in texts))
    return one


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def commands(arguments: argparse.Namespace, folder: Path) -> dict[str, list[str]]:
    """The servers by name, without their port. Each has the same threads, context and number of sequences."""
    model, threads, sequences = str(arguments.model.resolve()), arguments.threads, max(arguments.streams)
    context = 2048 if arguments.shared else 1024
    mlx = arguments.model.is_dir()
    engine = "mlx" if mlx else "llamacpp"
    (folder / "enginebay.toml").write_text(
        f"[models.bench]\nreference = {json.dumps(model)}\nengine = '{engine}'\ncontext_tokens = {context}\n"
        f"sequences = {sequences}\n[engines.{engine}]\n"
        + ("precision = 'model'\n" if mlx else f"threads = {threads}\n")
    )
    script = Path(sys.executable).parent / "enginebay"
    servers = {"enginebay": [str(script), "serve", "--model", "bench"]}
    if mlx:
        servers["mlx_lm.server"] = [sys.executable, "-m", "mlx_lm.server", "--model", model]
    if arguments.llama_server:
        servers["llama-server"] = [
            *(str(arguments.llama_server.resolve()), "-m", model, "-t", str(threads), "-np", str(sequences)),
            *("-c", str(context * sequences), "--no-webui"),
        ]
    if arguments.llama_cpp_python:
        servers["llama_cpp.server"] = [
            *(sys.executable, "-m", "llama_cpp.server", "--model", model),
            *("--n_threads", str(threads), "--n_ctx", str(context), "--interrupt_requests", "False"),
        ]
    return servers


async def ready(port: int, model: str, process: subprocess.Popen[bytes]) -> None:
    """Wait until a request is answered."""
    until = time.monotonic() + 300
    while time.monotonic() < until and process.poll() is None:
        one = Measured()
        with contextlib.suppress(OSError, ValueError):
            await stream(port, model, "warm", 4, one)
        if one.complete:
            return
        await asyncio.sleep(0.5)
    raise SystemExit("a server did not start; its log is printed above")


@contextlib.contextmanager
def serving(command: list[str], folder: Path, port: int, model: str) -> Iterator[None]:
    """A server that is ready, ended at the end."""
    with tempfile.TemporaryFile(dir=folder) as log:
        environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
        command = [*command, "--port", str(port)]
        process = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log, env=environment)
        try:
            asyncio.run(ready(port, model, process))
            yield
        except SystemExit:
            log.seek(0)
            sys.stderr.write(log.read().decode(errors="replace")[-3000:])
            raise
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()


def run(arguments: argparse.Namespace, folder: Path) -> dict[str, dict[int, Measured]]:
    """What each server did at each number of streams."""
    results: dict[str, dict[int, Measured]] = {}
    with contextlib.ExitStack() as stack:
        servers: list[tuple[str, int, str]] = []
        for name, command in commands(arguments, folder).items():
            print(f"starting {name}", file=sys.stderr)
            model, port = "default_model" if name == "mlx_lm.server" else "bench", free_port()
            stack.enter_context(serving(command, folder, port, model))
            servers.append((name, port, model))
            results[name] = {n: Measured() for n in arguments.streams}
        numbers = itertools.count()
        for n in arguments.streams:
            for turn in range(arguments.rounds):
                texts = [prompt(next(numbers), arguments.shared) for _ in range(n)]
                for name, port, model in servers[turn % len(servers) :] + servers[: turn % len(servers)]:
                    results[name][n].add(asyncio.run(measure(port, model, texts, arguments.max_tokens)))
    return results


def show(results: dict[str, dict[int, Measured]], streams: list[int]) -> None:
    for n in streams:
        print(f"\n{n} streams at once")
        print(
            f"  {'server':18}{'tokens/s':>10}{'first p50':>11}{'p95':>9}{'between p50':>13}{'p95':>9}{'complete':>11}"
        )
        for name, by_streams in results.items():
            one = by_streams[n]
            times = [percentile(one.first, 0.5), percentile(one.first, 0.95)]
            times += [percentile(one.between, 0.5), percentile(one.between, 0.95)]
            first, first95, between, between95 = (f"{value * 1000:.1f} ms" for value in times)
            rate = f"{one.tokens_per_second:.1f}"
            complete = f"{one.complete}/{one.streams}"
            print(f"  {name:18}{rate:>10}{first:>11}{first95:>9}{between:>13}{between95:>9}{complete:>11}")
        ours = results["enginebay"][n]
        for name, by_streams in results.items():
            if name != "enginebay":
                other = by_streams[n]
                rate = ours.tokens_per_second / other.tokens_per_second if other.tokens_per_second else float("inf")
                tail = percentile(ours.first, 0.95) / percentile(other.first, 0.95)
                print(f"  enginebay / {name}: {rate:.2f} of the tokens/s, {tail:.2f} of the p95 to the first token")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--llama-server", type=Path, help="the binary to compare with")
    parser.add_argument("--llama-cpp-python", action="store_true", help="compare with python -m llama_cpp.server")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--streams", type=int, nargs="+", default=[1, 4, 8, 16])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--max-tokens", type=int, default=64)
    parser.add_argument("--shared", action="store_true", help="prompts share their first thousand tokens")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        results = run(arguments, Path(name))
    show(results, arguments.streams)


if __name__ == "__main__":
    main()
