"""MLX as a step model: decoding sequences share one forward pass, prompts run alone. It knows no sampling or text.

Everything but ``encode`` and ``interrupt`` runs on the owner thread.
"""

from __future__ import annotations

import gc
import hashlib
import threading
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from enginebay import memory
from enginebay.data import LoadRequest
from enginebay.decode.protocol import Feed, StepInterrupted
from enginebay.errors import ContextOverflow
from enginebay_mlx import library
from enginebay_mlx.caches import Caches
from enginebay_mlx.files import check_folder
from enginebay_mlx.model import load_model, new_cache
from enginebay_mlx.sizes import Plan, options_of, plan
from enginebay_mlx.tokenizer import FolderTokenizer

if TYPE_CHECKING:
    from enginebay.decode.protocol import Logits

FIRST_PIECE_TOKENS = 16
SHORT_SECONDS, LONG_SECONDS = 0.05, 0.2
"""A piece of a prompt that took less is doubled, one that took more is halved: so long can a cancel have to wait."""
TIDY_STEPS = 256
"""How often MLX's own cache of freed buffers is emptied."""


def open_steps(request: LoadRequest) -> MlxSteps:
    """Check and load a folder. Models whose caches are plain keys and values also share, save and restore prefixes.

    :raises ModelLoadError: the folder is incomplete, damaged, or of an architecture that mlx-lm does not know
    :raises OutOfMemory: the model does not fit into the memory that is available
    """
    folder = check_folder(request.path)
    planned = plan(folder, request)
    hint = 'Load with a smaller context_tokens or precision="model", or take a smaller or quantized model.'
    memory.require(folder.path.name, planned.estimate, hint)
    tokenizer = FolderTokenizer(folder)
    model = load_model(folder, options_of(request).precision)
    from mlx_lm.models.cache import KVCache

    plain = all(type(cache) is KVCache for cache in new_cache(model))
    return (PlainCacheSteps if plain else MlxSteps)(planned, folder.chat_template, tokenizer, model)


class MlxSteps:
    """A loaded model with a cache for each sequence."""

    def __init__(self, planned: Plan, chat_template: str | None, tokenizer: FolderTokenizer, model: Any) -> None:
        self.vocabulary = tokenizer.vocabulary
        self.chat_template = chat_template
        self.context_tokens = planned.context_tokens
        self.sequences = planned.sequences
        self.step_tokens = planned.step_tokens
        self.notes = planned.notes
        self._tokenizer = tokenizer
        self._mx = library.load()
        self._model = model
        self._caches = Caches(self._mx, lambda: new_cache(model))
        self._lengths = [0] * self.sequences
        self._piece_tokens = FIRST_PIECE_TOKENS
        self._steps = 0
        self._interrupting = threading.Lock()
        self._running = self._given_up = False

    def encode(self, text: str, special: bool) -> list[int]:
        return self._tokenizer.encode(text, special)

    def step(self, feeds: Sequence[Feed]) -> Logits:
        with self._interrupting:
            self._running = True
        try:
            logits = self._compute(feeds)
        except BaseException:
            for feed in feeds:
                self.keep(feed.sequence, 0)
            raise
        finally:
            with self._interrupting:
                self._running = self._given_up = False
        self._steps += 1
        if self._steps % TIDY_STEPS == 0:
            self._mx.clear_cache()
        return logits

    def _compute(self, feeds: Sequence[Feed]) -> Logits:
        import numpy as np

        for feed in feeds:
            length = self._lengths[feed.sequence] + len(feed.tokens)
            if length > self.context_tokens:
                raise ContextOverflow(
                    f"A sequence would have {length:,} tokens; its context holds {self.context_tokens:,}."
                )
        for feed in feeds:
            if len(feed.tokens) > feed.outputs:
                self._prefill(feed.sequence, feed.tokens[: len(feed.tokens) - feed.outputs])
        wanted = [feed for feed in feeds if feed.outputs]
        if not wanted:
            return np.empty((0, len(self.vocabulary.pieces)), np.float32)
        if len(wanted) > 1 and self._caches.batches and all(feed.outputs == 1 for feed in wanted):
            rows = self._decode_together(wanted)
        else:
            parts = [self._decode(feed) for feed in wanted]
            rows = parts[0] if len(parts) == 1 else self._mx.concatenate(parts)
        rows = rows.astype(self._mx.float32)
        self._mx.eval(rows)
        return np.asarray(rows)

    def _prefill(self, sequence: int, tokens: Sequence[int]) -> None:
        """Append tokens whose logits nobody wants: MLX is lazy, so the last layer's output is never computed."""
        caches, place = self._caches.own(sequence), 0
        while place < len(tokens):
            if self._given_up:
                raise StepInterrupted
            began = time.monotonic()
            piece = tokens[place : place + self._piece_tokens]
            self._model(self._mx.array([piece]), cache=caches)
            self._mx.eval([cache.state for cache in caches])
            self._lengths[sequence] += len(piece)
            place += len(piece)
            seconds = time.monotonic() - began
            if seconds > LONG_SECONDS:
                self._piece_tokens = max(1, len(piece) // 2)
            elif seconds < SHORT_SECONDS and len(piece) == self._piece_tokens:
                self._piece_tokens = min(2 * self._piece_tokens, self.step_tokens)

    def _decode(self, feed: Feed) -> Any:
        tokens = feed.tokens[len(feed.tokens) - feed.outputs :]
        logits = self._model(self._mx.array([tokens]), cache=self._caches.own(feed.sequence))
        self._lengths[feed.sequence] += len(tokens)
        return logits[0]

    def _decode_together(self, feeds: Sequence[Feed]) -> Any:
        last = {feed.sequence: feed.tokens[-1] for feed in feeds}
        rows, caches = self._caches.together(list(last))
        logits = self._model(self._mx.array([[last[sequence]] for sequence in rows]), cache=caches)[:, -1]
        for sequence in rows:
            self._lengths[sequence] += 1
        if rows != list(last):
            logits = logits[self._mx.array([rows.index(sequence) for sequence in last])]
        return logits

    def interrupt(self) -> None:
        with self._interrupting:
            self._given_up = self._running

    def keep(self, sequence: int, n: int) -> int:
        length = self._lengths[sequence]
        if n >= length:
            return length
        if n <= 0 or not self._caches.trim(sequence, length - n):
            n = 0
            self._caches.drop(sequence)
        self._lengths[sequence] = n
        return n

    def close(self) -> None:
        self._caches.clear()
        self._model = None
        gc.collect()
        self._mx.clear_cache()


class PlainCacheSteps(MlxSteps):
    """A model whose caches hold a key and a value for each position: any prefix of them can be copied and written out.

    A state is a magic, a digest of the model's shapes, the number of positions, and the raw keys and values by layer.
    """

    _MAGIC = b"enginebay-mlx-1\n"

    def __init__(self, planned: Plan, chat_template: str | None, tokenizer: FolderTokenizer, model: Any) -> None:
        super().__init__(planned, chat_template, tokenizer, model)
        caches = new_cache(model)
        model(self._mx.array([[0]]), cache=caches)  # never evaluated: MLX knows the shapes without computing
        self._shapes = [(a.shape[1], a.shape[3], a.dtype) for cache in caches for a in (cache.keys, cache.values)]
        self._digest = hashlib.sha256(repr(self._shapes).encode()).digest()

    def copy(self, source: int, target: int, n: int) -> None:
        arrays = [self._mx.contiguous(array) for array in self._prefix(source, n)]
        self._mx.eval(arrays)
        self._put(target, arrays, n)

    def save_state(self, sequence: int) -> bytes:
        import numpy as np

        n = self._lengths[sequence]
        if not n:
            return b""
        mx = self._mx
        raw = [mx.contiguous(array).view(mx.uint8) for array in self._prefix(sequence, n)]
        mx.eval(raw)
        return b"".join((self._MAGIC, self._digest, n.to_bytes(8, "little"), *(np.asarray(a).tobytes() for a in raw)))

    def load_state(self, sequence: int, state: bytes, n: int) -> bool:
        import numpy as np

        self.keep(sequence, 0)
        head = self._MAGIC + self._digest + n.to_bytes(8, "little")
        sizes = [heads * n * width * dtype.size for heads, width, dtype in self._shapes]
        if not 0 < n <= self.context_tokens or not state.startswith(head) or len(state) != len(head) + sum(sizes):
            return False
        arrays, place = [], len(head)
        for size, (heads, _, dtype) in zip(sizes, self._shapes, strict=True):
            raw = np.frombuffer(state, np.uint8, size, place).reshape(1, heads, n, -1)
            arrays.append(self._mx.array(raw).view(dtype))
            place += size
        self._mx.eval(arrays)
        self._put(sequence, arrays, n)
        return True

    def _prefix(self, sequence: int, n: int) -> list[Any]:
        """Keys and values of the first ``n`` positions in turn, a pair a layer: (1, heads, n, dimensions) each."""
        caches = self._caches.look(sequence)
        return [array[..., :n, :] for cache in caches for array in (cache.keys, cache.values)]

    def _put(self, sequence: int, arrays: list[Any], n: int) -> None:
        caches = new_cache(self._model)
        for cache, keys, values in zip(caches, arrays[::2], arrays[1::2], strict=True):
            cache.keys, cache.values, cache.offset = keys, values, n
        self._caches.put(sequence, caches)
        self._lengths[sequence] = n
