"""Where words go: what a program reads to stdout, all else to stderr. It knows no command."""

from __future__ import annotations

import io
import json
import os
import sys
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from enginebay.errors import EnginebayError

_CONTROL = {code: "\N{REPLACEMENT CHARACTER}" for code in (*range(0x20), *range(0x7F, 0xA0)) if chr(code) not in "\n\t"}


class ReaderGoneError(Exception):
    """Whoever read stdout has closed it."""


class Output:
    """The process's stdout, for the command alone.

    Descriptor 1 is pointed at stderr, because native libraries print to it, and this keeps the real one.
    """

    def __init__(self) -> None:
        sys.stdout.flush()
        self._descriptor = os.dup(1)
        self.terminal = os.isatty(self._descriptor)
        os.dup2(2, 1)

    def write(self, text: str) -> None:
        """Write at once. A terminal gets no control characters, which could change it."""
        self._send(text.translate(_CONTROL) if self.terminal else text)

    def render(self, renderable: Any) -> None:
        """Write something of rich's, with its colours. Only for a terminal."""
        from rich.console import Console

        width = os.get_terminal_size(self._descriptor).columns or 80
        console = Console(file=io.StringIO(), force_terminal=True, width=width)
        with console.capture() as captured:
            console.print(renderable)
        self._send(captured.get())

    def _send(self, text: str) -> None:
        data = text.encode("utf-8", "replace")
        try:
            while data:
                data = data[os.write(self._descriptor, data) :]
        except BrokenPipeError as error:
            raise ReaderGoneError from error

    def json(self, value: Any) -> None:
        """One JSON value and a line end."""
        self.write(json.dumps(value, ensure_ascii=False) + "\n")


def waiting(what: str) -> AbstractContextManager[Any]:
    """Shows that something takes time, where a person looks."""
    if not sys.stderr.isatty():
        return nullcontext()
    from rich.console import Console

    return Console(stderr=True).status(what)


def note(text: str) -> None:
    """A remark for the person at the terminal; nobody else gets it."""
    if sys.stderr.isatty():
        from rich.console import Console

        Console(stderr=True).print(text, style="dim", markup=False, highlight=False)


def show_error(error: EnginebayError) -> None:
    """Message and hint on stderr; one JSON object if the command was asked for JSON."""
    if _wants_json():
        sys.stderr.write(json.dumps({"error": error.to_dict()}, ensure_ascii=False, default=str) + "\n")
    elif sys.stderr.isatty():
        from rich.console import Console

        console = Console(stderr=True, soft_wrap=True, highlight=False, markup=False)
        console.print("error:", style="bold red", end=" ")
        console.print(error.message)
        if error.hint:
            console.print("hint:", style="bold", end=" ")
            console.print(error.hint)
    else:
        sys.stderr.write(f"error: {error.message}\n" + (f"hint: {error.hint}\n" if error.hint else ""))


def _wants_json() -> bool:
    options = sys.argv[1 : sys.argv.index("--")] if "--" in sys.argv else sys.argv[1:]
    return "--json" in options
