"""Where the tests find their helpers, and the exported folder that they load."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import enginebay_demo

sys.path.insert(0, str(Path(__file__).parent))

from enginebay.data import LoadRequest
from enginebay_mnn.options import Options
from enginebay_mnn.steps import MnnModel, open_steps

Open = Callable[..., MnnModel]


@pytest.fixture(scope="session")
def models() -> Path:
    """The demo model in all formats: ``mnn`` is an exported folder, ``mlx`` holds the tokenizer that it was made of."""
    return Path(enginebay_demo.__file__).parent / "models"


@pytest.fixture
def open_model(models: Path) -> Iterator[Open]:
    """``open_model(options, path, **fields of the request)``: a step model, closed when the test is over."""
    opened: list[Any] = []

    def open_it(options: Options | None = None, path: Path | None = None, **fields: Any) -> MnnModel:
        opened.append(open_steps(LoadRequest(path or models / "mnn", "mnn", options or Options(), **fields)))
        return opened[-1]

    yield open_it
    for model in opened:
        model.close()
