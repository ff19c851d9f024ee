"""Frames survive a library that writes to every standard descriptor, and anything that is no frame is found out."""

from __future__ import annotations

import json
import os
import sys
import textwrap
import zlib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from enginebay.worker.frames import MAX_FRAME_BYTES, BrokenFrame, FrameReader, FrameWriter
from enginebay.worker.process import EngineProcess, child_environment

NOISY = """
import os, sys, threading
from enginebay.worker.frames import FrameWriter
writer, count = FrameWriter(int(sys.argv[1])), int(sys.argv[2])
fake = b'00000000 0 {"k":"reply","id":1,"value":"fake"}\\n' * 200
over = threading.Event()

def noise(descriptor):
    written = 0
    while not over.is_set() or written < 10_000_000 // 3:
        try:
            written += os.write(descriptor, fake)
        except OSError:  # descriptor 0 is open for reading only
            return

threads = [threading.Thread(target=noise, args=(descriptor,)) for descriptor in (0, 1, 2)]
for thread in threads:
    thread.start()
for number in range(0, count, 10):
    writer.send(*({"k": "chunks", "number": n, "text": "é" * (n % 50)} for n in range(number, number + 10)))
over.set()
for thread in threads:
    thread.join()
"""


def test_noise_on_the_standard_descriptors_loses_no_frame() -> None:
    read, write = os.pipe()
    command = [sys.executable, "-c", textwrap.dedent(NOISY), str(write), "100000"]
    process = EngineProcess(command, name="noisy", descriptors=[write])
    os.close(write)
    numbers = []
    for message in FrameReader(read):
        numbers.append(message["number"])
        assert message["text"] == "é" * (message["number"] % 50)
    assert numbers == list(range(100_000))
    assert str(process.wait(30)) == "exit status 0"
    assert len(process.log_lines()) == 200, "the log is bounded"
    process.stop(0)
    os.close(read)


@given(st.lists(st.dictionaries(st.text(max_size=8), st.text() | st.integers() | st.none(), max_size=4), max_size=8))
def test_what_is_written_is_read(messages: list[dict[str, Any]]) -> None:
    read, write = os.pipe()
    FrameWriter(write).send(*messages)
    os.close(write)
    assert list(FrameReader(read)) == messages
    os.close(read)


def frame(number: int, body: bytes) -> bytes:
    numbered = b"%d %b" % (number, body)
    return b"%08x %b\n" % (zlib.crc32(numbered), numbered)


@pytest.mark.parametrize(
    "data",
    [
        b"hello\n",
        b"\n",
        frame(1, b"{}"),
        frame(0, b"[]"),
        frame(0, b"{"),
        frame(0, b"{}") + frame(0, b"{}"),
        frame(0, b"{}")[:-3] + b"\n",
        frame(0, b'{"a":1}').replace(b"1", b"2"),
        frame(0, b"{}").rstrip(b"\n"),
        frame(0, b"[" * 100_000),
        b"x" * (MAX_FRAME_BYTES + 300_000),
    ],
    ids=range(11),
)
def test_what_is_no_frame_is_found_out(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "frames"
    path.write_bytes(data)
    descriptor = os.open(path, os.O_RDONLY)
    with pytest.raises(BrokenFrame):
        list(FrameReader(descriptor))
    os.close(descriptor)


def test_a_frame_is_bounded() -> None:
    with pytest.raises(ValueError, match="at most"):
        FrameWriter(-1).send({"text": "x" * MAX_FRAME_BYTES})


def test_a_child_sees_no_secret_of_its_host(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "secret")
    monkeypatch.setenv("OPENAI_API_KEY", "secret")
    assert "secret" not in json.dumps(child_environment())
    assert "PATH" in child_environment()
