"""Open models that several tests share."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import enginebay

sys.path.insert(0, str(Path(__file__).parent))

from engines import ENGINES


@pytest.fixture(scope="session", params=ENGINES)
def model(request: pytest.FixtureRequest) -> Iterator[enginebay.Model]:
    """The demo model, in this process, once for each installed engine."""
    with enginebay.open("demo", engine=request.param, isolation="inline") as opened:
        yield opened


@pytest.fixture(scope="session")
def models() -> Iterator[dict[str, enginebay.Model]]:
    """The demo model on every installed engine, all open at once."""
    opened = {name: enginebay.open("demo", engine=name, isolation="inline") for name in ENGINES}
    yield opened
    for one in opened.values():
        one.close()
