"""The asyncio side: the same model, awaited. It adds no behaviour; each stream is read on a thread of its own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Unpack

from enginebay.data import Chunk, GenerateRequest, Health, ModelInfo
from enginebay.engine import Stream
from enginebay.model import Model, Options, build_request
from enginebay.result import Collector, Result

if TYPE_CHECKING:
    pass


class AsyncStream(AsyncIterator[Chunk]):
    """The chunks of a stream on an event loop. Leaving it early, or ``aclose``, cancels the request."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._loop = asyncio.get_running_loop()
        self._items: asyncio.Queue[Chunk | BaseException] = asyncio.Queue()
        self._over = False
        threading.Thread(target=self._read, name="enginebay-stream", daemon=True).start()

    def _read(self) -> None:
        try:
            for chunk in self._stream:
                self._put(chunk)
            self._put(StopAsyncIteration())
        except BaseException as error:
            self._put(error)

    def _put(self, item: Chunk | BaseException) -> None:
        try:
            self._loop.call_soon_threadsafe(self._items.put_nowait, item)
        except RuntimeError:  # the loop is gone, and so is whoever would have read this
            self._stream.close()

    async def __anext__(self) -> Chunk:
        if self._over:
            raise StopAsyncIteration
        try:
            item = await self._items.get()
        except asyncio.CancelledError:
            await self.aclose()
            raise
        if isinstance(item, Chunk):
            return item
        self._over = True
        raise item

    async def aclose(self) -> None:
        """Give the request up."""
        self._over = True
        self._stream.close()

    def cancel(self) -> None:
        """Ask for the end; the last chunk then has the reason ``cancelled``."""
        self._stream.cancel()

    async def __aenter__(self) -> AsyncStream:
        return self

    async def __aexit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        await self.aclose()


class AsyncModel:
    """A model on an event loop. ``model`` is the one that does the work; it may be used beside this."""

    def __init__(self, model: Model) -> None:
        self.model = model

    @property
    def info(self) -> ModelInfo:
        return self.model.info

    async def generate(self, prompt: str | Sequence[int], **options: Unpack[Options]) -> Result:
        """As ``Model.generate``; cancelling the task cancels the request."""
        return await self._collect(build_request(self.model.prompt_tokens(prompt), options))

    def stream(self, prompt: str | Sequence[int], **options: Unpack[Options]) -> AsyncStream:
        """As ``Model.stream``."""
        return AsyncStream(self.model.stream(prompt, **options))

    async def chat(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        tools: Sequence[Mapping[str, Any]] | None = None,
        **options: Unpack[Options],
    ) -> Result:
        """As ``Model.chat``."""
        return await self._collect(build_request(self.model.chat_tokens(messages, tools), options))

    def chat_stream(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        tools: Sequence[Mapping[str, Any]] | None = None,
        **options: Unpack[Options],
    ) -> AsyncStream:
        """As ``Model.chat_stream``."""
        return AsyncStream(self.model.chat_stream(messages, tools=tools, **options))

    async def tokenize(self, text: str, *, special: bool = True) -> list[int]:
        """As ``Model.tokenize``."""
        return await asyncio.to_thread(self.model.tokenize, text, special=special)

    async def detokenize(self, tokens: Sequence[int]) -> bytes:
        """As ``Model.detokenize``."""
        return await asyncio.to_thread(self.model.detokenize, tokens)

    async def health(self) -> Health:
        """As ``Model.health``."""
        return await asyncio.to_thread(self.model.health)

    async def close(self) -> None:
        """As ``Model.close``."""
        await asyncio.to_thread(self.model.close)

    async def _collect(self, request: GenerateRequest) -> Result:
        collector = Collector(self.info.engine, request.sampling.seed)
        async with AsyncStream(self.model.submit(request)) as stream:
            async for chunk in stream:
                collector.add(chunk)
        return collector.result()

    async def __aenter__(self) -> AsyncModel:
        return self

    async def __aexit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        await self.close()


async def open(reference: str, **options: Any) -> AsyncModel:  # noqa: A001 - the counterpart of enginebay.open
    """As ``enginebay.open``, without holding the event loop while the model loads."""
    import enginebay

    return AsyncModel(await asyncio.to_thread(enginebay.open, reference, **options))
