"""Streams end in success or in an error, never in between; who leaves frees what was used; nobody disturbs another."""

from __future__ import annotations

import concurrent.futures
import json
import os
import random
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from serving import chat_body

STREAMS = int(os.environ.get("ENGINEBAY_TEST_STREAMS", "100"))
"""How many streams run at once; 200 in a long run."""

LEAVERS = int(os.environ.get("ENGINEBAY_TEST_LEAVERS", "30"))
"""How many clients leave; 200 in a long run."""

KILLS = int(os.environ.get("ENGINEBAY_TEST_KILLS", "12"))
"""How often a worker is killed; 140 in a long run."""

STORY = "Tell me a story about a robot."


def events(answer: httpx.Response) -> Iterator[str]:
    """The data of each event; anything else in the stream must be a comment or a blank line."""
    for line in answer.iter_lines():
        if line.startswith("data: "):
            yield line[6:]
        else:
            assert line == "" or line.startswith(":"), line


def streamed(client: httpx.Client, text: str = STORY, **fields: Any) -> tuple[str, str]:
    """The text of a stream, and how it ended: ``done``, the code of an error, a status, or ``cut``."""
    with client.stream("POST", "/v1/chat/completions", json=chat_body(text, stream=True, **fields)) as answer:
        if answer.status_code != 200:
            assert answer.headers["retry-after"].isdigit()
            return "", str(answer.status_code)
        said, finished = "", False
        for data in events(answer):
            if data == "[DONE]":
                assert finished
                return said, "done"
            event = json.loads(data)
            if "error" in event:
                return said, str(event["error"]["code"])
            for choice in event["choices"]:
                said += choice["delta"].get("content") or ""
                finished = finished or bool(choice["finish_reason"])
    return said, "cut"


def whole(server: Any, text: str = STORY, **fields: Any) -> str:
    return str(server.chat(text, **fields).json()["choices"][0]["message"]["content"])


def test_many_at_once_are_complete_or_refused(server: Any) -> None:
    stories = [f"Tell me a story about a {animal}." for animal in ("fox", "cat", "bear", "duck", "dragon")]
    expected = {story: whole(server, story, max_tokens=40) for story in stories}
    limits = httpx.Limits(max_connections=STREAMS)
    client = httpx.Client(base_url=server.url, timeout=120, limits=limits)
    asked = [stories[i % len(stories)] for i in range(STREAMS)]
    with client, concurrent.futures.ThreadPoolExecutor(STREAMS) as pool:
        ends = list(pool.map(lambda story: streamed(client, story, max_tokens=40), asked))
    complete = [(story, said) for story, (said, end) in zip(asked, ends, strict=True) if end == "done"]
    assert {end for _, end in ends} <= {"done", "429", "503"}
    assert len(complete) > STREAMS / 2
    assert all(said == expected[story] for story, said in complete)
    assert server.running() == 0


def test_a_full_queue_is_429(special: Callable[..., Any]) -> None:
    server = special(requests=2)
    with concurrent.futures.ThreadPoolExecutor(12) as pool, httpx.Client(base_url=server.url, timeout=60) as client:
        ends = [end for _, end in pool.map(lambda _: streamed(client, max_tokens=100), range(12))]
    assert set(ends) == {"done", "429"}


def leave(server: Any, stream: bool, after: float) -> None:
    body = json.dumps(chat_body(STORY, stream=stream, max_tokens=1900, logit_bias={"2": -1000})).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    connection = socket.create_connection(("127.0.0.1", server.port))
    connection.sendall(head.encode() + body)
    time.sleep(after)
    connection.close()


def test_who_leaves_frees_the_sequence(server: Any) -> None:
    dice = random.Random(1)
    slow = 0
    for i in range(LEAVERS):
        leave(server, stream=i % 2 == 0, after=dice.uniform(0, 0.2))
        began = time.monotonic()
        while server.running() and time.monotonic() < began + 10:
            time.sleep(0.01)
        slow += time.monotonic() - began > 0.5
    assert server.running() == 0
    assert slow <= LEAVERS / 10  # the machine may be busy; the server is not
    until = time.monotonic() + 5
    while server.status()["models"][0]["requests"] and time.monotonic() < until:
        time.sleep(0.02)
    assert server.status()["models"][0]["requests"] == 0


def test_cancelling_by_id_is_an_error_for_who_waits(special: Callable[..., Any]) -> None:
    server = special(model="echo", options={"step_seconds": 0.05})
    body = {"model": "echo", "messages": [{"role": "user", "content": "Hello " * 100}], "stream": True}
    with server.http.stream("POST", "/v1/chat/completions", json=body) as answer:
        id_ = answer.headers["x-request-id"]
        seen = []
        for data in events(answer):
            seen.append(data)
            if len(seen) == 2:
                httpx.post(f"{server.url}/v1/requests/chatcmpl-{id_}/cancel").raise_for_status()
    assert len(seen) < 100
    assert json.loads(seen[-1])["error"]["code"] == "cancelled"


def test_silence_is_filled(special: Callable[..., Any]) -> None:
    server = special(model="echo", options={"step_seconds": 0.4}, silence_seconds=0.1)
    body = {"model": "echo", "messages": [{"role": "user", "content": "Hello"}], "stream": True, "max_tokens": 3}
    text = server.http.post("/v1/chat/completions", json=body).text
    assert ": still working\n\n" in text
    assert text.endswith("data: [DONE]\n\n")


def test_a_slow_reader_is_given_up_and_disturbs_nobody(special: Callable[..., Any]) -> None:
    server = special(slow_reader_seconds=1.0)
    body = json.dumps(
        chat_body(STORY, stream=True, max_tokens=1900, n=4, logprobs=True, top_logprobs=20, temperature=1.5)
    ).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    server.chat()
    before = server.connections()
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
    connection.connect(("127.0.0.1", server.port))
    connection.sendall(head.encode() + body)
    assert streamed(server.http, max_tokens=20)[1] == "done"
    assert server.running() == 1  # it is held up, not done
    until = time.monotonic() + 30
    while server.running() and time.monotonic() < until:
        time.sleep(0.1)
    assert server.running() == 0
    until = time.monotonic() + 30
    while server.connections() > before and time.monotonic() < until:
        time.sleep(0.1)
    assert server.connections() <= before  # the connection is cut, though nobody closed it
    connection.close()


def test_killed_workers_are_not_seen(special: Callable[..., Any]) -> None:
    server = special()
    expected = whole(server, max_tokens=150)
    front = server.process.pid
    for i in range(KILLS):
        pid = server.worker()
        killer = threading.Timer(random.Random(i).uniform(0.01, 0.15), os.kill, (pid, signal.SIGKILL))
        killer.start()
        assert streamed(server.http, max_tokens=150) == (expected, "done")
        killer.join()
        until = time.monotonic() + 20
        while server.worker() == pid and time.monotonic() < until:
            time.sleep(0.02)
    assert server.process.pid == front
    assert server.process.poll() is None


def test_without_recovery_a_killed_worker_is_an_error(special: Callable[..., Any]) -> None:
    server = special(recovers=False)
    expected = whole(server, max_tokens=200)
    ends = set()
    for _ in range(max(4, KILLS // 4)):
        pid = server.worker()
        killer = threading.Timer(0.05, os.kill, (pid, signal.SIGKILL))
        killer.start()
        said, end = streamed(server.http, max_tokens=200)
        assert end in {"done", "503", "engine_crashed"}
        assert expected.startswith(said)
        ends.add(end)
        killer.join()
        until = time.monotonic() + 20
        while server.worker() == pid and time.monotonic() < until:
            time.sleep(0.02)
    assert ends & {"503", "engine_crashed"}
    assert server.chat().status_code == 200


@pytest.mark.parametrize("migrate", [False, True])
def test_switching_while_it_streams(server: Any, migrate: bool) -> None:
    from enginebay import registry

    current = server.status()["engine"]
    other = next((name for name in ("mnn", "llamacpp", "mlx") if name in registry.engines() and name != current), None)
    if other is None:
        pytest.skip("one engine only")
    expected = whole(server, max_tokens=300)
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        running = [pool.submit(streamed, server.http, max_tokens=300) for _ in range(3)]
        done = server.http.post("/v1/engine/switch", json={"engine": other, "model": "demo", "migrate": migrate})
        assert done.json() == {"status": "switched", "from": current, "to": other, "loaded_model": "demo"}
        assert [one.result() for one in running] == [(expected, "done")] * 3
    assert server.status()["engine"] == other
    assert whole(server, max_tokens=300) == expected
    server.http.post("/v1/engine/switch", json={"engine": current}).raise_for_status()
