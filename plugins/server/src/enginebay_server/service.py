"""What the endpoints share: the bay, the settings, the running requests, and how a request is begun and awaited."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, TypeVar

from starlette.requests import Request

from enginebay.bay import Bay
from enginebay.data import Chunk
from enginebay_server.errors import Refusal
from enginebay_server.events import EventStream, event, while_there
from enginebay_server.metrics import Metrics
from enginebay_server.offer import Offer
from enginebay_server.running import Build, Job, Registry, Running, Started
from enginebay_server.settings import Settings

T = TypeVar("T")
THREADS = 32
FIRST_WAIT_SECONDS = 5.0
"""How long a stream waits for its first token before it says 200; until then an error has its own status."""


class Service:
    """One server's state. It lives in ``app.state.service``."""

    def __init__(self, bay: Bay, settings: Settings) -> None:
        self.bay = bay
        self.settings = settings
        self.offer = Offer(bay)
        self.registry = Registry()
        self.metrics = Metrics(bay, lambda: len(self.registry))
        self.created = int(time.time())
        self._threads = ThreadPoolExecutor(THREADS, "enginebay-call")
        self._working = 0

    def name(self, asked: str | None) -> str | None:
        """The model's name if it may be served; None for the current model.

        :raises Refusal: 404
        """
        if asked is not None and not self.offer.has(asked):
            raise Refusal(404, "model_not_found", f"There is no model {asked[:80]!r} here.", param="model")
        if asked is None and self.bay.status().model is None:
            return self.offer.default()
        return asked

    async def begin(
        self, request: Request, model: str | None, builds: tuple[Build, ...]
    ) -> tuple[Running, list[Started]]:
        """Start a job for a client, and wait until its engine has taken it.

        :raises Refusal: too many requests, an unknown model, or one that is not ready
        :raises EnginebayError: what the engine said
        """
        name = self.name(model)
        if len(self.registry) >= self.settings.requests:
            raise Refusal(429, "queue_full", "Too many requests are under way.", headers={"Retry-After": "1"})
        job = Job(request_id(request), builds, name)
        running = Running(self.bay, job, self.metrics.finished)
        self.registry.add(running)
        try:
            began = running.begin(self.settings.load_wait_seconds, FIRST_WAIT_SECONDS)
            return running, await while_there(request, began)
        except TimeoutError:
            self.end(running)
            raise Refusal(
                503, "model_loading", f"The model {name or ''} is not ready yet.", headers={"Retry-After": "5"}
            ) from None
        except BaseException:
            self.end(running)
            raise

    def end(self, running: Running) -> None:
        """Free what a job uses."""
        running.close()
        self.registry.remove(running)

    async def collect(
        self, request: Request, running: Running, take: Callable[[int, Chunk, dict[int, bytes]], bool]
    ) -> None:
        """Give every chunk to ``take`` until it says that all have come."""

        async def all_of_them() -> None:
            while not take(*await running.next()):
                pass

        try:
            await while_there(request, all_of_them())
        finally:
            self.end(running)

    def stream(
        self,
        running: Running,
        events: AsyncIterator[bytes],
        error_event: Callable[[dict[str, Any]], bytes] = event,
    ) -> EventStream:
        """The answer that sends ``events``."""
        return EventStream(
            events,
            lambda: self.end(running),
            silence_seconds=self.settings.silence_seconds,
            slow_reader_seconds=self.settings.slow_reader_seconds,
            error_event=error_event,
        )

    async def call(self, request: Request, model: str | None, work: Callable[[Any], T]) -> T:
        """Run ``work`` with the model on a thread: for what is no generation."""
        name = self.name(model)

        def with_model() -> T:
            with self.bay.use(name) as found:
                return work(found)

        return await while_there(request, self.work(with_model))

    async def work(self, call: Callable[..., T], *arguments: Any, **keywords: Any) -> T:
        """Run what may take long, such as loading, on a thread that nothing short waits for.

        :raises Refusal: too much of that is waiting already
        """
        if self._working >= self.settings.requests:
            raise Refusal(429, "queue_full", "Too many requests are under way.", headers={"Retry-After": "1"})
        self._working += 1
        work = asyncio.get_running_loop().run_in_executor(self._threads, partial(call, *arguments, **keywords))
        work.add_done_callback(self._worked)
        return await asyncio.shield(work)

    def _worked(self, work: asyncio.Future[Any]) -> None:
        self._working -= 1
        if not work.cancelled():
            work.exception()  # whoever asked may have left


def service_of(request: Request) -> Service:
    """The service of the application that a request came to."""
    service: Service = request.app.state.service
    return service


def request_id(request: Request) -> str:
    """The id that the middleware gave the request."""
    return str(request.scope.get("enginebay.request_id") or secrets.token_hex(12))
