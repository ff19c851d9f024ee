"""A stream has one reader at a time inside a worker, whenever its chunks come."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from enginebay.data import Chunk
from enginebay.worker.child import FRAME_CHUNKS, Child
from enginebay.worker.frames import FrameReader, FrameWriter


class Late:
    """A stream whose next chunk comes right after it was said not to be ready."""

    def __init__(self) -> None:
        self.chunks = 0
        self.readers: set[str] = set()

    def due(self) -> bool:
        return self.chunks > 0

    def ready(self) -> bool:
        there, self.chunks = self.chunks > 0, self.chunks + 1
        return there

    def __next__(self) -> Chunk:
        self.readers.add(threading.current_thread().name)
        self.chunks -= 1
        return Chunk("a", (1,))


@pytest.fixture
def child() -> Iterator[Child]:
    read, write = os.pipe()
    yield Child(FrameReader(read), FrameWriter(write))
    os.close(read)
    os.close(write)


def test_a_chunk_that_comes_while_its_stream_is_asked_is_not_taken_by_another_thread(child: Child) -> None:
    late: Any = Late()
    child._streams[1] = late
    before = set(threading.enumerate())
    child._take(1, [], [])
    for thread in set(threading.enumerate()) - before:
        thread.join()
    assert late.readers == set()


def test_a_stream_that_a_thread_waits_for_is_left_to_it(child: Child) -> None:
    class Slow(Late):
        def ready(self) -> bool:
            return False

    slow: Any = Slow()
    slow.chunks = 1
    child._streams[1] = slow
    child._waited_for.add(1)
    child._take(1, [], [])
    assert slow.readers == set()
    child._waited_for.clear()
    chunks: list[Any] = []
    child._take(1, chunks, [])
    for thread in threading.enumerate():
        if thread.name == "chunk":
            thread.join()
    assert (slow.readers, chunks) == ({"chunk"}, [])


def test_a_long_row_of_chunks_is_sent_in_several_frames(child: Child) -> None:
    class Long(Late):
        def ready(self) -> bool:
            return True

    long: Any = Long()
    long.chunks = FRAME_CHUNKS + 10
    child._streams[1] = long
    frames: list[int] = []
    while long.chunks:
        chunks: list[Any] = []
        child._take(1, chunks, [])
        frames.append(len(chunks))
        assert child._due.empty() == (not long.chunks), "what is left is not forgotten"
        if long.chunks:
            child._due.get_nowait()
    assert frames == [FRAME_CHUNKS, 10]
