"""A thread that owns native objects: it runs calls, and turns of work between them. It knows nothing of what they do."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

T = TypeVar("T")
log = logging.getLogger(__name__)


class OwnerThread:
    """Runs callables on one daemon thread, in order, and gives every attached worker a turn while it has work.

    A worker is a callable that does a little and returns whether there is more to do; it must not raise. ``permanent``
    threads live as long as the process (some libraries abort when a thread that used them ends).
    """

    def __init__(self, name: str, *, permanent: bool = False) -> None:
        self._permanent = permanent
        self._calls: deque[tuple[Callable[[], Any], Future[Any]]] = deque()
        self._workers: list[Callable[[], bool]] = []
        self._wanted = threading.Condition()
        self._awake = False
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def call(self, function: Callable[[], T]) -> T:
        """Run ``function`` on the thread; return what it returns, or raise what it raises."""
        if threading.current_thread() is self._thread:
            return function()
        future: Future[T] = Future()
        with self._wanted:
            if self._stopping:
                raise RuntimeError("the thread has been stopped")
            self._calls.append((function, future))
            self._wanted.notify()
        return future.result()

    def attach(self, worker: Callable[[], bool]) -> None:
        """Give ``worker`` turns from now on."""
        self.call(lambda: self._workers.append(worker))
        self.wake()

    def detach(self, worker: Callable[[], bool]) -> None:
        """Give ``worker`` no more turns; returns when the last one is over."""
        self.call(lambda: self._workers.remove(worker))

    def wake(self) -> None:
        """Tell the thread that a worker has something to do."""
        if not self._awake:
            with self._wanted:
                self._awake = True
                self._wanted.notify()

    def stop(self) -> None:
        """End the thread after the calls that it has taken. A permanent thread stays."""
        if self._permanent:
            return
        with self._wanted:
            self._stopping = True
            self._wanted.notify()
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def _run(self) -> None:
        while True:
            if not self._calls and not self._awake:
                with self._wanted:
                    while not (self._calls or self._awake or self._stopping):
                        self._wanted.wait()
            if self._stopping and not self._calls:
                return
            while self._calls:
                function, future = self._calls.popleft()
                try:
                    future.set_result(function())
                except BaseException as error:
                    future.set_exception(error)
                del function, future
            self._awake = False
            for worker in tuple(self._workers):
                try:
                    if worker():
                        self._awake = True
                except Exception:
                    log.exception("a worker failed and gets no more turns")
                    self._workers.remove(worker)
