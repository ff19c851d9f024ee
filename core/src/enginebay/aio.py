"""The asyncio side: the same model, awaited. It adds no behaviour. Streams tell when something has come; no thread waits."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, TypeVar, Unpack, cast

from enginebay.data import Chunk, GenerateRequest, Health, ModelInfo
from enginebay.engine import Stream
from enginebay.model import Model, Options, build_request
from enginebay.result import Collector, Result

T = TypeVar("T")


async def in_thread(work: Callable[[], T]) -> T:
    """Run what blocks on a thread of its own: it may wait for long, and others that wait must not be in its way."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[T] = loop.create_future()

    def tell(result: T | None, error: BaseException | None) -> None:
        if done.cancelled():
            return
        if isinstance(error, StopIteration):  # a future takes none
            done.set_exception(StopAsyncIteration())
        elif error is not None:
            done.set_exception(error)
        else:
            done.set_result(cast(T, result))

    def run() -> None:
        result, failure = None, None
        try:
            result = work()
        except BaseException as error:
            failure = error
        with contextlib.suppress(RuntimeError):  # the loop is gone
            loop.call_soon_threadsafe(tell, result, failure)

    threading.Thread(target=run, name="enginebay-wait", daemon=True).start()
    return await done


class Bell:
    """Wakes a task on an event loop, from any thread."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._event = asyncio.Event()
        self._rung = False

    def ring(self) -> None:
        if not self._rung:
            self._rung = True
            with contextlib.suppress(RuntimeError):  # the loop is gone, and so is whoever would have listened
                self._loop.call_soon_threadsafe(self._sound)

    def _sound(self) -> None:
        self._rung = False
        self._event.set()

    def silence(self) -> None:
        """Forget what was rung; look at what there is after this, and before ``wait``."""
        self._event.clear()

    async def wait(self) -> None:
        """Until it was rung."""
        await self._event.wait()


class AsyncStream(AsyncIterator[Chunk]):
    """The chunks of a stream on an event loop. Leaving it early, or ``aclose``, cancels the request."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._bell = Bell()
        self._over = False
        stream.tell(self._bell.ring)

    async def __anext__(self) -> Chunk:
        try:
            while not self._over:
                self._bell.silence()
                if not self._stream.due():
                    await self._bell.wait()
                elif self._stream.ready():
                    return next(self._stream)
                else:
                    return await in_thread(lambda: next(self._stream))
        except asyncio.CancelledError:
            await self.aclose()
            raise
        except StopIteration:
            self._over = True
        except BaseException:
            self._over = True
            raise
        raise StopAsyncIteration

    async def aclose(self) -> None:
        """Give the request up."""
        self._over = True
        self._stream.close()
        self._bell.ring()

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
