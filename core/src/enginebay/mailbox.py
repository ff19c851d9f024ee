"""A queue whose reader may wait, look, or be told; and any iterator of chunks read into one. It knows no request.

Streams share three words: ``due`` (``next`` would do something now), ``ready`` (and that at once; going on in another worker
takes a while) and ``tell`` (call this, from any thread, whenever something may have come). Ask ``due`` first: what is not
there yet is not ready either, and may come between two questions.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

T = TypeVar("T")
log = logging.getLogger(__name__)
Told = Callable[[], None]


class Mailbox(Generic[T]):
    """Many may put; one reads. ``told`` is called after every item."""

    def __init__(self) -> None:
        self._items: queue.SimpleQueue[T] = queue.SimpleQueue()
        self._head: T | None = None
        self._told: Told | None = None

    def put(self, item: T) -> None:
        self._items.put(item)
        if self._told is not None:
            try:
                self._told()
            except Exception:  # who puts is an engine's thread, and must not suffer for who reads
                log.exception("the reader of a stream could not be told")

    def get(self) -> T:
        """The next item; waits for it."""
        head, self._head = self._head, None
        return self._items.get() if head is None else head

    def look(self) -> T | None:
        """The next item, which stays; None if there is none."""
        if self._head is None:
            try:
                self._head = self._items.get_nowait()
            except queue.Empty:
                return None
        return self._head

    def tell(self, told: Told) -> None:
        """Call ``told`` for every item from now on, and once now."""
        self._told = told
        told()


class Pump(Iterator[T]):
    """Reads an iterator on a thread of its own, so that its reader can be told. For iterators that cannot tell themselves."""

    def __init__(self, items: Iterator[T], told: Told) -> None:
        self._box: Mailbox[tuple[T] | BaseException] = Mailbox()
        self._items = items
        self._over: BaseException | None = None
        self._box.tell(told)
        threading.Thread(target=self._read, name="enginebay-pump", daemon=True).start()

    def _read(self) -> None:
        try:
            for item in self._items:
                self._box.put((item,))
            self._box.put(StopIteration())
        except BaseException as error:
            self._box.put(error)

    def __next__(self) -> T:
        if self._over is None:
            item = self._box.get()
            if isinstance(item, tuple):
                return item[0]
            self._over = item
        raise self._over

    def ready(self) -> bool:
        return self._over is not None or self._box.look() is not None

    due = ready

    def close(self) -> None:
        """Close the iterator if it is not running; it ends at its next item otherwise."""
        close = getattr(self._items, "close", None)
        if close is not None:
            try:
                close()
            except ValueError:  # a generator that runs on the thread now
                return
