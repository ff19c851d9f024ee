"""A worker that is killed, crashes, hangs or leaves in mid-sentence does not change the sentence."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from engines import ENGINES

import enginebay
from enginebay import opening
from enginebay.engine import Engine
from enginebay.errors import EnginebayError, EngineCrashed
from enginebay.model import Model, build_request
from enginebay.result import Collector
from enginebay.worker.remote import RemotePlugin
from enginebay.worker.supervisor import Supervision

KILLS = int(os.environ.get("ENGINEBAY_TEST_KILLS", "12"))
"""How many times each kind of request loses its worker; 100 and more in a long run."""

CRASHES = int(os.environ.get("ENGINEBAY_TEST_CRASHES", "3"))
"""How many times it crashes, hangs and leaves; 20 in a long run."""

HOSTS = int(os.environ.get("ENGINEBAY_TEST_HOSTS", "3"))
"""How many hosts are killed; 30 in a long run."""

PATIENT = Supervision(liveness_seconds=2.0, first_pause_seconds=0.01, last_pause_seconds=0.05, deaths=1_000_000)
PROMPT = "Once upon a time"
KINDS: dict[str, dict[str, Any]] = {
    "greedy": {"temperature": 0},
    "seeded": {"temperature": 0.9, "seed": 11},
    "constrained": {"temperature": 0.7, "seed": 3, "constraint": enginebay.Regex("([a-z]{2,9}, ){40}end")},
    "stopped": {"temperature": 0, "stop": ["village and", "xyzzy"]},
}


def in_worker(engine: str, reference: str = "demo", supervision: Supervision = PATIENT, **options: Any) -> Model:
    plan = opening.resolve(reference, engine, isolation="process", options=options)
    remote = RemotePlugin(plan.plugin.module, plan.plugin.info, supervision)
    facade = Engine(remote, plan.plugin.info)
    return Model(facade, facade.load(plan.request), plan.name)


@pytest.fixture(scope="module", params=ENGINES)
def worker(request: pytest.FixtureRequest) -> Iterator[Model]:
    with in_worker(request.param) as model:
        yield model


def pid_of(model: Model) -> int:
    assert model.supervisor is not None
    return model.supervisor.worker().process.pid


def disturbed(model: Model, kind: str, at: int, how: signal.Signals) -> enginebay.Result:
    """Run a request and end its worker once when ``at`` tokens have come: 0 before the first, or after the last."""
    assert model.supervisor is not None
    supervisor, before = model.supervisor, model.supervisor.restarts
    pid: int | None = pid_of(model)
    request = build_request(model.prompt_tokens(PROMPT), {"max_tokens": 120, **KINDS[kind]})
    collector, given = Collector(model.info.engine, None), 0
    stream = model.submit(request)
    while True:
        if pid is not None and given >= at:
            os.kill(pid, how)
            pid = None
        chunk = next(stream, None)
        if chunk is None:
            break
        collector.add(chunk)
        given += len(chunk.tokens)
    if pid is not None:
        os.kill(pid, how)
    until = time.monotonic() + 20
    while supervisor.restarts == before and time.monotonic() < until:
        time.sleep(0.005)
    assert supervisor.restarts == before + 1
    return collector.result()


@pytest.mark.parametrize("kind", KINDS)
def test_killed_at_random_points(worker: Model, kind: str) -> None:
    expected = worker.generate(PROMPT, max_tokens=120, **KINDS[kind])
    points = random.Random(5)
    for _ in range(KILLS):
        result = disturbed(worker, kind, points.randrange(0, len(expected.tokens) + 2), signal.SIGKILL)
        assert (result.tokens, result.text, result.finish_reason) == (
            expected.tokens,
            expected.text,
            expected.finish_reason,
        )


@pytest.mark.parametrize("how", [signal.SIGSEGV, signal.SIGSTOP, signal.SIGTERM])
def test_crashed_hung_or_gone(worker: Model, how: signal.Signals) -> None:
    """SIGTERM makes a worker leave with status 0, which nobody asked for: that is a death too."""
    expected = worker.generate(PROMPT, max_tokens=120, temperature=0)
    for at in range(0, 120, 120 // CRASHES):
        assert disturbed(worker, "greedy", at, how).tokens == expected.tokens


def test_eight_at_once_lose_their_worker(worker: Model) -> None:
    seeds = range(8)
    expected = [worker.generate(PROMPT, max_tokens=150, seed=seed).tokens for seed in seeds]
    for _ in range(max(2, KILLS // 4)):
        got: dict[int, tuple[int, ...]] = {}

        def run(seed: int, got: dict[int, tuple[int, ...]] = got) -> None:
            got[seed] = worker.generate(PROMPT, max_tokens=150, seed=seed).tokens

        threads = [threading.Thread(target=run, args=(seed,)) for seed in seeds]
        pid = pid_of(worker)
        for thread in threads:
            thread.start()
        time.sleep(random.uniform(0.0, 0.2))
        os.kill(pid, signal.SIGKILL)
        for thread in threads:
            thread.join()
        assert [got[seed] for seed in seeds] == expected


def test_a_request_that_kills_twice_fails_and_its_neighbours_complete() -> None:
    with in_worker("echo", "echo", failure="crash", failure_at=1_000_000_000, failure_text="poison") as model:
        texts = [f"neighbour {i}: " + "abc " * 20 for i in range(7)]
        poison = "this is poison"
        got: dict[str, tuple[int, ...]] = {}

        def run(text: str) -> None:
            got[text] = model.generate(text, max_tokens=80, temperature=0).tokens

        threads = [threading.Thread(target=run, args=(text,)) for text in texts]
        for thread in threads:
            thread.start()
        with pytest.raises(EngineCrashed) as caught:
            model.generate(poison, max_tokens=8, temperature=0)
        for thread in threads:
            thread.join()
        assert set(got) == set(texts)
        assert caught.value.fields["deaths"] >= 2
        assert caught.value.fields["signal"] or caught.value.fields["exit_status"] is not None
        assert "log_lines" in caught.value.fields
        with pytest.raises(EngineCrashed, match="refused"):
            model.generate(poison, max_tokens=8, temperature=0)


def test_the_breaker_opens_and_says_when_it_is_tried_again() -> None:
    quick = Supervision(first_pause_seconds=0.01, last_pause_seconds=30, deaths=3)
    with in_worker("echo", "echo", quick) as model:
        assert model.supervisor is not None
        for _ in range(3):
            os.kill(pid_of(model), signal.SIGKILL)
            deadline = time.monotonic() + 20
            seen = model.supervisor.restarts
            while model.supervisor.restarts == seen and time.monotonic() < deadline:
                time.sleep(0.01)
        with pytest.raises(EngineCrashed) as caught:
            model.generate("hello", max_tokens=3)
        assert model.supervisor.state == "failed"
        assert 0 < caught.value.fields["retry_after_seconds"] <= 40


def test_a_stream_that_is_closed_while_its_worker_comes_back_leaves_nothing(worker: Model) -> None:
    assert worker.supervisor is not None
    for after in (0.0, 0.02, 0.3):
        stream = worker.stream(PROMPT, max_tokens=1900, temperature=0, ignore_end=True)
        next(stream)
        seen = worker.supervisor.restarts
        os.kill(pid_of(worker), signal.SIGKILL)
        closing = threading.Timer(after, stream.close)
        closing.start()
        with contextlib.suppress(EnginebayError):  # a reader who waits is told
            for _ in stream:
                pass
        closing.join()
        until = time.monotonic() + 20
        while worker.supervisor.restarts == seen and time.monotonic() < until:
            time.sleep(0.005)
        while worker.supervisor.worker().running and time.monotonic() < until:
            time.sleep(0.005)
        assert worker.supervisor.worker().running == 0


HOST = """
import sys, time
import enginebay
model = enginebay.open("echo", engine="echo", isolation="process", options={"step_seconds": 0.01})
print(model.supervisor.pid, flush=True)
for _ in model.stream("again " * 100, max_tokens=500, temperature=0):
    pass
"""


def test_no_worker_outlives_its_host() -> None:
    rounds = max(3, HOSTS)
    for i in range(rounds):
        host = subprocess.Popen([sys.executable, "-c", textwrap.dedent(HOST)], stdout=subprocess.PIPE, text=True)
        assert host.stdout is not None
        pid = int(host.stdout.readline())
        time.sleep(0.3 * i / rounds)
        host.kill()
        host.wait()
        host.stdout.close()
        deadline = time.monotonic() + 3
        while Path(f"/proc/{pid}").exists() and time.monotonic() < deadline:
            time.sleep(0.02)
        assert not Path(f"/proc/{pid}").exists()


def test_isolation_changes_no_token(worker: Model) -> None:
    with enginebay.open("demo", engine=worker.info.engine, isolation="inline") as inline:
        for options in KINDS.values():
            assert worker.generate(PROMPT, max_tokens=80, **options).tokens == (
                inline.generate(PROMPT, max_tokens=80, **options).tokens
            )
