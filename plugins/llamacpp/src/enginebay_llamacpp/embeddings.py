"""Embedding models: one text, one vector, pooled as the file says. It knows nothing of generating."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import TYPE_CHECKING

from enginebay.decode.protocol import Feed
from enginebay.errors import ContextOverflow, GenerationError, OutOfMemory, Unsupported
from enginebay_llamacpp import library
from enginebay_llamacpp.model import OpenModel
from enginebay_llamacpp.steps import LlamaModel

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from enginebay.decode.protocol import Logits

_POOLED = (1, 2, 3)  # mean, first position, last position


def pools(opened: OpenModel) -> bool:
    """Whether the file says how to make one vector of all positions: then it is an embedding model."""
    return opened.file.of_architecture("pooling_type") in _POOLED


class EmbeddingModel(LlamaModel):
    """A model that embeds and does not generate. A text goes through in one piece: a position may see all others."""

    sequences = 1

    def __init__(self, opened: OpenModel) -> None:
        super().__init__(opened)
        self.step_tokens = self.context_tokens
        opened.make_context(
            {
                "n_ctx": self.context_tokens,
                "n_batch": self.context_tokens,
                "n_ubatch": self.context_tokens,
                "n_seq_max": 1,
                "embeddings": True,
            }
        )
        self._context = opened.context
        native, vocab = opened.native, self._vocab
        self._dimensions = native.llama_model_n_embd_out(opened.model)
        self._suffix = []
        if native.llama_vocab_get_add_sep(vocab):
            self._suffix = [native.llama_vocab_sep(vocab)]
        elif native.llama_vocab_get_add_eos(vocab):
            self._suffix = [native.llama_vocab_eos(vocab)]

    def embed(self, tokens: Sequence[int]) -> npt.NDArray[np.float32]:
        import numpy as np

        native = self._native
        whole = [*tokens, *self._suffix]
        if len(whole) > self.context_tokens:
            raise ContextOverflow(f"A text has {len(whole):,} tokens; the context holds {self.context_tokens:,}.")
        memory = native.llama_get_memory(self._context)
        if memory:
            native.llama_memory_clear(memory, True)
        array = (ctypes.c_int32 * len(whole))(*whole)
        code = native.llama_decode(self._context, native.llama_batch_get_one(array, len(whole)))
        if code:
            kind = OutOfMemory if code in (1, -2) else GenerationError
            what = f"llama.cpp failed to embed {len(whole):,} tokens: status {code}."
            raise kind(what, status=code, log=library.troubles())
        pointer = native.llama_get_embeddings_seq(self._context, 0)
        if not pointer:
            raise GenerationError(f"llama.cpp gave no embedding for {len(whole):,} tokens.", log=library.troubles())
        return np.ctypeslib.as_array(pointer, (self._dimensions,)).astype(np.float32, copy=True)

    def step(self, _feeds: Sequence[Feed]) -> Logits:
        name = self._opened.file.path.name
        raise Unsupported(f"{name} is an embedding model: it does not generate.", hint="Use embed, or another model.")

    def keep(self, _sequence: int, _n: int) -> int:
        return 0
