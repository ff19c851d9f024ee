"""Embedding models: the vector is the one that llama.cpp's own Python class gives."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from llamacpp_samples import Open

from enginebay.decode.protocol import Feed
from enginebay.errors import Unsupported


@pytest.mark.parametrize("name", ["bert", "embed"])
def test_a_vector_is_pooled_as_the_file_says(open_steps: Open, models: Path, name: str) -> None:
    import llama_cpp

    reference = llama_cpp.Llama(str(models / f"{name}.gguf"), n_ctx=128, embedding=True, verbose=False)
    try:
        model = open_steps(name)
        for text in ("abc", "the quick brown fox jumps over it", "abc"):
            tokens = [*model.vocabulary.prefix, *model.encode(text, False)]
            vector = model.embed(tokens)
            assert (vector.dtype, vector.shape) == (np.float32, (64,))
            np.testing.assert_allclose(vector, reference.embed(text), atol=5e-3)
    finally:
        reference.close()


def test_an_embedding_model_does_not_generate(open_steps: Open) -> None:
    with pytest.raises(Unsupported, match="embedding model"):
        open_steps("bert").step([Feed(0, [1])])
