"""Servers in processes of their own, on the demo model and on any engine that is installed."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from serving import ENGINE, Server, serve_command, started

HERE = Path(__file__).parent


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """What ``enginebay serve`` starts."""
    with started(serve_command("--model", "demo"), tmp_path_factory.mktemp("server")) as one:
        yield one


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Server]]:
    """Start ``enginebay serve`` with arguments."""
    with contextlib.ExitStack() as stack:
        yield lambda *arguments: stack.enter_context(started(serve_command(*arguments), tmp_path))


@pytest.fixture
def special(tmp_path: Path) -> Iterator[Callable[..., Server]]:
    """Start a server with settings of its own."""
    with contextlib.ExitStack() as stack:

        def begin(
            recovers: bool = True, model: str = "demo", options: dict[str, Any] | None = None, **settings: Any
        ) -> Server:
            engine = ENGINE if model == "demo" else ""
            words = [
                json.dumps(settings),
                "recovers" if recovers else "fails",
                model,
                engine,
                json.dumps(options or {}),
            ]
            command = [sys.executable, str(HERE / "special_server.py"), *words]
            return stack.enter_context(started(command, tmp_path))

        yield begin
