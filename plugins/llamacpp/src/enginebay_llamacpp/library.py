"""Loads llama-cpp-python once, sends its log to ``logging``, and lists devices. It knows no model."""

from __future__ import annotations

import ctypes
import logging
import os
import threading
from collections import deque
from types import ModuleType
from typing import Any, Final

from enginebay import memory
from enginebay.data import Device
from enginebay.decode.owner import OwnerThread

log = logging.getLogger("enginebay.llamacpp")
log.addHandler(logging.NullHandler())  # without it, logging itself writes warnings to stderr

_LEVELS: Final = {1: logging.DEBUG, 2: logging.DEBUG, 3: logging.WARNING, 4: logging.ERROR}
_CONTINUED: Final = 5
_GPU_TYPES: Final = (1, 2)  # GGML_BACKEND_DEVICE_TYPE_GPU, _IGPU

_lock = threading.Lock()
_loaded: ModuleType | None = None
_callback: Any = None  # native code calls it until the process ends
_owner: OwnerThread | None = None
_troubles: deque[tuple[int, str]] = deque(maxlen=20)


def load() -> ModuleType:
    """The module of llama.cpp's C functions.

    :raises ImportError: it is not installed
    :raises Exception: whatever it raises where its shared library does not load
    """
    global _loaded, _callback  # noqa: PLW0603 - native code is loaded once in a process
    with _lock:
        if _loaded is None:
            os.environ.setdefault("GGML_NO_BACKTRACE", "1")  # otherwise a failed assert starts a debugger, for seconds
            from llama_cpp import llama_cpp

            _callback = llama_cpp.llama_log_callback(_LogLines())
            llama_cpp.llama_log_set(_callback, ctypes.c_void_p(0))
            llama_cpp.llama_backend_init()
            _loaded = llama_cpp
        return _loaded


def owner() -> OwnerThread:
    """The thread on which all models of this process compute.

    OpenMP keeps a team of threads for each thread that calls it. With two teams there are more threads than processors,
    and each waits for the other's at every barrier, also while the other is idle: a third of the speed is lost.
    """
    global _owner  # noqa: PLW0603 - one for the process
    with _lock:
        if _owner is None:
            _owner = OwnerThread("enginebay-llamacpp", permanent=True)
        return _owner


def version() -> str:
    """The version of the installed package."""
    from importlib.metadata import version as installed

    return installed("llama-cpp-python")


def forget_troubles() -> None:
    """Begin a new list of troubles, before something that may fail."""
    _troubles.clear()


def troubles() -> list[str]:
    """The warnings and errors that the library logged since, oldest first."""
    return [line for _, line in _troubles]


def errors() -> list[str]:
    """The errors among the troubles: the first is the cause, the others follow from it."""
    return [line for level, line in _troubles if level >= logging.ERROR]


class _LogLines:
    """Joins what llama.cpp logs to lines. What it calls information is detail of its own: debug for us."""

    def __init__(self) -> None:
        self._level = logging.DEBUG
        self._line = ""

    def __call__(self, level: int, text: bytes, _data: object) -> None:
        if level != _CONTINUED:
            self._level = _LEVELS.get(level, logging.DEBUG)
        self._line += text.decode("utf-8", "replace")
        if self._line.endswith("\n"):
            line, self._line = self._line.rstrip(), ""
            if line.strip("."):
                if self._level >= logging.WARNING:
                    _troubles.append((self._level, line))
                log.log(self._level, "%s", line)


def devices() -> tuple[Device, ...]:
    """What the library can compute on, GPUs first. Processors share one entry."""
    functions = load()._lib  # the functions of ggml that list devices have no binding of their own
    gpus = []
    try:
        functions.ggml_backend_dev_count.restype = ctypes.c_size_t
        functions.ggml_backend_dev_get.restype = ctypes.c_void_p
        functions.ggml_backend_dev_get.argtypes = [ctypes.c_size_t]
        functions.ggml_backend_dev_type.argtypes = [ctypes.c_void_p]
        functions.ggml_backend_dev_description.restype = ctypes.c_char_p
        functions.ggml_backend_dev_description.argtypes = [ctypes.c_void_p]
        functions.ggml_backend_dev_memory.argtypes = [ctypes.c_void_p, *[ctypes.POINTER(ctypes.c_size_t)] * 2]
        for index in range(functions.ggml_backend_dev_count()):
            device = functions.ggml_backend_dev_get(index)
            if functions.ggml_backend_dev_type(device) in _GPU_TYPES:
                free, total = ctypes.c_size_t(), ctypes.c_size_t()
                functions.ggml_backend_dev_memory(device, free, total)
                name = functions.ggml_backend_dev_description(device).decode("utf-8", "replace")
                gpus.append(Device(name, "gpu", total.value or None))
    except AttributeError:  # a build that exports them elsewhere
        gpus = [Device("GPU", "gpu")] if load().llama_supports_gpu_offload() else []
    return (*gpus, Device("CPU", "cpu", memory.total_bytes()))


def processors() -> int:
    """How many processors this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
