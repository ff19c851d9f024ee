"""Clauses on the end of a model: closing it twice, early, and beside others. Threads and descriptors are counted."""

from __future__ import annotations

import os
import threading
from pathlib import Path

from enginebay.errors import EnginebayError
from enginebay.model import Model
from enginebay.testing.base import Subject, refused


class ClosingClauses(Subject):
    """What is left after ``close``."""

    def test_e49_close_twice(self) -> None:
        """E49 A model may be closed twice, and from another thread than the one that loaded it.

        Look at the second call, and at objects that belong to a thread.
        """
        model = self.open()
        self.within(model.close)
        model.close()

    def test_e50_close_ends_streams(self) -> None:
        """E50 Closing a model ends the streams that run on it, with an error of the tree or the reason ``cancelled``.

        Look at readers that wait for a chunk that never comes.
        """
        model = self.open()
        prompt = self.long_prompt(model, model.info.context_tokens // 2)
        streams = [
            model.stream(prompt[i:], temperature=0, max_tokens=model.info.context_tokens // 2 - 1, ignore_end=True)
            for i in range(model.info.sequences + 1)
        ]
        self.within(model.close)
        for stream in streams:
            try:
                last = self.collect(stream)[-1]
            except EnginebayError:
                continue
            assert last.finish is not None

    def test_e51_no_use_after_close(self) -> None:
        """E51 A closed model refuses requests with an error of the tree.

        Look at native memory that is used after it was freed.
        """
        model = self.open()
        model.close()
        with refused(EnginebayError):
            self.greedy(model)

    def test_e52_close_gives_all_back(self) -> None:
        """E52 Loading and closing again and again leaves no thread and no open file behind.

        Look at what ``close`` does not end. Memory is given back in whole only with the process.
        """

        def once() -> None:
            with self.open() as model:
                self.greedy(model, max_tokens=2)

        once()
        threads, files = threading.active_count(), _open_files()
        for _ in range(3):
            once()
        self.settles(lambda: threading.active_count() <= threads, "threads were left running")
        self.settles(lambda: _open_files() <= files, "files were left open")

    def test_e53_two_models(self, opened: Model) -> None:
        """E53 Two models that are open at once do not touch each other; closing one leaves the other.

        Look for state of the module or of the process.
        """
        first, second = f"{self.prompt} there", f"{self.prompt} here"
        expected = self.greedy(opened, first).tokens, self.greedy(opened, second).tokens
        with self.open() as other:
            for _ in range(2):
                got = self.together([lambda: self.greedy(opened, first), lambda: self.greedy(other, second)])
                assert (got[0].tokens, got[1].tokens) == expected
        assert self.greedy(opened, first).tokens == expected[0]


def _open_files() -> int:
    folder = Path("/proc/self/fd")
    return len(os.listdir(folder)) if folder.exists() else 0
