"""Server-sent events: a stream of answers that ends in success, in an error, or with the client. It knows no form of answer."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, TypeVar

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from enginebay_server.errors import refusal

log = logging.getLogger(__name__)
T = TypeVar("T")
SILENCE = b": still working\n\n"


class ClientGoneError(Exception):
    """The client has left; there is nobody to answer."""


async def gone(receive: Receive) -> None:
    """Return when the client has left."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def while_there(request: Request, work: Awaitable[T]) -> T:
    """Wait for ``work`` as long as the client does; when it leaves, the work is cancelled.

    :raises ClientGoneError: it left
    """
    working = asyncio.ensure_future(work)
    watching = asyncio.ensure_future(gone(request.receive))
    try:
        await asyncio.wait({working, watching}, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
        raise ClientGoneError
    finally:
        await _end(working, watching)


async def _end(*tasks: asyncio.Future[Any]) -> None:
    for task in tasks:
        task.cancel()
    for task in tasks:
        with contextlib.suppress(asyncio.CancelledError, Exception):
            await task


def event(value: Any, name: str | None = None) -> bytes:
    """One event: a line of JSON. ``name`` is its type, for forms whose events have one."""
    data = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    head = f"event: {name}\n" if name else ""
    return f"{head}data: {data}\n\n".encode("utf-8", "replace")


class EventStream(Response):
    """Sends events as they come, a comment in every silence, and an error event where the events end in an error.

    :param events: what to send; closing it must free what it uses
    :param on_close: called in the end, whatever happened; a second call does nothing
    """

    media_type = "text/event-stream"

    def __init__(
        self,
        events: AsyncIterator[bytes],
        on_close: Callable[[], None],
        *,
        silence_seconds: float,
        slow_reader_seconds: float,
        error_event: Callable[[dict[str, Any]], bytes] = event,
    ) -> None:
        self.status_code = 200
        self.too_slow = False
        self.background = None
        self._time = asyncio.get_running_loop().time
        self._written = 0.0
        self._write_began: float | None = None
        self._events = events
        self._on_close = on_close
        self._silence_seconds = silence_seconds
        self._slow_reader_seconds = slow_reader_seconds
        self._error_event = error_event
        self.init_headers({"Cache-Control": "no-cache", "X-Accel-Buffering": "no"})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        sending = asyncio.ensure_future(self._send_all(send))
        watching = asyncio.ensure_future(gone(receive))
        timing = asyncio.ensure_future(self._watch_time(send))
        try:
            await asyncio.wait({sending, watching, timing}, return_when=asyncio.FIRST_COMPLETED)
            if sending.done():
                sending.result()
            elif timing.done():
                timing.result()
                self.too_slow = True
                log.warning("a reader was too slow; its request was given up")
                scope["enginebay.client_gone"] = True
                self._on_close()
                await _end(sending)
                await watching  # the protocol cuts the connection soon
            else:
                scope["enginebay.client_gone"] = True
        finally:
            self._on_close()
            await _end(sending, watching, timing)

    async def _send_all(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        try:
            async for data in self._events:
                await self._write(send, data)
        except Exception as error:
            answer = refusal(error)
            if answer.status >= 500:
                log.warning("a stream failed: %s", error, exc_info=answer.code == "internal_error")
            await self._write(send, self._error_event(answer.body()))
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _write(self, send: Send, data: bytes) -> None:
        self._write_began = self._time()
        await send({"type": "http.response.body", "body": data, "more_body": True})
        self._write_began, self._written = None, self._time()

    async def _watch_time(self, send: Send) -> None:
        """Fill silences; return when something has been waiting to be written for too long.

        One timer for a stream: one for each event would cost more than the event.
        """
        self._written = self._time()
        while True:
            now = self._time()
            if self._write_began is not None:
                left = self._write_began + self._slow_reader_seconds - now
                if left <= 0:
                    return
            else:
                left = self._written + self._silence_seconds - now
                if left <= 0:
                    await self._write(send, SILENCE)
                    continue
            await asyncio.sleep(min(left, self._slow_reader_seconds))
