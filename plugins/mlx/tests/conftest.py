"""The demo model's folder, copies of it to change, and opened steps whose calls go to the thread that owns MLX."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # where the tests find their helpers

from mlx_mutants import DEMO

from enginebay.data import LoadRequest
from enginebay_mlx.library import owner
from enginebay_mlx.steps import open_steps


class OnOwner:
    """Any object, called on the thread that owns MLX."""

    def __init__(self, target: Any) -> None:
        self.target = target

    def __getattr__(self, name: str) -> Any:
        value = getattr(self.target, name)
        if not callable(value):
            return value
        return lambda *given, **named: owner().call(lambda: value(*given, **named))


@pytest.fixture(scope="session")
def demo() -> Path:
    return DEMO


@pytest.fixture
def copy(tmp_path: Path) -> Callable[..., Path]:
    """A copy of the demo folder, with ``config.json`` changed as named."""

    def make(**changes: Any) -> Path:
        folder = tmp_path / "model"
        shutil.copytree(DEMO, folder)
        path = folder / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))
        return folder

    return make


@pytest.fixture
def steps() -> Iterator[Callable[..., Any]]:
    """Opens a folder as steps; closes it after the test."""
    opened: list[OnOwner] = []

    def make(folder: Path = DEMO, **fields: Any) -> Any:
        request = LoadRequest(folder, "mlx", **fields)
        opened.append(OnOwner(owner().call(lambda: open_steps(request))))
        return opened[-1]

    yield make
    for one in opened:
        one.close()
