"""The asyncio side: the same results, many at once, and a task that is cancelled frees its sequence."""

from __future__ import annotations

import asyncio
import time

import pytest

from enginebay import aio
from enginebay.errors import RequestError


def test_it_gives_what_the_other_side_gives() -> None:
    async def run() -> None:
        async with await aio.open("echo", engine="echo", isolation="inline") as model:
            expected = model.model.generate("say it again", temperature=0).text
            assert (await model.generate("say it again", temperature=0)).text == expected
            async with model.stream("say it again", temperature=0) as stream:
                assert "".join([chunk.text async for chunk in stream]) == expected
            texts = await asyncio.gather(*(model.generate(f"number {i}", temperature=0) for i in range(12)))
            assert [result.text.strip() for result in texts] == [f"number {i}" for i in range(12)]
            assert await model.detokenize(await model.tokenize("Zoë")) == "Zoë".encode()
            reply = await model.chat([{"role": "user", "content": "hello"}], temperature=0)
            assert reply.text == "hello"
            assert (await model.health()).healthy
            with pytest.raises(RequestError):
                await model.generate("x", max_tokens=-1)

    asyncio.run(run())


def test_a_cancelled_task_frees_its_sequence() -> None:
    async def run() -> None:
        options = {"step_seconds": 0.02}
        async with await aio.open("echo", engine="echo", isolation="inline", sequences=1, options=options) as model:
            task = asyncio.create_task(model.generate("a long text " * 40, temperature=0))
            await asyncio.sleep(0.3)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            began = time.monotonic()
            await model.generate("short", max_tokens=2)
            assert time.monotonic() - began < 5

    asyncio.run(run())
