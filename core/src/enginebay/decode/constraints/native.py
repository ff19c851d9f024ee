"""The seam to llguidance: a grammar text in, masks over tokens out. Nothing else in the package imports the library.

It is given Lark text in llguidance's dialect and knows no kind of constraint. The library never raises while running: it falls
into an error state in which only an end token is allowed, so every call here asks for that state.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from enginebay.decode.protocol import Vocabulary
from enginebay.errors import GenerationError, GrammarError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

COMPILER = "llguidance"

_LIMITS: dict[str, Any] = {
    "max_items_in_row": 2_000,
    "initial_lexer_fuel": 1_000_000,
    "step_lexer_fuel": 200_000,
    "step_max_items": 50_000,
    "max_lexer_states": 50_000,
    "max_grammar_size": 200_000,
    "verbose_errors": False,
}

_NO_FORCING = '\n%llguidance {"no_forcing": true}\n'
"""Without it the library computes the text that must follow, and can do so forever (``"a" WS " b"`` with ``WS: " "+``)."""


class _Wrapper:
    """A vocabulary as the library wants to see it."""

    is_tokenizer_wrapper = True
    bos_token_id = None

    def __init__(self, vocabulary: Vocabulary, encode: Callable[[str], list[int]]) -> None:
        self.tokens = list(vocabulary.pieces)
        self.eos_token_id = min(vocabulary.end)
        self.special_token_ids = sorted(vocabulary.special | vocabulary.control | vocabulary.end)
        self._encode = encode

    def __call__(self, text: str) -> list[int]:
        return self._encode(text)


class Library:
    """llguidance over one vocabulary. The tokenizer is built at first use (0.3 s for 128,000 tokens); thread-safe."""

    def __init__(self, vocabulary: Vocabulary, encode: Callable[[str], list[int]]) -> None:
        self._vocabulary = vocabulary
        self._encode = encode
        self._lock = threading.Lock()
        self._tokenizer: Any = None
        self._limits: Any = None

    def prepare(self) -> Any:
        """The tokenizer, built now if it is not there yet. Raises GrammarError if the model has no end token."""
        with self._lock:
            if self._tokenizer is None:
                import llguidance

                vocabulary = self._vocabulary
                if not vocabulary.end:
                    raise GrammarError("the model has no end token, so that a constraint could never end")
                wrapper: Any = _Wrapper(vocabulary, self._encode)
                self._limits = llguidance.LLParserLimits(**_LIMITS)
                self._tokenizer = llguidance.LLTokenizer(wrapper, eos_token=sorted(vocabulary.end))
            return self._tokenizer

    def compile(self, lark: str) -> Any:
        """Compile Lark text to a matcher that is only ever cloned. Raises GrammarError with the library's reason."""
        import llguidance

        tokenizer = self.prepare()
        matcher = llguidance.LLMatcher(tokenizer, lark + _NO_FORCING, log_level=0, limits=self._limits)
        if matcher.is_error():
            raise GrammarError(f"the constraint cannot be compiled: {_reason(matcher)}")
        return matcher


class NativeMatcher:
    """A clone of a compiled grammar: one sequence's state."""

    def __init__(self, template: Any, vocabulary_tokens: int) -> None:
        self._matcher = template.deep_copy()
        self._mask_bytes = (vocabulary_tokens + 31) // 32 * 4
        self._packed: npt.NDArray[np.uint8] | None = None

    def allowed(self, width: int) -> npt.NDArray[np.bool_]:
        """Which of ``width`` tokens may come next: a new bool array, shape (width,), False beyond the vocabulary."""
        import numpy as np

        size = max(self._mask_bytes, (width + 7) // 8)
        packed = self._packed
        if packed is None or packed.size != size:
            packed = self._packed = np.zeros(size, dtype=np.uint8)
        self._matcher.unsafe_compute_mask_ptr(packed.ctypes.data, self._mask_bytes)
        if self._matcher.is_error():
            raise GenerationError(f"the constraint failed: {_reason(self._matcher)}")
        return np.unpackbits(packed, count=width, bitorder="little").view(np.bool_)

    def advance(self, token: int) -> None:
        if not self._matcher.consume_token(token):
            raise GenerationError(f"token {token} is not allowed by the constraint: {_reason(self._matcher)}")

    @property
    def complete(self) -> bool:
        return bool(self._matcher.is_accepting())


def _reason(matcher: Any) -> str:
    """The library's message, without its dump of the parser's state."""
    text: str = matcher.get_error()
    for noise in ("\n<state>", "\n<non-verbose/>", "\n   1 |"):
        text = text.partition(noise)[0]
    return text.strip()[:1_000]
