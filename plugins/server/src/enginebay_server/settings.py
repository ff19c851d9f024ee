"""What can be set about the server: limits, deadlines, keys, names. It reads no file and no environment."""

from __future__ import annotations

from attrs import field, frozen

from enginebay.data import bounded

LOOPBACK = ("localhost", "127.0.0.1", "::1", "[::1]")


@frozen
class Settings:
    """Limits and permissions of one application. The defaults are safe for a server on a loopback address.

    ``keys`` guard every route but ``/health`` if there are any. ``hosts`` are names that ``Host`` may have besides loopback
    ones; ``origins`` are the web origins that may call with a browser.
    """

    keys: tuple[str, ...] = field(default=(), repr=False)
    hosts: tuple[str, ...] = ()
    origins: tuple[str, ...] = ()
    body_bytes: int = field(default=10 * 1024 * 1024, validator=bounded(1024, 1 << 40))
    body_seconds: float = field(default=10.0, validator=bounded(0.1, 3600))
    body_bytes_per_second: float = field(default=1000.0, validator=bounded(1, 1e9))
    header_lines: int = field(default=100, validator=bounded(1, 10_000))
    load_wait_seconds: float = field(default=20.0, validator=bounded(0, 3600))
    request_seconds: float = field(default=600.0, validator=bounded(0.1, 86400))
    silence_seconds: float = field(default=15.0, validator=bounded(0.05, 3600))
    slow_reader_seconds: float = field(default=60.0, validator=bounded(0.05, 3600))
    requests: int = field(default=1024, validator=bounded(1, 1_000_000))
