"""A load that fails says why; one that lacks memory is tried once more where that is configured."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest

import enginebay
from enginebay.errors import EngineCrashed, GenerationError, OutOfMemory


def open_echo(isolation: Any, least: int | None = None, **options: Any) -> enginebay.Model:
    config = enginebay.Config(context_tokens=4096, min_context_tokens=least)
    return enginebay.open("echo", engine="echo", config=config, isolation=isolation, options=options)


@pytest.mark.parametrize("isolation", ["inline", "process"])
def test_lack_of_memory_is_tried_once_more_with_less(isolation: str, tmp_path: Path) -> None:
    once = str(tmp_path / "once")
    with open_echo(isolation, 512, failure="memory", failure_once=once) as model:
        assert model.info.context_tokens == 512
    with pytest.raises(OutOfMemory):
        open_echo(isolation, failure="memory")
    with pytest.raises(OutOfMemory):
        open_echo(isolation, 512, failure="memory")


def test_a_file_that_kills_its_loader_is_an_error_with_everything_known() -> None:
    with pytest.raises(EngineCrashed) as caught:
        open_echo("process", failure="crash")
    assert caught.value.fields["signal"] == "SIGABRT"
    assert any("told to fail" in line for line in caught.value.fields["log_lines"])


def test_an_engine_that_hangs_is_replaced() -> None:
    """A step that never ends uses no CPU; the heartbeat goes on, progress does not."""
    from enginebay import opening
    from enginebay.engine import Engine
    from enginebay.model import Model
    from enginebay.worker.remote import RemotePlugin
    from enginebay.worker.supervisor import Supervision

    quick = Supervision(progress_seconds=1.0, first_pause_seconds=0.01)
    plan = opening.resolve("echo", "echo", options={"failure": "hang", "failure_at": 1_000_000, "failure_text": "hang"})
    facade = Engine(RemotePlugin(plan.plugin.module, plan.plugin.info, quick), plan.plugin.info)
    with Model(facade, facade.load(plan.request), "echo") as model:
        with pytest.raises(EngineCrashed, match="no progress"):
            model.generate("please hang", max_tokens=3)
        assert model.generate("hello", temperature=0).text.strip() == "hello"


def test_without_recovery_a_death_is_an_error() -> None:
    from enginebay import opening
    from enginebay.engine import Engine
    from enginebay.model import Model
    from enginebay.worker.remote import RemotePlugin

    plan = opening.resolve("echo", "echo", options={"failure": "crash", "failure_at": 10**6, "failure_text": "crash"})
    facade = Engine(RemotePlugin(plan.plugin.module, plan.plugin.info, recovers=False), plan.plugin.info)
    with Model(facade, facade.load(plan.request), "echo") as model:
        with pytest.raises(EngineCrashed):
            model.generate("please crash", max_tokens=3)
        assert model.generate("hello", temperature=0).text.strip() == "hello"


def test_native_errors_are_typed_across_the_wire() -> None:
    options = {"failure": "error", "failure_at": 10**6, "failure_text": "fail now"}
    with (
        enginebay.open("echo", engine="echo", isolation="process", options=options) as model,
        pytest.raises(GenerationError, match="told to fail"),
    ):
        model.generate("fail now", max_tokens=3)


def test_giving_up_requests_does_not_wait_for_a_worker_that_hangs() -> None:
    """Its pipe is full of a prompt that it does not read, and whoever closes a stream may be an event loop."""
    with open_echo("process") as model:
        assert model.supervisor is not None
        streams = [model.stream("hello", max_tokens=400) for _ in range(3)]
        pid = model.supervisor.worker().process.pid
        os.kill(pid, signal.SIGSTOP)
        long = threading.Thread(target=lambda: model.tokenize("x" * 1_000_000))
        long.start()
        time.sleep(0.2)  # the pipe is full now
        for stream in streams:
            stream.cancel()
            stream.close()
        assert model.supervisor.restarts == 0, "it took until the worker was killed"
        os.kill(pid, signal.SIGCONT)
        long.join()
        assert model.generate("hello", temperature=0).text.strip() == "hello"
