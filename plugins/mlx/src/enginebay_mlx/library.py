"""Loads MLX and mlx-lm without their side effects on the process, and says what they can do. It knows no model."""

from __future__ import annotations

import platform
import sys
from functools import cache
from importlib import metadata
from typing import Any

from enginebay.data import Capability, Device, Health
from enginebay.decode.owner import OwnerThread
from enginebay.errors import EngineUnavailable

LIBRARY = "mlx-lm"
_INSTALL = "pip install enginebay-mlx"
_SYSTEMS = {("linux", "x86_64"), ("linux", "aarch64"), ("darwin", "arm64")}


@cache
def owner() -> OwnerThread:
    """The one thread that touches MLX, as long as the process lives: the process aborts when such a thread ends."""
    return OwnerThread("enginebay-mlx", permanent=True)


def load() -> Any:
    """``mlx.core``. Called on the owner thread.

    :raises EngineUnavailable: the library is not installed or does not load
    """
    try:
        import mlx.core as mx
    except ImportError as error:
        raise EngineUnavailable(_absence(error), hint=_hint()) from error
    _settle(mx)
    return mx


@cache
def _settle(mx: Any) -> None:
    if on_processor(mx):
        # There mx.compile builds kernels with a C++ compiler, if there is one, and keeps them under a fixed path in
        # /tmp, from where it would load any user's file. It gains nothing that could be measured.
        mx.disable_compile()


def on_processor(mx: Any) -> bool:
    """Whether MLX computes on the processor, without a GPU."""
    return bool(mx.default_device() == mx.cpu)


@cache
def load_model_function() -> Any:
    """``mlx_lm.utils.load_model``. Importing its module lowers the limits on open files for good: that is held off."""
    import resource  # a module of Unix only, as is MLX

    real = resource.setrlimit
    resource.setrlimit = lambda *_: None
    try:
        from mlx_lm.utils import load_model
    except ImportError as error:
        raise EngineUnavailable(_absence(error), hint=_hint()) from error
    finally:
        resource.setrlimit = real
    return load_model


def health() -> Health:
    """Whether MLX is there and runs; never raises."""
    try:
        versions = ", ".join(f"{name} {metadata.version(name)}" for name in ("mlx", "mlx-lm"))
        devices = _devices()
    except EngineUnavailable as error:
        return Health(False, LIBRARY, reason=error.message, hint=error.hint)
    except metadata.PackageNotFoundError as error:
        return Health(False, LIBRARY, reason=_absence(error), hint=_hint())
    except Exception as error:  # a broken installation raises anything, and health reports it
        return Health(False, LIBRARY, reason=f"MLX does not run: {type(error).__name__}: {error}", hint=_hint())
    capabilities: frozenset[Capability] = frozenset(
        ("detokenize", "grammar", "logprobs", "seed", "context_shift", "save_session", "load_session")
    )
    return Health(True, LIBRARY, versions, devices=devices, capabilities=capabilities)


@cache  # the owner may be busy with a long step
def _devices() -> tuple[Device, ...]:
    return owner().call(_find_devices)


def _find_devices() -> tuple[Device, ...]:
    mx = load()
    if mx.array([1, 2]).sum().item() != 3:
        raise RuntimeError("1 + 2 is not 3")
    processor = Device(platform.processor() or platform.machine(), "cpu")
    if on_processor(mx):
        return (processor,)
    info = mx.device_info()
    return Device(str(info.get("device_name", "gpu")), "gpu", info.get("memory_size")), processor


def _supported() -> bool:
    return (sys.platform, platform.machine()) in _SYSTEMS


def _absence(error: Exception) -> str:
    if not _supported():
        return (
            f"MLX has no build for {platform.system()} on {platform.machine()}; it runs on Apple silicon and on Linux."
        )
    return f"MLX is not installed, or not whole: {error}"


def _hint() -> str:
    return _INSTALL if _supported() else "pip install enginebay-llamacpp"
