"""A compiled constraint, and its state for one sequence. Knows neither the constraint's kind nor the library behind it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from attrs import field, frozen

from enginebay.data import AppliedConstraint
from enginebay.decode.constraints.native import NativeMatcher
from enginebay.errors import GenerationError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


class Matcher:
    """One sequence's place in a constraint. Not thread-safe; cheap to make.

    An end token is allowed exactly where the constraint is complete. After one was taken the matcher stays complete.
    """

    def __init__(self, native: NativeMatcher, end: tuple[int, ...]) -> None:
        self._native = native
        self._end = end
        self._ended = False

    def allowed(self, width: int) -> npt.NDArray[np.bool_]:
        """Which tokens may come next.

        :param width: the length of a row of logits, at least the vocabulary
        :returns: bool, shape (width,), False beyond the vocabulary; the caller owns it
        :raises GenerationError: the compiler failed, or nothing may follow
        """
        mask = self._native.allowed(width)
        mask[list(self._end)] = self._native.complete
        if not mask.any():
            raise GenerationError("no token of the vocabulary can continue the constraint")
        return mask

    def advance(self, token: int) -> None:
        """Take a token. Raises GenerationError if it is not allowed; the matcher is of no use then."""
        if token in self._end:
            if not self.complete:
                raise GenerationError(f"end token {token} came before the constraint was complete")
            self._ended = True
        elif self._ended:
            raise GenerationError(f"token {token} came after the end of the constraint")
        else:
            self._native.advance(token)

    @property
    def complete(self) -> bool:
        """Whether the output may end here."""
        return self._ended or self._native.complete


@frozen
class Compiled:
    """A constraint for one vocabulary; thread-safe. ``applied`` says what will be enforced."""

    applied: AppliedConstraint
    _template: Any = field(repr=False)
    _vocabulary_tokens: int = field(repr=False)
    _end: tuple[int, ...] = field(repr=False)
    _check: Callable[[str], bool | None] | None = field(default=None, repr=False)

    def start(self) -> Matcher:
        """A matcher at the beginning of the output."""
        return Matcher(NativeMatcher(self._template, self._vocabulary_tokens), self._end)

    @property
    def checks(self) -> bool:
        """Whether ``verdict`` has something to check."""
        return self._check is not None

    def verdict(self, text: str) -> bool | None:
        """Whether finished text is valid, for a constraint that was weakened by ``strict=False``; otherwise None."""
        return None if self._check is None else self._check(text)
