"""What every request passes before an endpoint sees it: an id, a log line, limits, names, keys, the whole body. It knows no
endpoint but ``/health``.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import ipaddress
import logging
import secrets
import time
from urllib.parse import urlsplit

import pydantic_core
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from enginebay_server import logs
from enginebay_server.errors import Refusal, refusal
from enginebay_server.metrics import Metrics
from enginebay_server.settings import Settings

log = logging.getLogger(__name__)
OPEN_PATHS = frozenset({"/health"})
HEADER_BYTES = 64 * 1024
LINGER_SECONDS = 5.0
CLIENT_GONE = 499


class Observed:
    """Gives each request an id, answers for what fails, and logs and counts how it ended."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        id_ = scope["enginebay.request_id"] = secrets.token_hex(12)
        began = time.monotonic()
        status = 0

        async def tagged(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), (b"x-request-id", id_.encode())]
            await send(message)

        try:
            await self._app(scope, receive, tagged)
        except Exception as error:
            answer = refusal(error)
            if answer.status == 500 and not isinstance(error, Refusal):
                log.exception("request %s failed", id_)
            if status:
                raise
            await answer.response()(scope, receive, tagged)
        finally:
            self._count(scope, id_, status, time.monotonic() - began)

    def _count(self, scope: Scope, id_: str, status: int, seconds: float) -> None:
        gone = scope.get("enginebay.client_gone") or status in (0, CLIENT_GONE)
        route = getattr(scope.get("route"), "path", "none")
        self._metrics.requests.labels(route, str(status or CLIENT_GONE)).inc()
        self._metrics.seconds.labels(route).observe(seconds)
        if gone:
            self._metrics.gone.inc()
        path = scope["path"][:200]
        milliseconds = round(seconds * 1000, 1)
        extra = {"client_gone": True} if gone else {}
        logs.event(
            "request", id=id_, method=scope["method"], path=path, status=status, milliseconds=milliseconds, **extra
        )


class Guarded:
    """Refuses too many headers, names and origins that are not allowed, and requests without a key."""

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self._app = app
        self._settings = settings
        self._keys = [key.encode() for key in settings.keys]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            if scope["type"] == "websocket":
                await send({"type": "websocket.close", "code": 1008})
                return
            await self._app(scope, receive, send)
            return
        problem = self._problem(scope)
        if problem:
            await problem.response()(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _problem(self, scope: Scope) -> Refusal | None:
        headers: list[tuple[bytes, bytes]] = scope["headers"]
        size = sum(len(name) + len(value) + 4 for name, value in headers)
        if len(headers) > self._settings.header_lines or size > HEADER_BYTES:
            close = {"Connection": "close"}
            return Refusal(431, "headers_too_large", "The headers are too many or too large.", headers=close)
        given = dict(headers)
        if not self._host_allowed(given.get(b"host", b"").decode("latin-1")):
            return Refusal(403, "host_not_allowed", "This server does not go by that name (Host).")
        origin = given.get(b"origin", b"").decode("latin-1")
        if origin and scope["method"] not in ("GET", "HEAD", "OPTIONS") and not self._origin_allowed(origin):
            return Refusal(403, "origin_not_allowed", "This Origin may not call the server.")
        path = scope["path"].removeprefix(scope.get("root_path", "")) or "/"
        if self._keys and path not in OPEN_PATHS and not self._key_fits(given):
            challenge = {"WWW-Authenticate": "Bearer"}
            return Refusal(401, "invalid_api_key", "The API key is missing or wrong.", headers=challenge)
        return None

    def _host_allowed(self, host: str) -> bool:
        name = _host_name(host)
        return name in self._settings.hosts or _is_loopback(name)

    def _origin_allowed(self, origin: str) -> bool:
        if origin in self._settings.origins:
            return True
        with contextlib.suppress(ValueError):
            return _is_loopback(urlsplit(origin).hostname or "")
        return False

    def _key_fits(self, headers: dict[bytes, bytes]) -> bool:
        kind, _, bearer = headers.get(b"authorization", b"").partition(b" ")
        given = bearer.strip() if kind.lower() == b"bearer" else headers.get(b"x-api-key", b"")
        return sum(hmac.compare_digest(given, key) for key in self._keys) > 0


def _host_name(host: str) -> str:
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.rpartition(":")[0] if host.count(":") == 1 else host


def _is_loopback(name: str) -> bool:
    if name.lower().rstrip(".") == "localhost":
        return True
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(name).is_loopback
    return False


class Bodied:
    """Reads the body before the endpoint is called: within its size, its time, and JSON that is not too deep."""

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self._app = app
        self._settings = settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] in ("GET", "HEAD", "OPTIONS"):
            await self._app(scope, receive, send)
            return
        try:
            body = await self._read(scope, receive)
            if body is None:
                scope["enginebay.client_gone"] = True
                return
            _check_json(scope, body)
        except Refusal as problem:
            await self._refuse(problem, receive, send)
            return
        delivered = False

        async def replay() -> Message:
            nonlocal delivered
            if delivered:
                return await receive()
            delivered = True
            return {"type": "http.request", "body": body, "more_body": False}

        await self._app(scope, replay, send)

    async def _read(self, scope: Scope, receive: Receive) -> bytes | None:
        """The body; None if the client left before its end."""
        settings = self._settings
        length = dict(scope["headers"]).get(b"content-length", b"0")
        if length.isdigit() and int(length[:20]) > settings.body_bytes:
            raise self._too_large()
        parts: list[bytes] = []
        size, began = 0, time.monotonic()
        while True:
            until = began + settings.body_seconds + size / settings.body_bytes_per_second
            try:
                async with asyncio.timeout(until - time.monotonic()):
                    message = await receive()
            except TimeoutError:
                raise Refusal(
                    408, "body_too_slow", "The body did not come in time.", headers={"Connection": "close"}
                ) from None
            if message["type"] == "http.disconnect":
                return None
            parts.append(message.get("body", b""))
            size += len(parts[-1])
            if size > settings.body_bytes:
                raise self._too_large()
            if not message.get("more_body"):
                return b"".join(parts)

    def _too_large(self) -> Refusal:
        message = f"The body is over the limit of {self._settings.body_bytes:,} bytes."
        return Refusal(413, "body_too_large", message, headers={"Connection": "close"})

    async def _refuse(self, problem: Refusal, receive: Receive, send: Send) -> None:
        """Answer; then, where more of the body is coming, drop it for a while, so that the client gets to read the answer."""
        response = problem.response()
        await send({"type": "http.response.start", "status": problem.status, "headers": response.raw_headers})
        await send({"type": "http.response.body", "body": bytes(response.body), "more_body": True})
        if problem.status == 413:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LINGER_SECONDS):
                    while (message := await receive())["type"] == "http.request" and message.get("more_body"):
                        pass
        await send({"type": "http.response.body", "body": b"", "more_body": False})


def _check_json(scope: Scope, body: bytes) -> None:
    kind = dict(scope["headers"]).get(b"content-type", b"").split(b";")[0].strip().lower()
    if not body and not kind:
        return
    if kind != b"application/json":
        raise Refusal(415, "not_json", "The content type is not application/json.")
    if not body:
        return
    try:
        pydantic_core.from_json(body, allow_inf_nan=False)
    except ValueError as error:
        raise Refusal(400, "invalid_json", f"The body is not JSON that can be read: {str(error)[:200]}") from None
