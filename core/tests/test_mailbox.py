"""Whoever reads a stream may wait for it, look, or be told, whatever kind of iterator the engine gave."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

import enginebay
from enginebay.data import Chunk
from enginebay.engine import Stream
from enginebay.errors import GenerationError
from enginebay.mailbox import Mailbox


def told(stream: Stream) -> list[Chunk]:
    """Read a stream without ever waiting in ``next``."""
    rung, chunks = threading.Event(), list[Chunk]()
    stream.tell(rung.set)
    while True:
        rung.clear()
        while stream.ready() or stream.due():
            try:
                chunks.append(next(stream))
            except StopIteration:
                return chunks
        assert rung.wait(30), "nobody was told"


def test_an_iterator_that_cannot_tell_is_read_on_a_thread() -> None:
    def chunks() -> Iterator[Chunk]:
        yield Chunk("a", (1,))
        yield Chunk("b", (2,))

    assert [chunk.text for chunk in told(Stream(chunks(), "any"))] == ["a", "b"]


def test_errors_come_after_what_came_before_them_and_are_of_the_tree() -> None:
    def chunks() -> Iterator[Chunk]:
        yield Chunk("a", (1,))
        raise OSError("broken")

    stream = Stream(chunks(), "any")
    stream.tell(lambda: None)
    assert next(stream).text == "a"
    for _ in range(2):
        with pytest.raises(GenerationError, match="broken"):
            next(stream)


@pytest.mark.parametrize("isolation", ["inline", "process"])
def test_a_told_reader_gets_what_a_waiting_one_gets(isolation: str) -> None:
    with enginebay.open("echo", engine="echo", isolation=isolation) as model:  # type: ignore[arg-type]
        waited = model.generate("hello there", temperature=0)
        chunks = told(model.stream("hello there", temperature=0))
        assert "".join(chunk.text for chunk in chunks) == waited.text
        assert tuple(token for chunk in chunks for token in chunk.tokens) == waited.tokens
        stream = model.stream("again and again", temperature=0)
        stream.close()
        assert told(stream) == []


def test_a_reader_that_fails_when_told_harms_nobody() -> None:
    def fail() -> None:
        raise RuntimeError("not now")

    box = Mailbox[int]()
    with pytest.raises(RuntimeError):
        box.tell(fail)
    box.put(3)
    assert (box.look(), box.get(), box.look()) == (3, 3, None)
