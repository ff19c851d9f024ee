"""The model: what follows the last letters in its text, as logits."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from enginebay.data import LoadRequest
from enginebay.decode.protocol import Feed, Vocabulary
from enginebay.errors import ModelLoadError

if TYPE_CHECKING:
    import numpy.typing as npt

END = 256  # after one token for each byte


class ToyModel:
    """Counts which token follows the last one, two and three tokens; a longer match weighs more."""

    vocabulary = Vocabulary(
        pieces=(*(bytes([byte]) for byte in range(256)), b"<end>"),
        end=frozenset({END}),
        control=frozenset({END}),
        special=frozenset({END}),
        special_text={"eos_token": "<end>"},
    )
    chat_template = None
    step_tokens = 256

    def __init__(self, request: LoadRequest) -> None:
        content = request.path.read_bytes() if request.path.is_file() else b""
        if not content.startswith(b"#toy 1\n") or not content.endswith(b"#end\n"):
            raise ModelLoadError(f"{request.path} is no complete model of toy.")
        self.context_tokens = request.context_tokens or 1024
        self.sequences = request.sequences or 4
        self._caches: list[list[int]] = [[] for _ in range(self.sequences)]
        self._followers: dict[tuple[int, ...], Counter[int]] = {}
        story = [*content.removeprefix(b"#toy 1\n").removesuffix(b"#end\n"), END]
        for i, token in enumerate(story):
            for length in range(min(i, 3) + 1):
                self._followers.setdefault(tuple(story[i - length : i]), Counter())[token] += 1

    def encode(self, text: str, special: bool) -> list[int]:
        if special and "<end>" in text:
            first, *rest = (list(part.encode()) for part in text.split("<end>"))
            return first + [token for part in rest for token in (END, *part)]
        return list(text.encode())

    def step(self, feeds: Sequence[Feed]) -> npt.NDArray[np.float32]:
        rows = []
        for feed in feeds:
            cache = self._caches[feed.sequence]
            cache.extend(feed.tokens)
            rows += [self._logits(cache[: end + 1]) for end in range(len(cache) - feed.outputs, len(cache))]
        return np.array(rows, dtype=np.float32).reshape(len(rows), END + 1)

    def _logits(self, cache: list[int]) -> npt.NDArray[np.float64]:
        weights = np.full(END + 1, 0.001)
        for length in range(min(len(cache), 3) + 1):
            for token, count in self._followers.get(tuple(cache[len(cache) - length :]), Counter[int]()).items():
                weights[token] += count * 20**length
        logits: npt.NDArray[np.float64] = np.log(weights)
        return logits

    def keep(self, sequence: int, n: int) -> int:
        del self._caches[sequence][n:]
        return n

    def close(self) -> None:
        self._caches.clear()
