"""Clauses on tokenization. Bytes are the judge."""

from __future__ import annotations

from functools import partial

from enginebay.errors import RequestError, Unsupported
from enginebay.model import Model
from enginebay.testing.base import Subject, refused, usable

TEXTS = (
    "",
    "a",
    "Once upon a time",
    "  two  spaces, and a tab\t.",
    "line one\nline two\r\n\n",
    "naïve café, Ελλάδα, 日本語, 🙂👩‍👩‍👧",
    "1234567890 3.14 x_y::z (a[b]{c})",
    "e\u0301 is not é",
)


class TokenClauses(Subject):
    """Text to tokens and back."""

    def test_e14_bytes_of_tokens_are_the_text(self, opened: Model) -> None:
        """E14 The bytes of a text's tokens, joined, are the text; nothing is added or normalised.

        Look for a begin token, a leading space, or Unicode normalisation.
        """
        if self.lacks(opened, "detokenize"):
            with refused(Unsupported):
                opened.detokenize([0])
            return
        for text in TEXTS:
            tokens = opened.tokenize(text, special=False)
            assert all(0 <= token < opened.info.vocabulary_tokens for token in tokens)
            assert opened.detokenize(tokens) == text.encode()

    def test_e15_special_text(self, opened: Model) -> None:
        """E15 The text of a special token becomes that token with ``special``, and plain text without.

        Look at whether user text can smuggle in an end of turn.
        """
        for text in {text for text in opened.info.special_text.values() if text}:
            one = opened.tokenize(text, special=True)
            assert len(one) == 1, f"{text!r} became {len(one)} tokens with special=True"
            within = opened.tokenize(f"a{text}b", special=True)
            assert one[0] in within
            assert one[0] not in opened.tokenize(f"a{text}b", special=False)

    def test_e16_detokenize(self, opened: Model) -> None:
        """E16 Tokens turn into bytes one by one as they do together; ids outside the vocabulary are refused.

        Look at tokens that are part of a character, and at the range check before native code.
        """
        if self.lacks(opened, "detokenize"):
            return
        tokens = opened.tokenize("naïve café 日本語 🙂", special=False)
        assert b"".join(opened.detokenize([token]) for token in tokens) == opened.detokenize(tokens)
        for wrong in (-1, opened.info.vocabulary_tokens, 2**40):
            with refused(RequestError):
                opened.detokenize([wrong])

    def test_e17_tokenize_from_many_threads(self, opened: Model) -> None:
        """E17 Many threads may tokenize while the model generates.

        Look at buffers that are shared between calls.
        """
        texts = [f"thread {i} says {'x' * i} ü" for i in range(8)]
        alone = [opened.tokenize(text, special=False) for text in texts]
        with opened.stream(self.prompt, temperature=0, max_tokens=self.tokens, ignore_end=True):
            jobs = [partial(opened.tokenize, text, special=False) for text in texts]
            for _ in range(20):
                assert self.together(jobs) == alone
        usable(opened)
