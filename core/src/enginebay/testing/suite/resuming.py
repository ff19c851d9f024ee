"""Clauses on requests that are continued from tokens given before. The uninterrupted request is the judge."""

from __future__ import annotations

from typing import Any

from enginebay.model import Model
from enginebay.result import Result
from enginebay.testing.base import Subject
from enginebay.testing.oracle import text_of


class ResumeClauses(Subject):
    """What a worker's death must not change."""

    def test_e54_resume(self, opened: Model) -> None:
        """E54 A resumed request gives the tokens that follow, and no others.

        Look at whether ``resume`` is part of what the sequence holds.
        """
        whole = self.greedy(opened)
        for split in (1, self.tokens // 2, self.tokens - 1):
            rest = self.greedy(opened, resume=whole.tokens[:split])
            assert rest.tokens == whole.tokens[split:]

    def test_e55_resume_draws(self, opened: Model) -> None:
        """E55 Draws and penalties go on where they were.

        Look at what a draw is counted from, and at penalties that do not see the resumed tokens.
        """
        options: dict[str, Any] = {
            "frequency_penalty": 0.8,
            "repeat_penalty": 1.1,
            "repeat_window_tokens": 8,
            "seed": 11,
        }
        for run in (self.greedy, *([] if self.lacks(opened, "seed") else [self.drawn])):
            whole: Result = run(opened, **options)
            for split in (1, self.tokens // 2, self.tokens - 1):
                rest: Result = run(opened, resume=whole.tokens[:split], **options)
                assert rest.tokens == whole.tokens[split:]

    def test_e56_resume_counts(self, opened: Model) -> None:
        """E56 Limits, text and stop strings count resumed tokens as generated.

        Look at a stop string, or a character, that begins before the break and ends after it.
        """
        whole = self.greedy(opened)
        rest = self.greedy(opened, resume=whole.tokens[:3])
        assert (len(rest.tokens), rest.finish_reason) == (self.tokens - 3, "length")
        assert rest.usage.completion_tokens == self.tokens
        done = self.greedy(opened, resume=whole.tokens)
        assert (done.text, done.tokens, done.finish_reason) == ("", (), "length")
        for split in range(1, self.tokens):
            before = text_of(opened, whole.tokens[:split]) if not self.lacks(opened, "detokenize") else ""
            if not before or before[-1] == "\ufffd" or len(whole.text) < len(before) + 1:
                continue
            stop = whole.text[len(before) - 1 : len(before) + 1]
            if whole.text.index(stop) != len(before) - 1:
                continue
            stopped = self.greedy(opened, resume=whole.tokens[:split], stop=[stop])
            assert (stopped.finish_reason, stopped.stop) == ("stop", stop), f"stop string over the break at {split}"
            break
