"""Many short requests with switches and cancels between them leave nothing behind."""

from __future__ import annotations

import concurrent.futures
import os
import random
import time
from typing import Any

from serving import ENGINE

from enginebay import registry

REQUESTS = int(os.environ.get("ENGINEBAY_TEST_SOAK", "400"))
"""How many requests; 20,000 in a long run."""

OTHER = next((name for name in ("mnn", "llamacpp", "mlx") if name in registry.engines() and name != ENGINE), None)


def measured(server: Any) -> tuple[int, int, int]:
    """Descriptors, threads and memory, once the model that was switched away from is gone."""
    until = time.monotonic() + 30
    while time.monotonic() < until:
        status = server.status()
        others = [one for one in status["models"] if one["model"] == "demo" and not one["current"]]
        if status["requests"] == 0 and all(one["pid"] is None for one in others):
            break
        time.sleep(0.2)
    time.sleep(1)
    return server.descriptors(), server.threads(), server.resident_bytes()


def some(server: Any, count: int, dice: random.Random) -> None:
    def one(number: int) -> None:
        stream = number % 3 == 0
        body = {"model": "demo", "prompt": f"Once upon a time {number}", "max_tokens": 4, "stream": stream}
        if number % 10 == 0:  # leave early
            with server.http.stream("POST", "/v1/completions", json={**body, "max_tokens": 400, "stream": True}):
                return
        answer = server.http.post("/v1/completions", json=body)
        assert answer.status_code in (200, 429, 503), answer.text
        assert not stream or answer.status_code != 200 or answer.text.endswith("[DONE]\n\n")

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        list(pool.map(one, [dice.randrange(10**6) for _ in range(count)]))


def test_nothing_is_left_behind(server: Any) -> None:
    dice = random.Random(2)
    rounds = 4
    for _ in range(2):  # what is built once is built now
        some(server, 100, dice)
        for engine in (OTHER, ENGINE):
            if engine:
                server.http.post("/v1/engine/switch", json={"engine": engine}).raise_for_status()
    before = measured(server)
    for _ in range(rounds):
        some(server, REQUESTS // rounds, dice)
        for engine in (OTHER, ENGINE):
            if engine:
                server.http.post("/v1/engine/switch", json={"engine": engine, "migrate": True}).raise_for_status()
    descriptors, threads, memory = measured(server)
    assert descriptors <= before[0] + 3
    assert threads <= before[1] + 3
    assert memory <= before[2] + 24 * 1024 * 1024
    assert server.chat().status_code == 200
