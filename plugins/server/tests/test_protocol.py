"""What hostile or broken clients send: every answer is in the envelope, and nobody else notices."""

from __future__ import annotations

import json
import os
import random
import shlex
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from serving import serve_command

from enginebay.bay import Bay
from enginebay_server import app

BODIES = int(os.environ.get("ENGINEBAY_TEST_BODIES", "400"))
"""How many malformed bodies are sent; 10,000 in a long run."""

CONNECTIONS = int(os.environ.get("ENGINEBAY_TEST_CONNECTIONS", "150"))
"""How many connections are left half open, and how many send slowly; 300 in a long run."""

GOOD: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {
        "model": "demo",
        "messages": [{"role": "user", "content": "Hi"}],
        "max_tokens": 2,
        "stop": "x",
    },
    "/v1/completions": {"model": "demo", "prompt": "Hi", "max_tokens": 2, "logit_bias": {"5": 1}, "seed": 1},
    "/v1/responses": {"model": "demo", "input": [{"role": "user", "content": "Hi"}], "max_output_tokens": 2},
    "/v1/messages": {"model": "demo", "max_tokens": 2, "messages": [{"role": "user", "content": "Hi"}]},
    "/v1/embeddings": {"model": "echo", "input": ["Hi"]},
    "/v1/rerank": {"model": "demo", "query": "Hi", "documents": ["a"]},
    "/tokenize": {"model": "demo", "content": "Hi"},
    "/detokenize": {"model": "demo", "tokens": [1, 2]},
}
ODD: list[Any] = [
    None, True, -1, 0, 1.5, 1e308, 10**30, "", "x" * 5000, [], {}, [[]], {"a": {}}, ["\ud800"], -0.0, "\x00", [None],
]  # fmt: skip
ODD_TEXT = [
    b"", b"{", b"nul", b"\xff\xfe", b'{"model": NaN}', b"[" * 1000, b'{"a":' * 1000, b'{"prompt": "\xc3\x28"}',
    b'{"max_tokens": ' + b"9" * 10_000 + b"}", b'{"temperature": 1e999}', b'"\\ud800"', b"{}" * 2, b"\x00" * 64,
]  # fmt: skip


def in_envelope(answer: httpx.Response) -> bool:
    error = answer.json()["error"]
    return set(error) == {"message", "type", "param", "code"} and all(error[k] for k in ("message", "type", "code"))


def mutated(value: Any, dice: random.Random) -> Any:
    """The value with one place in it made odd."""
    if isinstance(value, dict) and value and dice.random() < 0.8:
        key = dice.choice(list(value))
        if dice.random() < 0.15:
            return {**value, dice.choice(["n", "logprobs", "tools", "stream", "x", "stop", "seed"]): dice.choice(ODD)}
        return {**value, key: mutated(value[key], dice)}
    if isinstance(value, list) and value and dice.random() < 0.7:
        return [mutated(one, dice) for one in value] * dice.choice([1, 1, 3])
    return dice.choice(ODD)


def test_malformed_bodies(server: Any) -> None:
    dice = random.Random(3)
    refused = 0
    for i in range(BODIES):
        path = dice.choice(list(GOOD))
        body = json.dumps(mutated(GOOD[path], dice)).encode()
        if dice.random() < 0.3:
            body = dice.choice([body[: dice.randrange(len(body))], dice.randbytes(40), *ODD_TEXT])
        answer = server.http.post(path, content=body, headers={"Content-Type": "application/json"})
        assert answer.status_code < 500, (i, path, body[:300], answer.text)
        assert answer.headers["x-request-id"]
        if answer.status_code != 200:
            refused += 1
            assert in_envelope(answer), (path, body[:300], answer.text)
    assert refused > BODIES / 2
    assert server.chat().status_code == 200


@pytest.mark.parametrize(
    ("method", "path", "headers", "content", "status", "code"),
    [
        ("GET", "/nowhere", {}, b"", 404, "not_found"),
        ("GET", "/v1/chat/completions", {}, b"", 405, "method_not_allowed"),
        ("POST", "/health", {}, b"", 405, "method_not_allowed"),
        ("POST", "/tokenize", {"Content-Type": "text/plain"}, b"{}", 415, "not_json"),
        ("POST", "/tokenize", {"Content-Type": "application/json", "Origin": "https://evil.example"}, b"{}", 403, "origin_not_allowed"),
        ("GET", "/health", {"Host": "evil.example"}, b"", 403, "host_not_allowed"),
        ("GET", "/health", {f"x-{i}": "1" for i in range(101)}, b"", 431, "headers_too_large"),
        ("GET", "/health", {"x": "1" * 70_000}, b"", 431, "headers_too_large"),
        ("POST", "/v1/requests/none/cancel", {}, b"", 404, "request_not_found"),
        ("POST", "/v1/engine/switch", {"Content-Type": "application/json"}, b'{"engine": "none"}', 404, "unknown_engine"),
        ("POST", "/v1/engine/switch", {"Content-Type": "application/json"}, b'{"model": "/etc"}', 404, "model_not_found"),
    ],
)  # fmt: skip
def test_refusals(
    server: Any, method: str, path: str, headers: dict[str, str], content: bytes, status: int, code: str
) -> None:
    answer = server.http.request(method, path, headers=headers, content=content)
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
    assert in_envelope(answer)
    assert "access-control-allow-origin" not in answer.headers
    if status == 405:
        assert answer.headers["allow"]


def test_a_page_on_this_machine_may_call(server: Any) -> None:
    answer = server.http.post("/tokenize", json={"content": "Hi"}, headers={"Origin": "http://localhost:3000"})
    assert answer.status_code == 200


def connected(server: Any, data: bytes = b"") -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", server.port), timeout=30)
    connection.sendall(data)
    return connection


def answer_of(connection: socket.socket) -> tuple[int, dict[str, Any]]:
    """The status and the body of what comes until the server closes."""
    data = b""
    while part := connection.recv(65536):
        data += part
    head, _, body = data.partition(b"\r\n\r\n")
    assert b"x-request-id: " in head
    return int(head.split()[1]), json.loads(body)


def test_half_open_and_slow_connections_disturb_nobody(server: Any) -> None:
    head = b"POST /tokenize HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 100000\r\n"
    before = server.descriptors()
    idle = [connected(server) for _ in range(CONNECTIONS // 3)]
    half = [connected(server, head) for _ in range(CONNECTIONS // 3)]
    slow = [connected(server, head + b"\r\n") for _ in range(CONNECTIONS // 3)]
    waits = []
    for i in range(13):
        for connection in slow if i < 8 else ():
            connection.sendall(b" ")
        began = time.monotonic()
        assert server.chat(max_tokens=2).status_code == 200
        waits.append(time.monotonic() - began)
        time.sleep(1)
    for connections, code in ((idle, "headers_too_slow"), (half, "headers_too_slow"), (slow, "body_too_slow")):
        for connection in connections:
            status, body = answer_of(connection)
            assert (status, body["error"]["code"]) == (408, code)
            connection.close()
    assert sorted(waits)[len(waits) // 2] < 1
    assert server.descriptors() <= before + 2


def chunked(total: int) -> Any:
    for _ in range(total // 65536):
        yield b" " * 65536


@pytest.mark.parametrize("length_is_said", [True, False])
def test_a_big_body_costs_no_memory(server: Any, length_is_said: bool) -> None:
    server.chat()
    before = server.resident_bytes()
    size = 300 * 1024 * 1024
    how = f"Content-Length: {size}" if length_is_said else "Transfer-Encoding: chunked"
    connection = connected(
        server,
        f"POST /tokenize HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n{how}\r\n\r\n".encode(),
    )
    part = b" " * 65536 if length_is_said else b"10000\r\n" + b" " * 65536 + b"\r\n"
    connection.settimeout(20)
    peak = before
    try:
        for i in range(size // 65536):
            connection.sendall(part)
            if i % 200 == 0:
                peak = max(peak, server.resident_bytes())
    except OSError:
        pass  # the server has answered and closed
    peak = max(peak, server.resident_bytes())
    assert peak - before < 64 * 1024 * 1024
    with connection:
        try:
            data = connection.recv(65536)
        except OSError:
            data = b""
    if data:
        assert b" 413 " in data
    assert server.chat().status_code == 200


def test_a_body_over_the_limit_is_refused(server: Any) -> None:
    for content in (b" " * 11_000_000, chunked(11 * 1024 * 1024)):
        answer = server.http.post("/tokenize", content=content, headers={"Content-Type": "application/json"})
        assert (answer.status_code, in_envelope(answer)) == (413, True)


def test_a_big_header_costs_no_memory(server: Any) -> None:
    server.chat()
    before = server.resident_bytes()
    connection = connected(server, b"GET /health HTTP/1.1\r\nHost: localhost\r\nX: ")
    try:
        for _ in range(320):
            connection.sendall(b"x" * 65536)
    except OSError:
        pass
    connection.close()
    assert server.resident_bytes() - before < 16 * 1024 * 1024
    assert server.chat().status_code == 200


def test_what_is_no_http_is_answered(server: Any) -> None:
    for data in (
        b"\x16\x03\x01\x02\x00",
        b"GET\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: x\r\n\r\n",
        b"\r\n\r\n\x00\x00",
    ):
        connection = connected(server, data + b"\r\n\r\n")
        status, body = answer_of(connection)
        assert (status, body["error"]["code"]) == (400, "invalid_http")


KEY = "a-key-of-more-than-16-characters"


def test_a_key_guards_every_route_but_health(start: Callable[..., Any], tmp_path: Any) -> None:
    file = tmp_path / "keys"
    file.write_text(f"# for tests\n{KEY}\n")
    server = start("--api-key-file", str(file))
    with Bay() as bay:
        paths: dict[str, set[str]] = {"GET": set(), "POST": set()}
        for path, methods in app(bay).openapi()["paths"].items():
            for method in methods:
                paths[method.upper()].add(path)
    paths["GET"] |= {"/openapi.json", "/docs", "/nowhere"}
    assert len(paths["GET"] | paths["POST"]) > 20
    for method, guarded in paths.items():
        for path in guarded - {"/health"}:
            for headers in ({}, {"Authorization": "Bearer wrong"}, {"X-Api-Key": KEY + "x"}, {"Authorization": KEY}):
                answer = server.http.request(method, path, headers=headers)
                assert (answer.status_code, in_envelope(answer)) == (401, True), path
    assert server.http.get("/health").status_code == 200
    assert server.http.get("/v1/models", headers={"X-Api-Key": KEY}).status_code == 200
    assert server.http.get("/v1/models", headers={"Authorization": f"Bearer {KEY}"}).status_code == 200
    command = Path(f"/proc/{server.process.pid}/cmdline").read_text()
    assert KEY not in server.log.read_text() + server.first_line + command


def test_another_address_needs_a_key() -> None:
    done = subprocess.run(serve_command("--host", "0.0.0.0"), capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert "--api-key-file" in done.stderr


def test_logs_are_lines_without_prompts(server: Any) -> None:
    server.chat("a secret prompt", max_tokens=2)
    answer = server.http.get("/v1/models/a%0Ab%1b[31m")
    assert answer.status_code == 404
    lines = server.log.read_text().splitlines()
    found = [line for line in lines if answer.headers["x-request-id"] in line]
    assert len(found) == 1
    assert json.loads(found[0])["status"] == 404
    assert "secret prompt" not in "".join(lines)
    assert "\x1b" not in "".join(lines)


def test_the_first_line_is_a_command_that_works(server: Any) -> None:
    command = server.first_line.partition("Try: ")[2]
    done = subprocess.run([*shlex.split(command), "-s"], capture_output=True, text=True, timeout=60)
    assert json.loads(done.stdout)["choices"][0]["message"]["content"]


def test_operation(server: Any) -> None:
    server.chat(max_tokens=3)
    assert server.http.get("/ready").json() == {"status": "ready", "model": "demo"}
    assert "enginebay_completion_tokens_total" in server.http.get("/metrics").text
    for path, shows in (("/docs", "openapi.json"), ("/", "v1/engine/switch")):
        page = server.http.get(path)
        assert shows in page.text
        assert "://" not in page.text
        assert "default-src 'none'" in page.headers["content-security-policy"]
