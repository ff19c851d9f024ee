"""The model: a cache for each sequence, and a step from what a cache holds to logits. It knows no request.

What comes next depends on everything in the cache, so a cache that holds the wrong tokens shows in what is generated.
"""

from __future__ import annotations

import os
import re
import threading
import time
import tomllib
from collections.abc import Sequence
from hashlib import shake_256
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from enginebay.data import LoadRequest
from enginebay.decode.protocol import Feed, StepInterrupted, Vocabulary
from enginebay.errors import ModelLoadError

if TYPE_CHECKING:
    import numpy.typing as npt

    from enginebay_echo.plugin import EchoOptions

BYTES = 256
SPECIAL = (b"<|end|>", b"<|im_start|>", b"<|im_end|>", b"<tool_call>", b"</tool_call>")
END, IM_START, IM_END = 256, 257, 258
PIECES = (*(bytes([byte]) for byte in range(BYTES)), *SPECIAL)
ANY_SPECIAL = re.compile(b"(" + b"|".join(map(re.escape, SPECIAL)) + b")")
ECHO_LOGIT = 10.0
REPLY = b"<|im_start|>assistant\n"
VOCABULARY = Vocabulary(
    pieces=PIECES,
    end=frozenset({END, IM_END}),
    control=frozenset({END, IM_START, IM_END}),
    special=frozenset(range(BYTES, len(PIECES))),
    special_text={"eos_token": "<|im_end|>"},
)


def read_model_file(path: Path) -> tuple[int, str | None]:
    """Context length in tokens and chat template of a ``*.echo`` file, or the error that says what is wrong with it."""
    try:
        text = path.read_text(encoding="utf-8")
        if not text.startswith("#echo 1\n"):
            raise ValueError("its first line is not '#echo 1'")
        content = tomllib.loads(text)
        if set(content) != {"name", "context_tokens", "chat_template"}:
            raise ValueError("its keys are not name, context_tokens and chat_template")
        return int(content["context_tokens"]), str(content["chat_template"]) or None
    except (OSError, ValueError) as error:
        hint = "Compare it with the one in enginebay-echo."
        raise ModelLoadError(f"{path} is no model of echo: {error}", hint=hint) from error


def what_follows(text: bytes) -> tuple[bytes, int]:
    """What echo is about to say after ``text``: the rest of its reply, and the token that ends it.

    In a chat the reply is the last message; otherwise it is the last line, on a line of its own.
    """
    before, turn, reply = text.rpartition(REPLY)
    if turn:
        said = before.rpartition(b"<|im_start|>")[2].partition(b"\n")[2].removesuffix(b"<|im_end|>\n")
        return (said[len(reply) :], IM_END) if said.startswith(reply) else (b"", IM_END)
    *_, said, reply = [b"\n", *text.split(b"\n")]
    return (said[len(reply) :], END) if said.startswith(reply) else (b"\n", END)


class EchoModel:
    """The step model of ``echo``. A cache is the list of its tokens; copying and cutting are what lists do."""

    vocabulary = VOCABULARY
    step_tokens = 512

    def __init__(self, request: LoadRequest) -> None:
        context_tokens, self.chat_template = read_model_file(request.path)
        self.context_tokens = request.context_tokens or context_tokens
        self.sequences = request.sequences or 4
        self._options: EchoOptions = request.options
        self._caches: list[list[int]] = [[] for _ in range(self.sequences)]
        self._interrupted = threading.Event()
        self._computed_tokens = 0
        printable = np.isin(np.arange(len(PIECES)), np.arange(32, 127))
        self._taste = np.where(printable, 8.0, 4.0).astype(np.float32)
        self._fail_if_told()

    def encode(self, text: str, special: bool) -> list[int]:
        parts = ANY_SPECIAL.split(text.encode()) if special else [text.encode()]
        tokens: list[int] = []
        for part in parts:
            tokens.extend([BYTES + SPECIAL.index(part)] if special and part in SPECIAL else part)
        return tokens

    def step(self, feeds: Sequence[Feed]) -> npt.NDArray[np.float32]:
        self._interrupted.clear()
        if self._options.step_seconds and self._interrupted.wait(self._options.step_seconds):
            raise StepInterrupted
        rows = []
        for feed in feeds:
            cache = self._caches[feed.sequence]
            cache.extend(feed.tokens)
            if len(cache) > self.context_tokens:
                raise ValueError(f"sequence {feed.sequence} holds {len(cache)} tokens, more than its context")
            for end in range(len(cache) - feed.outputs, len(cache)):
                self._computed_tokens += 1
                self._fail_if_told(cache)
                rows.append(self._logits(cache[: end + 1]))
        return np.array(rows, dtype=np.float32).reshape(len(rows), len(PIECES))

    def _logits(self, cache: list[int]) -> npt.NDArray[np.float32]:
        """A few tokens that depend on the whole cache are likely, as in a language model; the echo is the likeliest."""
        digest = shake_256(np.array(cache, dtype="<u4").tobytes()).digest(2 * len(PIECES))
        noise = np.frombuffer(digest, dtype="<u2") / 65536
        row = np.asarray(self._taste * noise**8, dtype=np.float32)
        rest, end = what_follows(b"".join(PIECES[token] for token in cache))
        row[rest[0] if rest else end] = ECHO_LOGIT
        return row

    def keep(self, sequence: int, n: int) -> int:
        del self._caches[sequence][n:]
        return n

    def copy(self, source: int, target: int, n: int) -> None:
        self._caches[target] = self._caches[source][:n]

    def save_state(self, sequence: int) -> bytes:
        return np.array(self._caches[sequence], dtype="<u4").tobytes()

    def load_state(self, sequence: int, state: bytes, n: int) -> bool:
        fits = len(state) == 4 * n <= 4 * self.context_tokens
        self._caches[sequence] = np.frombuffer(state, dtype="<u4").tolist() if fits else []
        return fits

    def interrupt(self) -> None:
        self._interrupted.set()

    def embed(self, tokens: Sequence[int]) -> npt.NDArray[np.float32]:
        return np.bincount(tokens, minlength=len(PIECES)).astype(np.float32)

    def close(self) -> None:
        self._caches.clear()

    def _fail_if_told(self, cache: Sequence[int] = ()) -> None:
        options = self._options
        if options.failure_text:
            due = options.failure_text.encode() in b"".join(PIECES[token] for token in cache)
        else:
            due = options.failure_at == self._computed_tokens
        if options.failure == "none" or not due:
            return
        if options.failure_once:
            try:
                Path(options.failure_once).touch(exist_ok=False)
            except FileExistsError:
                return
        message = f"echo was told to fail ({options.failure}) at token {self._computed_tokens}"
        match options.failure:
            case "error":
                raise RuntimeError(message)
            case "memory":
                raise MemoryError(message)
            case "hang":
                time.sleep(1e6)
            case "crash":
                os.write(2, f"{message}\n".encode())
                os.abort()
