"""How much memory this machine has left, and whether it is short. It knows no model."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from enginebay.data import MemoryEstimate
from enginebay.errors import OutOfMemory

PRESSURE_PERCENT = 10.0
LOW_FRACTION = 0.05


def available_bytes() -> int | None:
    """Memory that a new process could use: the system's figure, or what the control group leaves; None if unknown."""
    figures = [figure for figure in (_system(), _control_group()) if figure is not None]
    return min(figures, default=None)


def require(what: str, estimate: MemoryEstimate, hint: str, *, margin_bytes: int = 0) -> None:
    """Refuse before anything is allocated: a system that overcommits memory would end a process instead.

    :param what: what is to be loaded, for the error
    :raises OutOfMemory: the estimate and the margin are more than what is available, with the arithmetic
    """
    available, needed = available_bytes(), estimate.total_bytes
    if available is not None and needed + margin_bytes > available:
        raise OutOfMemory(
            f"{what} needs {needed >> 20:,} MiB ({estimate.arithmetic}); {available >> 20:,} MiB are available.",
            hint=hint,
            needed_bytes=needed,
            available_bytes=available,
        )


def is_short() -> bool:
    """Whether tasks wait for memory (Linux pressure stall information), or less than a twentieth is left."""
    try:
        found = re.search(r"some avg10=([\d.]+)", Path("/proc/pressure/memory").read_text())
        if found and float(found[1]) > PRESSURE_PERCENT:
            return True
    except OSError:
        pass
    total, left = total_bytes(), available_bytes()
    return total is not None and left is not None and left < LOW_FRACTION * total


def total_bytes() -> int | None:
    """The machine's memory; None if unknown."""
    return _meminfo("MemTotal")


def private_limit_bytes() -> int | None:
    """The most private memory that this process may have; None if there is no limit, or it is unknown."""
    if sys.platform == "win32":
        return None
    import resource

    limit, _ = resource.getrlimit(resource.RLIMIT_DATA)
    return None if limit == resource.RLIM_INFINITY else limit


def resident_bytes(pid: int) -> int | None:
    """What a process holds in memory now; None if unknown."""
    try:
        found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    except OSError:
        return None
    return int(found[1]) * 1024 if found else None


def _system() -> int | None:
    if sys.platform == "darwin":
        return _vm_stat()
    return _meminfo("MemAvailable")


def _meminfo(key: str) -> int | None:
    try:
        found = re.search(rf"{key}:\s+(\d+) kB", Path("/proc/meminfo").read_text())
    except OSError:
        return None
    return int(found[1]) * 1024 if found else None


def _control_group() -> int | None:
    root = Path("/sys/fs/cgroup")
    try:
        limit = (root / "memory.max").read_text().strip()
        used = int((root / "memory.current").read_text())
    except (OSError, ValueError):
        return None
    return None if limit == "max" else max(0, int(limit) - used)


def _vm_stat() -> int | None:
    try:
        text = subprocess.run(["/usr/bin/vm_stat"], capture_output=True, text=True, timeout=5, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    page = re.search(r"page size of (\d+)", text)
    pages = re.findall(r"Pages (?:free|inactive|purgeable):\s+(\d+)", text)
    return int(page[1]) * sum(map(int, pages)) if page else None
