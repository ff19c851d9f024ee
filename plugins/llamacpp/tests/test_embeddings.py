"""Embedding models: the vector is the one that llama.cpp's own Python class gives."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from llamacpp_samples import Open

from enginebay.data import GenerateRequest, LoadRequest
from enginebay.errors import ContextOverflow, ModelLoadError, Unsupported
from enginebay_llamacpp import plugin


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


def test_an_embedding_model_is_healthy_and_does_not_generate(models: Path) -> None:
    model = plugin.load(LoadRequest(models / "bert.gguf", "gguf"))
    try:
        assert plugin.health(model).healthy
        vectors = plugin.embed(model, ["abc", "abc", "xyz"], True)
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-5)
        np.testing.assert_allclose(vectors[0], vectors[1])
        assert np.abs(vectors[0] - vectors[2]).max() > 0.01
        with pytest.raises(Unsupported, match="embedding model"):
            list(plugin.generate(model, GenerateRequest((1, 2))))
    finally:
        model.close()


def test_a_text_that_does_not_fit_is_refused_and_not_cut(open_steps: Open) -> None:
    model = open_steps("bert")  # which puts a token after every text
    assert model.embed([5] * 127).shape == (64,)
    with pytest.raises(ContextOverflow):
        model.embed([5] * 128)


def test_an_encoder_that_does_not_say_how_to_pool_is_refused(open_steps: Open) -> None:
    with pytest.raises(ModelLoadError, match="architecture bert"):
        open_steps("unpooled")
