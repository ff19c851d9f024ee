"""What an engine with logits implements to get all the rest. It knows nothing of requests, sampling or threads."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol, TypeAlias, runtime_checkable

from attrs import field, frozen

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Logits: TypeAlias = npt.NDArray[np.float32]


@frozen
class Vocabulary:
    """The tokens of a model. ``pieces[i]`` is the byte string of token ``i``, the text of the token if it is special.

    ``control`` tokens never appear in output text. ``special`` tokens (control ones and user-defined ones such as
    ``<tool_call>``) never match text in a constraint. ``end`` tokens end generation. ``prefix`` is what the model's
    tokenizer puts before plain text. ``special_text`` names tokens for chat templates (``bos_token``, ``eos_token``).
    """

    pieces: tuple[bytes, ...] = field(repr=False)
    end: frozenset[int]
    control: frozenset[int] = field(default=frozenset(), repr=False)
    special: frozenset[int] = field(default=frozenset(), repr=False)
    prefix: tuple[int, ...] = ()
    special_text: dict[str, str] = field(factory=dict)

    def fingerprint(self) -> str:
        """Hex SHA-256 over all pieces and end tokens: the same where tokens mean the same."""
        digest = hashlib.sha256(repr((list(map(len, self.pieces)), sorted(self.end))).encode())
        digest.update(b"".join(self.pieces))
        return digest.hexdigest()


@frozen
class Feed:
    """Tokens to append to one sequence in a step, and for how many of the last of them logits are wanted (0: none)."""

    sequence: int
    tokens: Sequence[int]
    outputs: int = 1


class StepModel(Protocol):
    """A model with a KV cache of ``sequences`` slots. One thread calls it, the same one from load to close.

    ``encode`` is the exception: any thread may call it. Methods raise errors of the tree, or native exceptions that the
    toolkit wraps. After ``step`` raised, every sequence that it fed is empty as far as the toolkit is concerned.
    """

    @property
    def vocabulary(self) -> Vocabulary: ...

    @property
    def chat_template(self) -> str | None:
        """The model's own Jinja template."""
        ...

    @property
    def context_tokens(self) -> int:
        """Positions of each sequence."""
        ...

    @property
    def sequences(self) -> int:
        """How many sequences are decoded together."""
        ...

    @property
    def step_tokens(self) -> int:
        """The most tokens that all feeds of a step may have together."""
        ...

    def encode(self, text: str, special: bool) -> list[int]:
        """Token ids of text; nothing added. ``special``: whether the text of special tokens becomes those tokens."""
        ...

    def step(self, feeds: Sequence[Feed]) -> Logits:
        """Append each feed's tokens to its sequence. At most one feed a sequence.

        :returns: float32, shape (sum of all ``outputs``, at least the vocabulary), rows in the order of feeds and then of
            positions. Valid until the next call; the toolkit only reads it.
        """
        ...

    def keep(self, sequence: int, n: int) -> int:
        """Drop what follows the first ``n`` positions. Returns how many are left: ``n``, or 0 if it cannot cut there."""
        ...

    def close(self) -> None:
        """Free all native memory."""
        ...


@runtime_checkable
class Copies(Protocol):
    """A model that can share a prefix between sequences."""

    def copy(self, source: int, target: int, n: int) -> None:
        """Make ``target`` hold the first ``n`` positions of ``source``; what it held before is dropped."""
        ...


@runtime_checkable
class SavesState(Protocol):
    """A model whose cache can be written out and read back."""

    def save_state(self, sequence: int) -> bytes:
        """The cache of one sequence."""
        ...

    def load_state(self, sequence: int, state: bytes, n: int) -> bool:
        """Restore a cache of ``n`` positions. False, with the sequence empty, if the state does not fit."""
        ...


@runtime_checkable
class PrefersAdjacent(Protocol):
    """A model that may say that sequences with adjacent numbers are cheaper to decode together than others."""

    @property
    def prefers_adjacent(self) -> bool: ...


@runtime_checkable
class Interrupts(Protocol):
    """A model whose running step can be given up from another thread."""

    def interrupt(self) -> None:
        """Make a ``step`` that runs now raise ``StepInterrupted`` soon; without one, do nothing."""
        ...


@runtime_checkable
class Embeds(Protocol):
    """A model that turns tokens into a vector."""

    def embed(self, tokens: Sequence[int]) -> npt.NDArray[np.float32]:
        """float32, shape (dimensions,), pooled as the model says, not normalised."""
        ...


class StepInterrupted(Exception):
    """A step was given up on request; the sequences that it fed are empty."""


@runtime_checkable
class Notes(Protocol):
    """A model that did something else than was asked (a GPU that is not there), and says so."""

    @property
    def notes(self) -> tuple[str, ...]: ...
