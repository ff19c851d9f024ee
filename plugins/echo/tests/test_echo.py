"""What applications use echo for: known replies, slowness, and failures at a known place."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import enginebay
from enginebay.errors import ConfigError, GenerationError, ModelLoadError, OutOfMemory


@pytest.fixture(scope="module")
def echo() -> Iterator[enginebay.Model]:
    with enginebay.open("echo", engine="echo") as model:
        yield model


def opened(**options: Any) -> enginebay.Model:
    return enginebay.open("echo", engine="echo", isolation="inline", options=options)


@pytest.mark.parametrize("said", ["Hello there", "two\nlines", "naïve 日本語 🙂", ""])
def test_a_chat_gets_the_last_message_back(echo: enginebay.Model, said: str) -> None:
    messages = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": said}]
    reply = echo.chat(messages, temperature=0)
    assert (reply.text, reply.finish_reason) == (said, "stop")


def test_plain_text_gets_its_last_line_back(echo: enginebay.Model) -> None:
    assert echo.generate("one\ntwo", temperature=0).text == "\ntwo"
    assert echo.generate("one\ntw", temperature=0).text == "\ntw"
    assert echo.generate("two\ntw", temperature=0).text == "o"


def test_a_higher_temperature_says_other_things(echo: enginebay.Model) -> None:
    replies = {echo.generate("Hello there", seed=seed, max_tokens=12).text for seed in range(8)}
    assert len(replies) > 1


@pytest.mark.parametrize(("failure", "error"), [("error", GenerationError), ("memory", OutOfMemory)])
def test_a_failure_comes_at_its_token_and_passes(failure: str, error: type[Exception]) -> None:
    with opened(failure=failure, failure_at=3) as model:
        stream = model.stream("Hello", temperature=0)
        assert [next(stream).tokens, next(stream).tokens] == [(10,), (72,)]
        with pytest.raises(error):
            next(stream)
        assert model.generate("Hello", temperature=0).text == "\nHello"


@pytest.mark.parametrize(("failure", "error"), [("error", ModelLoadError), ("memory", OutOfMemory)])
def test_a_failure_while_loading(failure: str, error: type[Exception]) -> None:
    with pytest.raises(error):
        opened(failure=failure)


def test_a_failure_that_happens_once(tmp_path: Path) -> None:
    once = tmp_path / "happened"
    with pytest.raises(ModelLoadError):
        opened(failure="error", failure_once=str(once))
    assert once.exists()
    with opened(failure="error", failure_once=str(once)) as model:
        assert model.generate("Hello", temperature=0).text == "\nHello"


def test_a_failure_at_a_text() -> None:
    with opened(failure="error", failure_text="poison") as model:
        assert model.generate("Hello", temperature=0).text == "\nHello"
        with pytest.raises(GenerationError):
            model.generate("some poison here", temperature=0)


def test_a_crash_ends_the_process_and_says_so() -> None:
    code = (
        "import enginebay\n"
        "options = {'failure': 'crash', 'failure_at': 2}\n"
        "with enginebay.open('echo', engine='echo', isolation='inline', options=options) as model:\n"
        "    model.generate('Hello', temperature=0)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert done.returncode not in (0, 1)
    assert "echo was told to fail (crash) at token 2" in done.stderr


def test_a_slow_step_can_be_given_up() -> None:
    with opened(step_seconds=3600) as model:
        stream = model.stream("Hello")
        stream.cancel()
        last = list(stream)[-1].finish
        assert last is not None
        assert last.reason == "cancelled"


def test_a_wrong_option_is_refused_by_name() -> None:
    with pytest.raises(ConfigError, match="step_seconds"):
        opened(step_seconds=-1)
    with pytest.raises(ConfigError, match="failures"):
        opened(failures="error")
