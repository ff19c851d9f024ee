"""A server in a process of its own, as tests see it."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx

from enginebay import registry

ENGINE = next(name for name in ("llamacpp", "mnn", "mlx") if name in registry.engines())


class Server:
    """A server's process, and a client for it."""

    def __init__(self, process: subprocess.Popen[str], log: Path) -> None:
        self.process = process
        self.log = log
        assert process.stdout is not None
        self.first_line = process.stdout.readline()
        assert self.first_line.startswith("http"), log.read_text()
        self.url = self.first_line.split()[0]
        self.port = int(self.url.rpartition(":")[2])
        self.http = httpx.Client(base_url=self.url, timeout=60)

    def chat(self, text: str = "Hello", **fields: Any) -> httpx.Response:
        return self.http.post("/v1/chat/completions", json=chat_body(text, **fields))

    def status(self) -> dict[str, Any]:
        status: dict[str, Any] = self.http.get("/v1/engine/status").json()
        return status

    def worker(self) -> int:
        """The process of the current model, once it has one."""
        until = time.monotonic() + 30
        while time.monotonic() < until:
            for model in self.status()["models"]:
                if model["current"] and model["pid"]:
                    return int(model["pid"])
            time.sleep(0.02)
        raise TimeoutError("no worker came back")

    def running(self) -> int:
        return int(self.status()["requests"])

    def descriptors(self) -> int:
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def connections(self) -> int:
        """Open sockets, those that listen and those between its own processes among them."""
        folder = Path(f"/proc/{self.process.pid}/fd")
        links = []
        for one in folder.iterdir():
            with contextlib.suppress(OSError):  # it was closed meanwhile
                links.append(os.readlink(one))
        return sum(link.startswith("socket:") for link in links)

    def resident_bytes(self) -> int:
        return int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def threads(self) -> int:
        return len(os.listdir(f"/proc/{self.process.pid}/task"))


def chat_body(text: str = "Hello", **fields: Any) -> dict[str, Any]:
    return {"model": "demo", "messages": [{"role": "user", "content": text}], "temperature": 0, **fields}


@contextlib.contextmanager
def started(arguments: list[str], folder: Path) -> Iterator[Server]:
    log = folder / "server.log"
    with log.open("w") as errors:
        process = subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=errors, text=True, cwd=folder)
    try:
        yield Server(process, log)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)


def serve_command(*arguments: str) -> list[str]:
    return [str(Path(sys.executable).parent / "enginebay"), "serve", "--engine", ENGINE, "--port", "0", *arguments]
