"""A child process: started, watched, logged and stopped. It knows nothing of engines or frames, so any server binary fits."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Literal

from attrs import frozen

from enginebay.decode.owner import OwnerThread
from enginebay.errors import Unsupported

log = logging.getLogger(__name__)

LOG_LINES = 200
LOG_LINE_BYTES = 4096
STOP_SECONDS = 5.0
ENVIRONMENT = (
    "PATH", "HOME", "USER", "LANG", "LANGUAGE", "TZ", "TMPDIR", "VIRTUAL_ENV", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH",
    "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES",
    "GGML_NO_BACKTRACE", "MALLOC_ARENA_MAX", "COVERAGE_PROCESS_START",
)  # fmt: skip
"""Variables that a child inherits; those that begin with ``LC_`` as well. No other: keys and tokens stay here."""


@frozen
class Exit:
    """How a process ended: an exit ``status``, or the name of a ``signal``."""

    status: int | None
    signal: str | None

    @classmethod
    def of(cls, returncode: int) -> Exit:
        if returncode >= 0:
            return cls(returncode, None)
        try:
            return cls(None, signal.Signals(-returncode).name)
        except ValueError:
            return cls(None, f"signal {-returncode}")

    def __str__(self) -> str:
        return f"signal {self.signal}" if self.signal else f"exit status {self.status}"


def child_environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """The allow-listed part of this process's environment."""
    chosen = {name: value for name, value in os.environ.items() if name in ENVIRONMENT or name.startswith("LC_")}
    return {**chosen, **(extra or {})}


@cache
def _spawner() -> OwnerThread:
    """The thread that starts all children. Linux's parent-death signal fires when the *thread* that started them ends."""
    return OwnerThread("enginebay-spawner", permanent=True)


class EngineProcess:
    """One child process in its own group, whose descriptors 1 and 2 go to a bounded log."""

    def __init__(
        self,
        command: Sequence[str],
        *,
        name: str,
        environment: Mapping[str, str] | None = None,
        descriptors: Sequence[int] = (),
    ) -> None:
        if sys.platform == "win32":
            raise Unsupported("Processes of their own need a POSIX system.", hint='Use isolation = "inline".')
        self.name = name
        self._lines: deque[str] = deque(maxlen=LOG_LINES)
        self._stopping = False
        self._gone = False
        self._process: subprocess.Popen[bytes] = _spawner().call(
            lambda: subprocess.Popen(
                list(command),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env=child_environment(environment),
                pass_fds=tuple(descriptors),
                start_new_session=True,
            )
        )
        self._log_reader = threading.Thread(target=self._read_log, name=f"{name}-log", daemon=True)
        self._log_reader.start()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def state(self) -> Literal["running", "stopped", "ended"]:
        """``stopped`` when it was asked to end, ``ended`` when it ended by itself."""
        if self._process.poll() is None:
            return "running"
        return "stopped" if self._stopping else "ended"

    @property
    def exit(self) -> Exit | None:
        """How it ended; None while it runs."""
        code = self._process.poll()
        return None if code is None else Exit.of(code)

    def log_lines(self) -> list[str]:
        """The last lines that it wrote to descriptors 1 and 2."""
        return list(self._lines)

    def cpu_seconds(self) -> float | None:
        """CPU time that it used so far, where the system tells (Linux)."""
        try:
            with open(f"/proc/{self.pid}/stat", "rb") as stat:
                parts = stat.read().rpartition(b")")[2].split()
            return (int(parts[11]) + int(parts[12])) / os.sysconf("SC_CLK_TCK")
        except (OSError, ValueError, IndexError):
            return None

    def wait(self, timeout_seconds: float) -> Exit | None:
        """Wait for the end; None if it has not come."""
        try:
            return Exit.of(self._process.wait(timeout_seconds))
        except subprocess.TimeoutExpired:
            return None

    def stop(self, grace_seconds: float = STOP_SECONDS) -> Exit:
        """End it and all of its group: SIGTERM, ``grace_seconds``, SIGKILL. It is reaped when this returns."""
        self._stopping = True
        if self._gone:  # its group's number may belong to somebody else by now
            return Exit.of(self._process.wait())
        if self._process.poll() is None and grace_seconds > 0:
            self._signal(signal.SIGTERM)
            self._signal(signal.SIGCONT)
            self.wait(grace_seconds)
        self._signal(signal.SIGKILL)
        ended = Exit.of(self._process.wait())
        self._gone = True
        self._log_reader.join(1.0)
        return ended

    def _signal(self, number: signal.Signals) -> None:
        try:
            os.killpg(self.pid, number)
        except (ProcessLookupError, PermissionError):
            log.debug("%s has no process left for %s", self.name, number.name)

    def _read_log(self) -> None:
        stream = self._process.stdout
        if stream is None:
            return
        with stream:
            while line := stream.readline(LOG_LINE_BYTES):
                text = line.decode("utf-8", "replace").rstrip().translate(_CONTROL)
                if text:
                    self._lines.append(text)
                    log.debug("%s: %s", self.name, text)


_CONTROL = {code: f"\\x{code:02x}" for code in range(32) if code != 9}
