"""uvicorn's HTTP/1.1 protocol with what it lacks: time for headers, errors in the envelope. It knows no endpoint."""

from __future__ import annotations

import asyncio
import json
import secrets
import socket
import sys
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import STATUS_PHRASES, H11Protocol

from enginebay_server import logs
from enginebay_server.errors import Refusal

HEADER_SECONDS = 10.0
SEND_BUFFER_BYTES = 128 * 1024
TOO_LARGE = 431


class LimitedProtocol(H11Protocol):
    """One connection. Headers must be complete in time, and what is written must be read."""

    stalled_seconds = 65.0
    _deadline: asyncio.TimerHandle | None = None
    _stalled: asyncio.TimerHandle | None = None

    @classmethod
    def with_patience(cls, seconds: float) -> type[LimitedProtocol]:
        """The protocol whose connections are cut when nothing could be written to them for so long."""
        return type("LimitedProtocol", (cls,), {"stalled_seconds": seconds})

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        connection = transport.get_extra_info("socket")
        if connection is not None:  # the system would let megabytes pile up for a reader that does not read
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
        self._deadline = self.loop.call_later(HEADER_SECONDS, self._late)

    def data_received(self, data: bytes) -> None:
        if self._deadline is None and self.conn.their_state is h11.IDLE:
            self._deadline = self.loop.call_later(HEADER_SECONDS, self._late)
        super().data_received(data)
        self._arm()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._arm()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._stalled = self.loop.call_later(self.stalled_seconds, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._moving()

    def connection_lost(self, exc: Exception | None) -> None:
        self._disarm()
        self._moving()
        super().connection_lost(exc)

    def _moving(self) -> None:
        if self._stalled:
            self._stalled.cancel()
            self._stalled = None

    def _arm(self) -> None:
        """No deadline while a request is being served, or none has begun."""
        if self.conn.their_state is not h11.IDLE:
            self._disarm()

    def _disarm(self) -> None:
        if self._deadline:
            self._deadline.cancel()
            self._deadline = None

    def _late(self) -> None:
        self._deadline = None
        if self.conn.their_state is h11.IDLE and not self.transport.is_closing():
            self._answer(Refusal(408, "headers_too_slow", "The headers did not come in time."))

    def send_400_response(self, msg: str) -> None:
        """What uvicorn calls for a request that is no HTTP, or whose headers are over the limit."""
        error = sys.exc_info()[1]
        if isinstance(error, h11.RemoteProtocolError) and error.error_status_hint == TOO_LARGE:
            self._answer(Refusal(TOO_LARGE, "headers_too_large", "The headers are too large."))
        else:
            self._answer(Refusal(400, "invalid_http", msg))

    def _answer(self, problem: Refusal) -> None:
        self._disarm()
        id_ = secrets.token_hex(12)
        logs.event("refused", id=id_, status=problem.status, code=problem.code)
        body = json.dumps(problem.body()).encode()
        headers: list[Any] = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
            (b"connection", b"close"),
            (b"x-request-id", id_.encode()),
        ]
        try:
            events = (
                h11.Response(status_code=problem.status, headers=headers, reason=STATUS_PHRASES[problem.status]),
                h11.Data(data=body),
                h11.EndOfMessage(),
            )
            for one in events:
                self.transport.write(self.conn.send(one) or b"")
        except h11.LocalProtocolError:  # an answer is under way already
            pass
        self.transport.close()
