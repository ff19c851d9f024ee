"""Embedding models of MNN: one text, one vector, pooled as the graph says. It knows nothing of generating."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import TYPE_CHECKING

from enginebay.data import LoadRequest
from enginebay.decode.protocol import Feed
from enginebay.errors import ContextOverflow, Unsupported
from enginebay_mnn.files import ModelFolder
from enginebay_mnn.native import quiet, quietly
from enginebay_mnn.steps import MnnModel, refused, stand_ins

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from enginebay.decode.protocol import Logits

FIRST_CHARACTER = 0x10000
MOST_TOKENS = 0x110000 - FIRST_CHARACTER


class MnnEmbeddings(MnnModel):
    """A model that embeds and does not generate. MNN embeds text only, so each token is given as a character."""

    sequences = 1

    def __init__(self, request: LoadRequest, folder: ModelFolder) -> None:
        super().__init__(request, folder)
        self.step_tokens = self.context_tokens
        self._path = folder.path
        self._around = [self.encode(text, True) for text in folder.text_around]
        tokens = len(self.vocabulary.pieces)
        if tokens > MOST_TOKENS:
            raise refused(folder.path, f"a vocabulary of {tokens:,} tokens; at most {MOST_TOKENS:,} can be embedded")
        with stand_ins(folder, request, _one_character_each(tokens)) as (module, config), quiet(streams=True):
            self._native = module.create(config, True)._c_obj

    def embed(self, tokens: Sequence[int]) -> npt.NDArray[np.float32]:
        before, after = self._around
        whole = [*before, *tokens, *after]
        if len(whole) > self.context_tokens:
            raise ContextOverflow(f"A text has {len(whole):,} tokens; the context holds {self.context_tokens:,}.")
        return quietly(self._embed, "".join(chr(FIRST_CHARACTER + token) for token in whole))

    def _embed(self, text: str) -> npt.NDArray[np.float32]:
        import numpy as np

        return np.array(self._native.txt_embedding(text).read(), dtype=np.float32).reshape(-1)

    def step(self, _feeds: Sequence[Feed]) -> Logits:
        name = self._path.name
        raise Unsupported(f"{name} is an embedding model: it does not generate.", hint="Use embed, or another model.")

    def keep(self, _sequence: int, _n: int) -> int:
        return 0

    def close(self) -> None:
        if hasattr(self, "_native"):
            with quiet():
                del self._native


def _one_character_each(tokens: int) -> bytes:
    """A tokenizer in MNN's format whose token ``i`` is the character ``FIRST_CHARACTER + i``, and that merges nothing."""
    entries = b"".join(struct.pack("<H4sI", 4, chr(FIRST_CHARACTER + token).encode(), token) for token in range(tokens))
    return b"430 4\n0 0 0\n\n" + bytes(2) + struct.pack("<BIBBI", 0, tokens, 0, 0, 0) + entries + bytes(5)
