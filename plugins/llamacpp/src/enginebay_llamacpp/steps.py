"""llama.cpp as a step model: batches over sequences of one cache. It knows no request, sampling or text."""

from __future__ import annotations

import ctypes
import itertools
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from enginebay.data import LoadRequest
from enginebay.decode.protocol import Feed, StepInterrupted, Vocabulary
from enginebay.errors import ContextOverflow, EnginebayError, GenerationError, ModelLoadError, OutOfMemory
from enginebay_llamacpp import library
from enginebay_llamacpp.model import OpenModel, open_model
from enginebay_llamacpp.tokenizer import Tokenizer
from enginebay_llamacpp.vocabulary import read_vocabulary

if TYPE_CHECKING:
    import numpy.typing as npt

    from enginebay.decode.protocol import Logits, StepModel

FILLED_GAP = 3
"""A row that counts for nothing costs a step less than a step of its own for what lies beyond the gap."""
_ABORTED = 2
_NO_SLOT = 1
_ALLOCATION_FAILED = -2


class LlamaModel:
    """What generating and embedding models share. One thread calls it; ``encode`` may be called from any."""

    step_tokens: int
    sequences: int

    def __init__(self, opened: OpenModel) -> None:
        self._opened = opened
        self._native = opened.native
        self._vocab = opened.vocab
        self.vocabulary: Vocabulary = read_vocabulary(opened.native, self._vocab, opened.file)
        self.context_tokens = opened.plan.context_tokens
        self.notes = opened.notes
        self._tokenizer = Tokenizer(opened.native, self._vocab, opened.file)

    @property
    def chat_template(self) -> str | None:
        template = self._opened.file.metadata.get("tokenizer.chat_template")
        return template if isinstance(template, str) else None

    def encode(self, text: str, special: bool) -> list[int]:
        return self._tokenizer.encode(text, special)

    def close(self) -> None:
        self._tokenizer.close()
        self._opened.close()


class LlamaSteps(LlamaModel):
    """A model that generates."""

    def __init__(self, opened: OpenModel, *, shared: bool = True) -> None:
        super().__init__(opened)
        import numpy as np

        plan = opened.plan
        self.sequences = plan.sequences
        most = min(opened.options.batch_tokens, plan.context_tokens * plan.sequences)
        self.step_tokens = max(most, plan.sequences)  # each must be able to take a step with the others
        self._flag = (ctypes.c_char * 2)()  # the string that the abort callback measures; not empty means: give up
        self._abort = opened.native.ggml_abort_callback(_address_of_strlen())
        opened.make_context(
            {
                "n_ctx": plan.context_tokens * plan.sequences,
                "n_seq_max": plan.sequences,
                "n_batch": self.step_tokens,
                "n_ubatch": self.step_tokens,
                "kv_unified": shared,
                "swa_full": True,  # a sliding window that forgets could not be cut or copied
                "abort_callback": self._abort,
                "abort_callback_data": ctypes.addressof(self._flag),
            }
        )
        self._context = opened.context
        self._memory = opened.native.llama_get_memory(self._context)
        if not self._memory:
            raise cannot_generate(opened)
        self._width = opened.native.llama_vocab_n_tokens(self._vocab)
        self._lengths = [0] * plan.sequences
        self._shared = shared
        self._copying: set[int] = set()
        """Sequences that the next step copies from or to: what they hold now is not yet, or must not change before."""
        self._running = False
        self._interrupting = threading.Lock()
        self._row_type = ctypes.c_float * self._width
        self._tokens = np.zeros(self.step_tokens, np.int32)
        self._positions = np.zeros(self.step_tokens, np.int32)
        self._sequence_of = np.zeros(self.step_tokens, np.int32)
        self._wanted = np.zeros(self.step_tokens, np.int8)
        self._ones = np.ones(self.step_tokens, np.int32)
        self._ascending = np.arange(self.context_tokens, dtype=np.int32)
        first = self._sequence_of.ctypes.data
        self._pointers = first + 4 * np.arange(self.step_tokens, dtype=np.uintp)
        self._batch = self._make_batch()

    @property
    def prefers_adjacent(self) -> bool:
        return not self._shared

    def _make_batch(self) -> Any:
        """A batch over our own arrays: a position has one sequence, so its list of sequences is a cell of an array."""
        kinds = {name: kind for name, kind, *_ in self._native.llama_batch._fields_}
        arrays: dict[str, npt.NDArray[Any]] = {
            "token": self._tokens,
            "pos": self._positions,
            "n_seq_id": self._ones,
            "seq_id": self._pointers,
            "logits": self._wanted,
        }
        pointers = {name: ctypes.cast(array.ctypes.data, kinds[name]) for name, array in arrays.items()}
        return self._native.llama_batch(n_tokens=0, **pointers)

    def step(self, feeds: Sequence[Feed]) -> Logits:
        import numpy as np

        tokens, positions, sequence_of, wanted = self._tokens, self._positions, self._sequence_of, self._wanted
        lengths = self._lengths
        end = rows = 0
        ordered = feeds if self._shared else self._adjacent(feeds)
        for feed in ordered:
            sequence, count = feed.sequence, len(feed.tokens)
            length = lengths[sequence]
            if length + count > self.context_tokens or end + count > self.step_tokens:
                raise self._does_not_fit(length + count, end + count)
            begin, end = end, end + count
            if count == 1:
                tokens[begin] = feed.tokens[0]
                positions[begin] = length
                sequence_of[begin] = sequence
                wanted[begin] = feed.outputs
            else:
                tokens[begin:end] = feed.tokens
                positions[begin:end] = self._ascending[length : length + count]
                sequence_of[begin:end] = sequence
                wanted[begin:end] = 0
                wanted[end - feed.outputs : end] = 1
            rows += feed.outputs
        self._batch.n_tokens = end
        self._decode(feeds)
        for feed in feeds:
            lengths[feed.sequence] += len(feed.tokens)
        if len(ordered) > len(feeds):
            self._forget_fillers(feeds, ordered)
        if not rows:
            return np.empty((0, self._width), np.float32)
        address = ctypes.cast(self._native.llama_get_logits(self._context), ctypes.c_void_p).value
        logits = np.frombuffer((self._row_type * rows).from_address(address), np.float32).reshape(rows, self._width)
        return logits if self._shared else _in_order_of(feeds, ordered, logits)

    def _adjacent(self, feeds: Sequence[Feed]) -> list[Feed]:
        """The feeds by sequence, and a token that counts for nothing for each sequence in a small gap between two.

        With a cache for each sequence, llama.cpp computes together only what has adjacent numbers, and only as many tokens
        of each as the shortest has: pieces of prompts gain nothing from being together.
        """
        ordered = sorted(feeds, key=lambda feed: feed.sequence)
        if sum(len(feed.tokens) == 1 for feed in feeds) < 2:
            return ordered
        room = self.step_tokens - sum(len(feed.tokens) for feed in feeds)
        fillers: list[Feed] = []
        for left, right in itertools.pairwise(ordered):
            gap = range(left.sequence + 1, right.sequence)
            fits = all(self._lengths[sequence] < self.context_tokens for sequence in gap)
            if len(gap) <= FILLED_GAP and fits and len(fillers) + len(gap) <= room:
                fillers += [Feed(sequence, (0,), 0) for sequence in gap]
        return sorted([*ordered, *fillers], key=lambda feed: feed.sequence) if fillers else ordered

    def _forget_fillers(self, feeds: Sequence[Feed], ordered: Sequence[Feed]) -> None:
        fed = {feed.sequence for feed in feeds}
        for feed in ordered:
            if feed.sequence not in fed:
                self._native.llama_memory_seq_rm(self._memory, feed.sequence, self._lengths[feed.sequence], -1)

    def _decode(self, feeds: Sequence[Feed]) -> None:
        with self._interrupting:
            self._running = True
        try:
            code = self._native.llama_decode(self._context, self._batch)
        finally:
            with self._interrupting:
                self._running = False
                self._flag[0] = b"\0"
        if code:
            for feed in feeds:
                self._clear(feed.sequence)
            for sequence, length in () if self._shared else enumerate(self._lengths):  # of fillers, a part was computed
                self._native.llama_memory_seq_rm(self._memory, sequence, length, -1)
            raise self._failure(code)
        self._copying.clear()

    def _failure(self, code: int) -> Exception:
        if code == _ABORTED:
            return StepInterrupted()
        lines = library.troubles()
        name = self._opened.file.path.name
        if code in (_NO_SLOT, _ALLOCATION_FAILED):
            what, hint = f"llama.cpp has no memory left for a step of {name}.", "Load with a smaller context_tokens."
            return OutOfMemory(what, hint=hint, status=code, log=lines)
        what, hint = f"llama.cpp failed in a step of {name}: status {code}.", "See the log of enginebay.llamacpp."
        return GenerationError(what, hint=hint, status=code, log=lines)

    def _does_not_fit(self, positions: int, step: int) -> EnginebayError:
        if step > self.step_tokens:
            return GenerationError(f"A step of {step:,} tokens was asked for; {self.step_tokens:,} is the most.")
        return ContextOverflow(f"A sequence would have {positions:,} tokens; the context has {self.context_tokens:,}.")

    def interrupt(self) -> None:
        with self._interrupting:
            if self._running:
                self._flag[0] = b"\1"

    def keep(self, sequence: int, n: int) -> int:
        if n >= self._lengths[sequence]:
            return self._lengths[sequence]
        if n <= 0 or not self._native.llama_memory_seq_rm(self._memory, sequence, n, -1):
            return self._clear(sequence)  # a recurrent state has no middle to go back to
        self._lengths[sequence] = n
        return n

    def _clear(self, sequence: int) -> int:
        self._native.llama_memory_seq_rm(self._memory, sequence, -1, -1)
        self._lengths[sequence] = 0
        return 0

    def save_state(self, sequence: int) -> bytes:
        if sequence in self._copying:
            return b""
        size = self._native.llama_state_seq_get_size(self._context, sequence)
        buffer = (ctypes.c_uint8 * size)()
        written = self._native.llama_state_seq_get_data(self._context, buffer, size, sequence)
        return bytes(buffer) if written == size else b""

    def load_state(self, sequence: int, state: bytes, n: int) -> bool:
        self._clear(sequence)
        if sequence in self._copying or not state or not 0 < n <= self.context_tokens:
            return False
        buffer = (ctypes.c_uint8 * len(state)).from_buffer_copy(state)
        read = self._native.llama_state_seq_set_data(self._context, buffer, len(state), sequence)
        if read == len(state) and self._native.llama_memory_seq_pos_max(self._memory, sequence) == n - 1:
            self._lengths[sequence] = n
            return True
        self._clear(sequence)
        return False


class AttentionSteps(LlamaSteps):
    """A model whose cache holds every position by itself, so that the beginning of one sequence can be another's."""

    def copy(self, source: int, target: int, n: int) -> None:
        self._clear(target)
        if self._shared:
            self._native.llama_memory_seq_cp(self._memory, source, target, 0, n)
        else:  # all of it, at the beginning of the next step; it cannot be saved before
            self._native.llama_memory_seq_cp(self._memory, source, target, -1, -1)
            self._native.llama_memory_seq_rm(self._memory, target, n, -1)
            self._copying |= {source, target}
        self._lengths[target] = n


def cannot_generate(opened: OpenModel) -> ModelLoadError:
    """The error for a model that neither continues text nor says how to pool it."""
    path, kind = opened.file.path, opened.file.architecture
    what = f"{path} has the architecture {kind}, which does not continue text token by token."
    return ModelLoadError(what, hint="Take a decoder model, or an embedding model with a pooling_type.", path=str(path))


def open_steps(request: LoadRequest) -> StepModel:
    """Load a model; what it can do decides which class of steps it gets."""
    from enginebay_llamacpp.embeddings import EmbeddingModel, pools

    opened = open_model(request)
    native = opened.native
    try:
        if pools(opened):
            return EmbeddingModel(opened)
        if native.llama_model_has_encoder(opened.model) or native.llama_model_is_diffusion(opened.model):
            raise cannot_generate(opened)
        recurrent = native.llama_model_is_recurrent(opened.model) or native.llama_model_is_hybrid(opened.model)
        return LlamaSteps(opened) if recurrent else AttentionSteps(opened, shared=opened.plan.shared_cache)
    except BaseException:
        opened.close()
        raise


def _in_order_of(feeds: Sequence[Feed], ordered: Sequence[Feed], logits: Logits) -> Logits:
    """Rows of logits that came in the order of ``ordered``, in that of ``feeds``."""
    if [feed.sequence for feed in ordered if feed.outputs] == [feed.sequence for feed in feeds if feed.outputs]:
        return logits
    first, row = {}, 0
    for feed in ordered:
        first[feed.sequence] = row
        row += feed.outputs
    rows = [first[feed.sequence] + i for feed in feeds for i in range(feed.outputs)]
    return logits[rows]


def _address_of_strlen() -> int:
    """C's ``strlen``, as llama.cpp's abort callback ``bool (*)(void *)``: of an empty string it is 0, of one byte 1.

    A callback in Python would take the interpreter's lock for every node of every step's graph.
    """
    library_c = ctypes.CDLL(None) if not hasattr(ctypes, "windll") else ctypes.cdll.msvcrt
    address = ctypes.cast(library_c.strlen, ctypes.c_void_p).value
    assert address is not None
    return address
