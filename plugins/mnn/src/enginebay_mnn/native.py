"""Loads MNN and keeps what it prints away from the process's standard output. It knows nothing of models.

MNN prints with C's ``printf``, on import as well. While one of its functions runs, C's ``stdout`` is another stream,
whose text goes to the log ``enginebay.mnn``. Python itself does not use that stream: other threads may print meanwhile.
"""

from __future__ import annotations

import ctypes
import importlib
import logging
import os
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

log = logging.getLogger("enginebay.mnn")
T = TypeVar("T")
MAX_LOG_BYTES = 1 << 20
_lock = threading.Lock()
_sink: _Sink | None = None


class _Sink:
    """A temporary file, and the means to make it C's ``stdout``."""

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile("a+b", buffering=0)  # noqa: SIM115 - for the life of the process
        self._library = ctypes.CDLL("ucrtbase" if sys.platform == "win32" else None)
        self._library.fflush.argtypes = [ctypes.c_void_p]
        self._pointer: ctypes.c_void_p | None = None
        try:
            self._pointer = ctypes.c_void_p.in_dll(self._library, "__stdoutp" if sys.platform == "darwin" else "stdout")
        except ValueError:  # no such variable: descriptor 1 itself is moved
            return
        self._library.fdopen.restype = ctypes.c_void_p
        self._stream = self._library.fdopen(os.dup(self._file.fileno()), b"a")
        self._stdout = self._pointer.value

    @contextmanager
    def descriptor(self) -> Iterator[None]:
        """Move descriptor 1 itself: for code that keeps C's stream, as C++ streams do. What others print goes too."""
        self._library.fflush(None)
        saved = os.dup(1)
        os.dup2(self._file.fileno(), 1)
        try:
            yield
        finally:
            self._library.fflush(None)
            os.dup2(saved, 1)
            os.close(saved)

    @contextmanager
    def pointer(self) -> Iterator[None]:
        """Make C's ``stdout`` another stream."""
        if self._pointer is None:
            with self.descriptor():
                yield
            return
        self._pointer.value = self._stream
        try:
            yield
        finally:
            self._pointer.value = self._stdout
            self._library.fflush(self._stream)

    def log(self) -> None:
        """Pass on what was printed."""
        if os.fstat(self._file.fileno()).st_size:
            self._file.seek(0)
            text = self._file.read(MAX_LOG_BYTES)
            self._file.truncate(0)
            for line in text.decode("utf-8", "replace").splitlines():
                log.log(logging.WARNING if "error" in line.lower() else logging.DEBUG, "%s", line)


@contextmanager
def quiet(*, streams: bool = False) -> Iterator[None]:
    """Inside, what C code prints goes to the log; with ``streams`` what C++ streams print as well.

    One thread at a time; MNN holds the interpreter's lock anyway.
    """
    global _sink  # noqa: PLW0603 - one file for the life of the process
    with _lock:
        if _sink is None:
            _sink = _Sink()
        try:
            with _sink.descriptor() if streams else _sink.pointer():
                yield
        finally:
            _sink.log()


def quietly(function: Callable[..., T], *arguments: Any) -> T:
    """Call a native function inside ``quiet``."""
    with quiet():
        return function(*arguments)


def library() -> Any:
    """The module ``MNN.llm``.

    :raises ImportError: MNN is not installed, or cannot run on this machine
    """
    with quiet():
        # Not ``import MNN; MNN.llm``: that attribute is the extension's own module, which has other classes.
        return importlib.import_module("MNN.llm")
