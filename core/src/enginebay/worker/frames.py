"""Frames on a private descriptor: one JSON object a line, numbered, checked and bounded. It knows no message's meaning.

A frame is ``<crc32 of the rest, eight hex digits> <number> <JSON>\\n``. Numbers count up from 0. Anything else is a
``BrokenFrame``, after which nothing on that descriptor is to be believed.
"""

from __future__ import annotations

import json
import os
import threading
import zlib
from collections.abc import Iterator
from typing import Any

MAX_FRAME_BYTES = 16 * 1024 * 1024
READ_BYTES = 256 * 1024


class BrokenFrame(Exception):
    """What was read is not a frame."""


class FrameWriter:
    """Writes frames to a descriptor, from any thread."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._lock = threading.Lock()
        self._number = 0

    def send(self, *messages: dict[str, Any]) -> None:
        """Write all messages with as few calls as the system allows.

        :raises OSError: nobody reads any more
        :raises ValueError: a message is larger than a frame may be
        """
        bodies = [json.dumps(message, separators=(",", ":")).encode("ascii") for message in messages]
        if any(len(body) > MAX_FRAME_BYTES - 64 for body in bodies):
            raise ValueError(f"a frame may have at most {MAX_FRAME_BYTES:,} bytes")
        with self._lock:
            data = bytearray()
            for body in bodies:
                numbered = b"%d %b" % (self._number, body)
                data += b"%08x %b\n" % (zlib.crc32(numbered), numbered)
                self._number += 1
            view = memoryview(data)
            while view:
                view = view[os.write(self._descriptor, view) :]

    def close(self) -> None:
        """Close the descriptor; writing is an ``OSError`` from now on, whatever the system gives its number to."""
        with self._lock:
            os.close(self._descriptor)
            self._descriptor = -1


class FrameReader:
    """Reads frames from a descriptor until its end."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._number = 0

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """The messages, in order.

        :raises BrokenFrame: a checksum, a number or the form is wrong, or a frame is too large
        """
        rest = b""
        while data := os.read(self._descriptor, READ_BYTES):
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                yield self.parse(line)
            if len(rest) > MAX_FRAME_BYTES:
                raise BrokenFrame(f"a frame has more than {MAX_FRAME_BYTES:,} bytes")
        if rest:
            raise BrokenFrame("the last frame was cut short")

    def parse(self, line: bytes) -> dict[str, Any]:
        """One frame without its line end."""
        try:
            checksum, numbered = int(line[:8], 16), line[9:]
            number, _, body = numbered.partition(b" ")
            if line[8:9] != b" " or zlib.crc32(numbered) != checksum or int(number) != self._number:
                raise ValueError("checksum or number is wrong")
            message = json.loads(body.decode("ascii"))
        except (ValueError, RecursionError) as error:
            raise BrokenFrame(f"frame {self._number}: {error}: {line[:80]!r}") from error
        if not isinstance(message, dict):
            raise BrokenFrame(f"frame {self._number} is no object")
        self._number += 1
        return message
