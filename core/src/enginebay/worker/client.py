"""One worker as the host sees it: requests out, replies and chunks in, and how it died. It restarts nothing."""

from __future__ import annotations

import contextlib
import os
import queue
import sys
import threading
import time
from collections.abc import Mapping
from concurrent.futures import Future
from itertools import count
from typing import Any

from attrs import frozen

from enginebay.data import Chunk, Finish, GenerateRequest, TokenLogprob
from enginebay.errors import EnginebayError
from enginebay.mailbox import Mailbox
from enginebay.structure import structure, unstructure
from enginebay.worker.frames import BrokenFrame, FrameReader, FrameWriter
from enginebay.worker.process import EngineProcess, Exit

LACK_OF_MEMORY = ("std::bad_alloc", "MemoryError", "Cannot allocate memory", "cannot allocate memory")

LARGE_PAGES = "glibc.malloc.hugetlb=1"
"""glibc's allocator asks for large pages: weights are read as fast as memory gives them, not as fast as pages are found."""


@frozen
class Death:
    """How a worker ended: what was seen, its exit if it had one, and the last lines of its log."""

    reason: str
    exit: Exit | None
    log_lines: tuple[str, ...]

    @property
    def lacked_memory(self) -> bool:
        """Whether the last that it wrote was that memory could not be had."""
        return any(word in line for line in self.log_lines[-20:] for word in LACK_OF_MEMORY)

    def fields(self) -> dict[str, Any]:
        """The parts, for an error."""
        ended = self.exit
        return {
            "reason": self.reason,
            "exit_status": ended.status if ended else None,
            "signal": ended.signal if ended else None,
            "log_lines": list(self.log_lines[-20:]),
        }


class WorkerDied(Exception):
    """The worker is gone; ``death`` says how, ``running`` how many requests it had."""

    def __init__(self, death: Death, running: int = 0) -> None:
        super().__init__(death.reason)
        self.death = death
        self.running = running


Inbox = Mailbox["Chunk | EnginebayError | WorkerDied"]


class Worker:
    """A running child. ``died`` is set once, after which every call and stream ends with ``WorkerDied``."""

    def __init__(self, name: str, memory_bytes: int | None = None) -> None:
        child_read, to_child = os.pipe()
        from_child, child_write = os.pipe()
        command = [sys.executable, "-m", "enginebay.worker.child", str(child_read), str(child_write), str(os.getpid())]
        command += [] if memory_bytes is None else [str(memory_bytes)]
        environment = {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path), "PYTHONUNBUFFERED": "1"}
        environment["GLIBC_TUNABLES"] = LARGE_PAGES
        try:
            self.process = EngineProcess(
                command, name=name, environment=environment, descriptors=(child_read, child_write)
            )
        except BaseException:
            os.close(to_child)
            os.close(from_child)
            raise
        finally:
            os.close(child_read)
            os.close(child_write)
        self.name = name
        self.died: Death | None = None
        self.last_beat = self.last_progress = time.monotonic()
        self._progress = -1
        self._cpu = 0.0
        self._from_child = from_child
        self._writer = FrameWriter(to_child)
        self._lock = threading.Lock()
        self._numbers = count(1)
        self._inboxes: dict[int, Inbox] = {}
        self._replies: dict[int, Future[Any]] = {}
        self._ends: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
        self._ended = threading.Event()
        self._stopping = False
        self._verdict: str | None = None
        threading.Thread(target=self._read, name=f"{name}-frames", daemon=True).start()
        threading.Thread(target=self._send_ends, name=f"{name}-ends", daemon=True).start()

    # --- requests -------------------------------------------------------------------------------------------------

    def ask(self, message: Mapping[str, Any]) -> Future[Any]:
        """Send a message. Its reply comes as the future's result; or ``WorkerDied``, or the error that the engine raised.

        :raises WorkerDied: it is dead already
        """
        future: Future[Any] = Future()
        number = self._register(self._replies, future)
        self._send({**message, "id": number})
        return future

    def generate(self, request: GenerateRequest) -> tuple[int, Inbox]:
        """Start a request. Its chunks come through the inbox; the number ends it."""
        inbox: Inbox = Mailbox()
        number = self._register(self._inboxes, inbox)
        self._send({"k": "generate", "id": number, "request": unstructure(request)})
        return number, inbox

    def end(self, number: int, kind: str) -> None:
        """``cancel`` or ``close`` a request, without waiting: a worker that hangs may not read. A dead one needs neither."""
        if kind == "close":
            with self._lock:
                self._inboxes.pop(number, None)
        self._ends.put({"k": kind, "id": number})

    def _send_ends(self) -> None:
        while (message := self._ends.get()) is not None:
            with contextlib.suppress(WorkerDied):
                self._send(message)

    @property
    def running(self) -> int:
        """How many requests it has."""
        return len(self._inboxes)

    def _register(self, table: dict[int, Any], entry: Any) -> int:
        with self._lock:
            if self.died:
                raise WorkerDied(self.died)
            number = next(self._numbers)
            table[number] = entry
        if len(self._inboxes) == 1:
            self.last_progress = time.monotonic()
        return number

    def _send(self, message: dict[str, Any]) -> None:
        try:
            self._writer.send(message)
        except OSError:
            self._ended.wait(5.0)
            raise WorkerDied(self.died or Death("it reads no more", None, ())) from None

    # --- life -----------------------------------------------------------------------------------------------------

    def silent_seconds(self) -> float:
        """How long neither a heartbeat nor, where the system tells, any use of the CPU was seen."""
        now = time.monotonic()
        cpu = self.process.cpu_seconds()
        if cpu is not None and cpu > self._cpu + 0.05:
            self._cpu = cpu
            self.last_beat = max(self.last_beat, now)
        return now - self.last_beat

    def stuck_seconds(self) -> float:
        """How long requests have been running without any progress."""
        return time.monotonic() - self.last_progress if self._inboxes else 0.0

    def wait_for_end(self, timeout_seconds: float) -> bool:
        """Wait until it is dead and buried; False if it still lives."""
        return self._ended.wait(timeout_seconds)

    def kill(self, reason: str) -> None:
        """End it at once, because of ``reason``."""
        self._verdict = reason  # the reader may see the end before this thread goes on
        self._die(reason, self.process.stop(0))

    def stop(self, grace_seconds: float = 5.0) -> Exit:
        """Ask it to free its model and end; then end it by force. Nothing is left of it when this returns."""
        self._stopping = True
        try:
            self._writer.send({"k": "stop"})
        except OSError:
            self.process.stop(0)
        if self.process.wait(grace_seconds) is None:
            self.process.stop(grace_seconds)
        ended = self.process.stop(0)
        self._ended.wait(5.0)
        return ended

    def _read(self) -> None:
        reason = "it ended"
        try:
            for message in FrameReader(self._from_child):
                self._dispatch(message)
        except (BrokenFrame, OSError, KeyError, TypeError, ValueError, EnginebayError) as error:
            reason = f"it sent something that is no message ({error})"
        ended = self.process.wait(0.5)
        if ended is None:
            ended = self.process.stop(0)
        elif not self._stopping:
            self.process.stop(0)
        self._die(self._verdict or reason, ended)
        os.close(self._from_child)
        self._writer.close()
        self._ends.put(None)
        self._ended.set()

    def _dispatch(self, message: dict[str, Any]) -> None:
        kind = message["k"]
        self.last_beat = time.monotonic()
        if kind == "chunks":
            self.last_progress = self.last_beat
            for number, *packed in message["chunks"]:
                chunk, inbox = unpacked(packed), self._inboxes.get(number)
                if chunk.finish:
                    with self._lock:
                        self._inboxes.pop(number, None)
                if inbox:
                    inbox.put(chunk)
        elif kind == "reply":
            future = self._replies.pop(message["id"], None)
            if future:
                future.set_result(message["value"])
        elif kind == "error":
            error = EnginebayError.from_dict(message["error"])
            with self._lock:
                inbox = self._inboxes.pop(message["id"], None)
                future = self._replies.pop(message["id"], None)
            if inbox:
                inbox.put(error)
            if future:
                future.set_exception(error)
        elif kind == "beat" and message["progress"] != self._progress:
            self._progress = message["progress"]
            self.last_progress = self.last_beat

    def _die(self, reason: str, ended: Exit | None) -> None:
        with self._lock:
            if self.died:
                return
            self.died = Death(reason, ended, tuple(self.process.log_lines()))
            inboxes, replies = list(self._inboxes.values()), list(self._replies.values())
            self._inboxes.clear()
            self._replies.clear()
        for inbox in inboxes:
            inbox.put(WorkerDied(self.died, len(inboxes)))
        for future in replies:
            if not future.done():
                future.set_exception(WorkerDied(self.died))


def unpacked(packed: list[Any]) -> Chunk:
    """The chunk that the child packed."""
    text, tokens, *rest = packed
    if not rest:
        return Chunk(text, tuple(tokens))
    logprobs = structure(rest[0], tuple[TokenLogprob, ...], error=EnginebayError)
    finish = structure(rest[1], Finish, error=EnginebayError) if rest[1] is not None else None
    return Chunk(text, tuple(tokens), logprobs, finish)
