"""A long prompt does not hold back others' tokens for more than two ordinary steps; prompts that came together go together."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from enginebay.data import GenerateRequest, LoadRequest, Sampling
from enginebay.decode.job import Job
from enginebay.decode.pace import HOLD_SECONDS, Pace
from enginebay.decode.protocol import Feed
from enginebay.decode.scheduler import Scheduler

STEP_TOKENS = 512
Cost = Callable[[int, int], float]


def costs(base: float, sequence: float, token: float) -> Cost:
    """Seconds of a step that decodes and carries tokens of prompts: what reading the weights, a row and a token cost."""
    return lambda decoding, tokens: base + sequence * decoding + token * tokens


def settled(cost: Cost, decoding: int, prompts: int) -> tuple[Pace, float]:
    """A pace that has seen such steps for a while, and what the last one took, in ordinary steps."""
    pace = Pace(STEP_TOKENS)
    pace.learn(0, 64, cost(0, 64))
    taken = 0.0
    for _ in range(60):
        tokens = pace.allowance(decoding, prompts)
        pace.learn(decoding, tokens, cost(decoding, tokens))
        taken = cost(decoding, tokens) / cost(decoding, 0)
    return pace, taken


@given(
    base=st.floats(0.0005, 0.1),
    sequence=st.floats(0.0001, 0.02),
    token=st.floats(0.00001, 0.02),
    decoding=st.integers(1, 8),
    prompts=st.integers(1, 8),
)
def test_each_prompt_has_the_time_of_an_ordinary_step(
    base: float, sequence: float, token: float, decoding: int, prompts: int
) -> None:
    cost = costs(base, sequence, token)
    pace, taken = settled(cost, decoding, prompts)
    tokens = pace.allowance(decoding, prompts)
    if tokens > 1:  # one token of a prompt is the least that a step carries
        assert taken <= 1.05 * (1 + prompts)
    if 1 < tokens < STEP_TOKENS:
        one_more = cost(decoding, tokens + 2) / cost(decoding, 0)
        assert one_more >= 0.95 * (1 + prompts), "the prompt has less than its share"


def test_the_first_step_of_its_kind_is_measured_without_prompts() -> None:
    pace = Pace(STEP_TOKENS)
    pace.learn(0, 64, 1.0)
    assert pace.allowance(3, 1) == 0
    pace.learn(3, 0, 0.5)
    assert pace.allowance(3, 1) > 0
    assert pace.allowance(0, 1) == STEP_TOKENS


def test_one_slow_step_changes_little() -> None:
    pace, _ = settled(costs(0.03, 0.005, 0.005), 1, 1)
    usual = pace.allowance(1, 1)
    pace.learn(1, usual, 10.0)
    pace.learn(1, 0, 10.0)
    assert usual / 2 <= pace.allowance(1, 1) <= usual * 2


class Recorded:
    """Echo's step model, which writes down what each step was fed."""

    def __init__(self, sequences: int, *, prefers_adjacent: bool = False) -> None:
        import enginebay_echo
        from enginebay_echo.plugin import EchoOptions
        from enginebay_echo.steps import EchoModel

        path = Path(enginebay_echo.__file__).parent / "models" / "echo.echo"
        self._model = EchoModel(LoadRequest(path, "echo", EchoOptions(), sequences=sequences))
        self.steps: list[dict[int, int]] = []
        self.prefers_adjacent = prefers_adjacent

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def step(self, feeds: list[Feed]) -> Any:
        self.steps.append({feed.sequence: len(feed.tokens) for feed in feeds})
        return self._model.step(feeds)


def job(model: Recorded, length: int, max_tokens: int = 20) -> Job:
    sampling = Sampling(temperature=0)
    request = GenerateRequest((65,) * length, max_tokens=max_tokens, sampling=sampling, cache_prompt=False)
    return Job(request, 0, model.vocabulary, model.context_tokens, None)


@pytest.fixture
def scheduler() -> tuple[Scheduler, Recorded]:
    model = Recorded(3)
    scheduler = Scheduler(model, queue_requests=8, cache_bytes=0)  # type: ignore[arg-type]
    scheduler.submit(job(model, 10))  # so that costs are known
    while scheduler.work():
        pass
    model.steps.clear()
    return scheduler, model


def test_prompts_that_came_together_are_computed_before_any_goes_on(scheduler: tuple[Scheduler, Recorded]) -> None:
    together, model = scheduler
    for length in (400, 300, 200):
        together.submit(job(model, length))
    while together.work():
        pass
    prefill = [step for step in model.steps if max(step.values()) > 1]
    assert [sum(step.values()) for step in prefill] == [512, 388]
    assert model.steps[2] == {0: 1, 1: 1, 2: 1}


def test_who_speaks_already_does_not_wait_for_who_comes_later(scheduler: tuple[Scheduler, Recorded]) -> None:
    later, model = scheduler
    later.submit(job(model, 50))
    for _ in range(6):
        later.work()
    speaking = next(iter(model.steps[0]))
    later.submit(job(model, 1000))
    before = len(model.steps)
    while later.work():
        pass
    joined = model.steps[before : before + 14]
    assert all(step.get(speaking) == 1 for step in joined), joined
    assert HOLD_SECONDS > 0


@pytest.mark.parametrize("adjacent", [True, False])
def test_requests_are_put_side_by_side_where_that_is_cheaper(adjacent: bool) -> None:
    model = Recorded(4, prefers_adjacent=adjacent)
    scheduler = Scheduler(model, queue_requests=8, cache_bytes=0)  # type: ignore[arg-type]

    def run(*lengths: int) -> set[int]:
        for max_tokens in lengths:
            scheduler.submit(job(model, 40, max_tokens))
        model.steps.clear()
        while scheduler.work():
            pass
        return {sequence for step in model.steps for sequence in step}

    assert run(2, 8, 4, 6) == {0, 1, 2, 3}  # they end, and are free for longest, in the order 0, 2, 3, 1
    assert run(5, 5) == ({0, 1} if adjacent else {0, 2})


def test_a_prompt_goes_where_its_first_tokens_are_already() -> None:
    model = Recorded(2)
    scheduler = Scheduler(model, queue_requests=8, cache_bytes=0)  # type: ignore[arg-type]

    def computed(text: bytes) -> int:
        request = GenerateRequest(tuple(text), max_tokens=1, sampling=Sampling(temperature=0))
        scheduler.submit(Job(request, 0, model.vocabulary, model.context_tokens, None))
        model.steps.clear()
        while scheduler.work():
            pass
        return sum(sum(step.values()) for step in model.steps)

    assert computed(b"Hello, fox") == 10
    assert computed(b"Good day") == 8
    assert computed(b"Good evening") == 7, "the other sequence was unused for longer, and has nothing of this prompt"
