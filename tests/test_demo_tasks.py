"""The demo model does what it was trained for, on every engine: JSON from a sentence, and tool calls."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import enginebay

sys.path.insert(0, str(Path(__file__).parent.parent / "plugins/demo/training"))

from generate import cases, correct


@pytest.mark.parametrize(("unseen", "wanted"), [(False, 95), (True, 85)])
def test_json_and_tool_calls(model: enginebay.Model, unseen: bool, wanted: int) -> None:
    """100 fresh cases, greedy and unconstrained; ``unseen`` ones have names, cities and numbers that training had not."""

    def right(case: object) -> bool:
        answer = model.chat(case.messages, tools=case.tools, max_tokens=120, temperature=0)  # type: ignore[attr-defined]
        return bool(correct(case, answer.text))  # type: ignore[arg-type]

    fresh = cases(2026, unseen, 100)
    with ThreadPoolExecutor(8) as pool:
        score = sum(pool.map(right, fresh))
    assert score >= wanted
