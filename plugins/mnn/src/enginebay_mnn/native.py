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
_lock = threading.RLock()
_sink: _Sink | None = None


class _Sink:
    """A temporary file, and the means to make it C's ``stdout``."""

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile("a+b", buffering=0)  # noqa: SIM115 - for the life of the process
        self._library = ctypes.CDLL("ucrtbase" if sys.platform == "win32" else None)
        self._library.fflush.argtypes = [ctypes.c_void_p]
        self._depth = 0
        self._pointer: ctypes.c_void_p | None = None
        try:
            self._pointer = ctypes.c_void_p.in_dll(self._library, "__stdoutp" if sys.platform == "darwin" else "stdout")
        except ValueError:  # no such variable: descriptor 1 itself is moved
            return
        self._library.fdopen.restype = ctypes.c_void_p
        self._stream = self._library.fdopen(os.dup(self._file.fileno()), b"a")
        self._stdout = self._pointer.value

    def enter(self) -> None:
        self._depth += 1
        if self._depth > 1:
            return
        if self._pointer is not None:
            self._pointer.value = self._stream
        else:
            self._library.fflush(None)
            self._saved = os.dup(1)
            os.dup2(self._file.fileno(), 1)

    def leave(self) -> None:
        self._depth -= 1
        if self._depth:
            return
        if self._pointer is not None:
            self._pointer.value = self._stdout
            self._library.fflush(self._stream)
        else:
            self._library.fflush(None)
            os.dup2(self._saved, 1)
            os.close(self._saved)
        if os.fstat(self._file.fileno()).st_size:
            self._file.seek(0)
            text = self._file.read(MAX_LOG_BYTES)
            self._file.truncate(0)
            for line in text.decode("utf-8", "replace").splitlines():
                log.log(logging.WARNING if "error" in line.lower() else logging.DEBUG, "%s", line)


@contextmanager
def quiet() -> Iterator[None]:
    """Inside, what C code prints goes to the log. One thread at a time; MNN holds the interpreter's lock anyway."""
    global _sink  # noqa: PLW0603 - one stream for the life of the process
    with _lock:
        if _sink is None:
            _sink = _Sink()
        _sink.enter()
        try:
            yield
        finally:
            _sink.leave()


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
