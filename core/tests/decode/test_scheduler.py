"""Output never depends on who else is served: joins, leaves, cancels, prefixes, seeds, failures. On echo, whose cache decides."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

import enginebay
from enginebay.errors import Cancelled, ContextOverflow, GenerationError, QueueFull, RequestError, Timeout

WORDS = ["the fox ", "a long shared beginning of many words, ", "the end. ", "x", "Zoë "]
REFERENCE: dict[str, tuple[int, ...]] = {}


def open_echo(**options: Any) -> enginebay.Model:
    sequences = options.pop("sequences", 3)
    return enginebay.open("echo", engine="echo", isolation="inline", sequences=sequences, options=options)


@pytest.fixture(scope="module")
def echo() -> Iterator[enginebay.Model]:
    with open_echo() as model:
        yield model


class Traffic(RuleBasedStateMachine):
    """Random requests come, are read a little, are cancelled or left; each that ends has the tokens it has alone."""

    alone: enginebay.Model
    model: enginebay.Model

    @initialize()
    def open(self) -> None:
        self.model = open_echo()
        self.streams: list[tuple[str, dict[str, Any], Any, list[int]]] = []

    def teardown(self) -> None:
        for prompt, options, stream, tokens in self.streams:
            self.finish(prompt, options, stream, tokens)
        self.model.close()

    @rule(
        parts=st.lists(st.sampled_from(WORDS), min_size=1, max_size=5),
        seed=st.integers(0, 3),
        temperature=st.sampled_from([0.0, 0.9]),
        max_tokens=st.integers(1, 30),
        cache_prompt=st.booleans(),
        penalty=st.sampled_from([1.0, 1.3]),
    )
    def submit(
        self, parts: list[str], seed: int, temperature: float, max_tokens: int, cache_prompt: bool, penalty: float
    ) -> None:
        prompt = "".join(parts)
        options = {"seed": seed, "temperature": temperature, "max_tokens": max_tokens, "repeat_penalty": penalty}
        stream = self.model.stream(prompt, cache_prompt=cache_prompt, **options)  # type: ignore[typeddict-item]
        self.streams.append((prompt, options, stream, []))

    @precondition(lambda self: self.streams)
    @rule(which=st.integers(0, 100), chunks=st.integers(1, 5))
    def read(self, which: int, chunks: int) -> None:
        _, _, stream, tokens = self.streams[which % len(self.streams)]
        for _ in range(chunks):
            chunk = next(stream, None)
            if chunk:
                tokens.extend(chunk.tokens)

    @precondition(lambda self: self.streams)
    @rule(which=st.integers(0, 100))
    def leave(self, which: int) -> None:
        self.streams.pop(which % len(self.streams))[2].close()

    @precondition(lambda self: self.streams)
    @rule(which=st.integers(0, 100))
    def cancel(self, which: int) -> None:
        prompt, options, stream, tokens = self.streams.pop(which % len(self.streams))
        stream.cancel()
        tokens.extend(token for chunk in stream for token in chunk.tokens)
        assert tuple(tokens) == self.expected(prompt, options)[: len(tokens)]

    @precondition(lambda self: self.streams)
    @rule(which=st.integers(0, 100))
    def end(self, which: int) -> None:
        self.finish(*self.streams.pop(which % len(self.streams)))

    def finish(self, prompt: str, options: dict[str, Any], stream: Any, tokens: list[int]) -> None:
        tokens.extend(token for chunk in stream for token in chunk.tokens)
        assert tuple(tokens) == self.expected(prompt, options)

    def expected(self, prompt: str, options: dict[str, Any]) -> tuple[int, ...]:
        key = repr((prompt, options))
        if key not in REFERENCE:
            with open_echo(sequences=1) as alone:
                REFERENCE[key] = alone.generate(prompt, cache_prompt=False, **options).tokens
        return REFERENCE[key]


TestTraffic = Traffic.TestCase
TestTraffic.settings = settings(
    max_examples=40, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
)


def test_a_resumed_request_goes_on_exactly(echo: enginebay.Model) -> None:
    options: dict[str, Any] = {"max_tokens": 30, "temperature": 0.9, "seed": 5, "repeat_penalty": 1.2, "stop": ["qq"]}
    whole = echo.generate("say this again, Zoë", **options)
    text_at = ""
    for at in range(len(whole.tokens)):
        rest = echo.generate("say this again, Zoë", resume=whole.tokens[:at], **options)
        assert rest.tokens == whole.tokens[at:]
        assert whole.text.endswith(rest.text)
        assert len(rest.text) <= len(whole.text) - len(text_at)
        assert rest.usage.completion_tokens == whole.usage.completion_tokens


def test_a_context_that_shifts_is_the_same_after_a_resume() -> None:
    options: dict[str, Any] = {"max_tokens": 300, "seed": 1, "context": "shift", "keep_tokens": 8, "ignore_end": True}
    with enginebay.open("echo", engine="echo", isolation="inline", context_tokens=64) as model:
        whole = model.generate("once more " * 5, **options)
        assert whole.shifted_tokens > 0
        assert len(whole.tokens) == 300
        for at in (1, 10, 15, 100, 299):
            assert model.generate("once more " * 5, resume=whole.tokens[:at], **options).tokens == whole.tokens[at:]
        with pytest.raises(ContextOverflow):
            model.generate("once more " * 5, max_tokens=300)


def test_choices_share_their_prompt_and_have_seeds_that_follow(echo: enginebay.Model) -> None:
    prompt = "a prompt that is long enough to be shared by all of them"
    results = echo.choices(prompt, 5, max_tokens=20, seed=40, temperature=0.9)
    assert [result.seed for result in results] == [40, 41, 42, 43, 44]
    for result in results:
        assert result.tokens == echo.generate(prompt, max_tokens=20, seed=result.seed, temperature=0.9).tokens
    assert sum(result.usage.cached_tokens > 40 for result in results) >= 4


def test_turns_of_a_conversation_compute_only_what_is_new(echo: enginebay.Model) -> None:
    session = echo.session()
    first = session.send("something to begin with, so that there is a prefix", temperature=0)
    second = session.send("and more", temperature=0)
    assert first.text == "something to begin with, so that there is a prefix"
    assert second.usage.cached_tokens >= first.usage.prompt_tokens + first.usage.completion_tokens - 1


def test_a_queue_is_bounded_and_what_waits_can_be_cancelled() -> None:
    with open_echo(sequences=1, step_seconds=0.02) as model:
        plan = enginebay.opening.resolve(
            "echo", "echo", enginebay.Config(queue_requests=2), sequences=1, options={"step_seconds": 0.02}
        )
        with enginebay.opening.load(plan) as bounded:
            running = [bounded.stream("wait " * 20, max_tokens=50) for _ in range(3)]
            time.sleep(0.1)
            with pytest.raises(QueueFull) as caught:
                running.extend(bounded.stream("wait " * 20, max_tokens=50) for _ in range(3))
            assert caught.value.fields["retry_after_seconds"] >= 1
            running[2].cancel()
            assert [chunk.finish.reason for chunk in running[2] if chunk.finish] == ["cancelled"]
            for stream in running:
                stream.close()
        assert model.generate("hello", max_tokens=5, temperature=0).text.strip() == "hell"


def test_closing_a_model_ends_its_requests_with_a_typed_error() -> None:
    model = open_echo(step_seconds=0.05)
    stream = model.stream("a text " * 10, max_tokens=500)
    threading.Timer(0.2, model.close).start()
    with pytest.raises(Cancelled):
        list(stream)
    with pytest.raises(Cancelled):
        model.generate("more")


def test_a_request_has_only_the_time_that_it_is_given() -> None:
    with open_echo(step_seconds=0.05) as model, pytest.raises(Timeout):
        model.generate("a text " * 30, max_tokens=500, temperature=0, timeout_seconds=0.3)


def test_a_step_that_fails_hurts_one_request_only() -> None:
    """The engine fails on one sequence's text; the step served three. The other two go on as if nothing had been."""
    with open_echo(failure="error", failure_at=1_000_000_000, failure_text="poison", step_seconds=0.005) as model:
        good = [model.stream(f"good text number {i} " * 3, max_tokens=60, temperature=0) for i in range(2)]
        firsts = [next(stream) for stream in good]
        with pytest.raises(GenerationError):
            model.generate("some poison here", max_tokens=5, temperature=0)
        for i, (stream, first) in enumerate(zip(good, firsts, strict=True)):
            tokens = (*first.tokens, *(token for chunk in stream for token in chunk.tokens))
            assert model.detokenize(tokens).strip().startswith(f"good text number {i} ".encode() * 2)


def test_a_weakened_constraint_is_judged_afterwards(echo: enginebay.Model) -> None:
    """``not`` cannot be enforced; the finished text is checked as a whole, and the verdict is in the result."""
    schema = {"enum": [1, 22, 333], "not": {"const": 22}}
    verdicts = set()
    for seed in range(30):
        result = echo.generate(
            "x", seed=seed, temperature=5.0, min_p=0, constraint=enginebay.JsonSchema(schema, strict=False)
        )
        assert result.constraint is not None
        assert "not" in " ".join(result.constraint.warnings)
        assert result.constraint.valid is (result.text.strip() != "22")
        verdicts.add(result.constraint.valid)
        if len(verdicts) == 2:
            break
    assert verdicts == {True, False}


def test_one_stream_is_read_while_others_run(echo: enginebay.Model) -> None:
    streams = [echo.stream(f"prompt {i} of many", max_tokens=30, temperature=0) for i in range(12)]
    texts = ["".join(chunk.text for chunk in stream) for stream in reversed(streams)]
    assert [text.strip() for text in reversed(texts)] == [f"prompt {i} of many" for i in range(12)]


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"max_tokens": -1}, "max_tokens"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": 10**12}, "max_tokens"),
        ({"max_tokens": "5"}, "max_tokens"),
        ({"temperature": float("nan")}, "temperature"),
        ({"temperature": "hot"}, "temperature"),
        ({"top_k": 1.5}, "top_k"),
        ({"stop": [""]}, "stop"),
        ({"stop": 3}, "stop"),
        ({"tempreature": 1.0}, "tempreature"),
        ({"logit_bias": {5000: 1.0}}, "vocabulary"),
        ({"constraint": {"type": "object"}}, "constraint"),
        ({"context": "squeeze"}, "context"),
        ({"seed": -1}, "seed"),
    ],
)
def test_a_bad_option_is_refused_by_name(echo: enginebay.Model, options: dict[str, Any], named: str) -> None:
    with pytest.raises(RequestError, match=named):
        echo.generate("hello", **options)
    for prompt in ("", [], [-1], [99999], ["a"]):
        with pytest.raises(RequestError):
            echo.generate(prompt, max_tokens=1)  # type: ignore[arg-type]
