"""Switching engines under load, failed switches, unloading, and what is left behind."""

from __future__ import annotations

import itertools
import os
import sys
import threading
import time
from pathlib import Path

import pytest
from engines import ENGINES

import enginebay
from enginebay.bay import Bay
from enginebay.errors import ConfigError, EnginebayError, ModelLoadError, ModelNotFound, OutOfMemory
from enginebay.model import Model, build_request

SWITCHES = int(os.environ.get("ENGINEBAY_TEST_SWITCHES", "12"))
"""How many switches happen under load; 200 in a long run."""

PROMPT = "Once upon a time"
pytestmark = pytest.mark.skipif(len(ENGINES) < 2, reason="switching needs two engines")


def request_for(seed: int, tokens: int = 60):  # type: ignore[no-untyped-def]
    def build(model: Model) -> enginebay.GenerateRequest:
        options = {"max_tokens": tokens, "temperature": 0.8, "seed": seed}
        return build_request(model.prompt_tokens(PROMPT), options)

    return build


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def threads() -> int:
    return len([thread for thread in threading.enumerate() if thread.name != "enginebay-spawner"])


def resident() -> int:
    from enginebay.memory import resident_bytes

    return resident_bytes(os.getpid()) or 0


@pytest.mark.parametrize("migrate", [False, True])
def test_switches_under_load_lose_nothing(migrate: bool) -> None:
    config = enginebay.Config(isolation="process")
    with Bay(config) as bay:
        bay.load("demo", ENGINES[0])
        with bay.use() as model:
            expected = {s: model.submit(request_for(s)(model)) for s in range(20)}
            expected_tokens = {s: tuple(t for c in stream for t in c.tokens) for s, stream in expected.items()}
        over, wrong, done = threading.Event(), [], itertools.count()

        def reader(seed: int) -> None:
            while not over.is_set():
                try:
                    tokens = tuple(t for c in bay.submit(request_for(seed)) for t in c.tokens)
                except EnginebayError as error:
                    wrong.append(repr(error))
                    return
                if tokens != expected_tokens[seed]:
                    wrong.append(f"seed {seed}: {tokens} is not {expected_tokens[seed]}")
                next(done)

        readers = [threading.Thread(target=reader, args=(seed,)) for seed in range(20)]
        for one in readers:
            one.start()
        order = itertools.cycle(ENGINES[1:] + ENGINES[:1])
        for engine in itertools.islice(order, SWITCHES):
            before = bay.status().engine
            switched = bay.switch(engine=engine, migrate=migrate)
            assert switched.to_dict() == {"status": "switched", "from": before, "to": engine, "loaded_model": "demo"}
            with bay.use() as model:
                assert model.info.engine == engine
        over.set()
        for one in readers:
            one.join()
        assert not wrong, wrong[:3]
        assert next(done) > 20


def test_a_switch_that_fails_changes_nothing(tmp_path: Path) -> None:
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(b"GGUF" + bytes(100))
    with Bay(enginebay.Config(isolation="process")) as bay:
        bay.load("demo", "mnn" if "mnn" in ENGINES else ENGINES[0])
        before = bay.status().engine
        with bay.use() as model:
            expected = model.generate(PROMPT, max_tokens=10, temperature=0).tokens
        for _ in range(max(3, SWITCHES // 4)):
            with pytest.raises((ModelLoadError, ModelNotFound)):
                bay.switch(engine="llamacpp", model=str(broken))
            with pytest.raises(ModelNotFound):
                bay.switch(model="no-such-model")
            assert bay.status().engine == before
            with bay.use() as model:
                assert model.generate(PROMPT, max_tokens=10, temperature=0).tokens == expected


def test_nothing_is_left_behind() -> None:
    def once() -> None:
        with Bay(enginebay.Config(isolation="process")) as bay:
            for engine in ENGINES:
                bay.switch(engine=engine, model="demo")
                with bay.use() as model:
                    model.generate(PROMPT, max_tokens=5)

    once()
    before = descriptors(), threads()
    once()
    once()
    until = time.monotonic() + 5
    while (descriptors(), threads()) != before and time.monotonic() < until:
        time.sleep(0.05)
    assert (descriptors(), threads()) == before


def test_loading_and_unloading_keeps_the_hosts_memory_flat() -> None:
    engine = "llamacpp" if "llamacpp" in ENGINES else ENGINES[0]
    with Bay(enginebay.Config(isolation="process")) as bay:

        def rounds(count: int) -> None:
            for _ in range(count):
                bay.load("demo", engine)
                with bay.use("demo") as model:
                    model.generate(PROMPT, max_tokens=5)
                pid = bay.status().models[0].pid
                bay.unload("demo")
                assert pid
                assert not Path(f"/proc/{pid}").exists(), "the worker, and with it the memory, is gone"

        rounds(3)
        before = resident()
        rounds(max(5, SWITCHES // 4))
        assert resident() - before < 8 * 1024 * 1024


def test_idle_models_are_unloaded_and_come_back() -> None:
    models = {"little": enginebay.config.ModelConfig(reference="demo", engine=ENGINES[0], idle_seconds=0.2)}
    with Bay(enginebay.Config(isolation="process", models=models)) as bay:
        bay.load("demo", ENGINES[1])
        with bay.use("little") as model:
            model.generate(PROMPT, max_tokens=3)

        def state() -> str:
            return next(one.state for one in bay.status().models if one.name == "little")

        until = time.monotonic() + 10
        while state() != "stopped" and time.monotonic() < until:
            time.sleep(0.05)
        assert state() == "stopped"
        with bay.use("little") as model:
            assert model.generate(PROMPT, max_tokens=3).tokens


def test_what_does_not_fit_is_refused_with_the_arithmetic(monkeypatch: pytest.MonkeyPatch) -> None:
    if "llamacpp" not in ENGINES:
        pytest.skip("needs an engine that estimates")
    monkeypatch.setattr("enginebay.memory.available_bytes", lambda: 70 * 1024 * 1024)
    with Bay(enginebay.Config(isolation="process")) as bay:
        with pytest.raises(OutOfMemory) as caught:
            bay.load("demo", "llamacpp")
        assert "available" in str(caught.value)
        assert caught.value.fields["needed_bytes"] > 0


@pytest.mark.skipif(sys.platform != "linux", reason="other systems keep no such limit")
def test_a_worker_over_its_memory_limit_is_an_error_and_the_host_lives() -> None:
    if "llamacpp" not in ENGINES:
        pytest.skip("needs an engine whose cache is taken at once")
    bounded = enginebay.Config(isolation="process", memory_bytes=1 << 28)
    with pytest.raises(OutOfMemory):
        enginebay.open("demo", engine="llamacpp", config=bounded, context_tokens=8192, sequences=8)
    with enginebay.open("demo", engine="llamacpp", config=bounded, context_tokens=256, sequences=1) as model:
        assert model.generate(PROMPT, max_tokens=5).tokens
    with pytest.raises(ConfigError, match="memory_bytes"):
        enginebay.open("demo", engine="llamacpp", config=bounded, isolation="inline")
