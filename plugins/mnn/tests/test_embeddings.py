"""Embedding models: vectors equal those of transformers on the weights that were exported."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from enginebay.data import GenerateRequest, LoadRequest
from enginebay.errors import ContextOverflow, EnginebayError, ModelLoadError
from enginebay_mnn.files import check_folder
from enginebay_mnn.options import Options
from enginebay_mnn.plugin import estimate, load

EMBEDDER = Path(__file__).parent / "data" / "embedder"


@pytest.fixture
def model() -> Iterator[Any]:
    opened = load(LoadRequest(EMBEDDER, "mnn", Options()))
    yield opened
    opened.close()


def test_vectors_are_those_of_the_reference(model: Any) -> None:
    wanted = json.loads((EMBEDDER / "vectors.json").read_text("utf-8"))
    found = model.embed(list(wanted), False)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, list(wanted.values()), atol=1e-3)
    np.testing.assert_allclose(model.embed(list(reversed(wanted)), False)[::-1], found, atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(model.embed(list(wanted), True), axis=1), 1, atol=1e-5)


def test_it_declares_embedding_and_refuses_to_generate(model: Any) -> None:
    assert "embed" in model.info.capabilities
    assert model.info.chat_template is None
    with pytest.raises(EnginebayError, match="does not generate"):
        list(model.generate(GenerateRequest((1, 2), max_tokens=2)))
    assert model.embed(["still there"], False).shape == (1, 32)


def test_a_text_that_is_too_long() -> None:
    model = load(LoadRequest(EMBEDDER, "mnn", Options(), context_tokens=16))
    with pytest.raises(ContextOverflow):
        model.embed(["a" * 16], False)  # the end token makes it 17
    assert model.embed(["a" * 15], False).shape == (1, 32)
    model.close()


def test_a_template_with_logic_is_refused(tmp_path: Path) -> None:
    for file in EMBEDDER.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    config = json.loads((tmp_path / "llm_config.json").read_bytes())
    config["jinja"]["chat_template"] = "{% for message in messages %}{{ message }}{% endfor %}"
    (tmp_path / "llm_config.json").write_text(json.dumps(config), "utf-8")
    with pytest.raises(ModelLoadError, match="template"):
        check_folder(tmp_path)


def test_estimate_counts_weights_and_cache(models: Path) -> None:
    demo = json.loads((models / "mlx" / "config.json").read_bytes())
    heads = demo["num_key_value_heads"] * (demo["hidden_size"] // demo["num_attention_heads"])
    found = estimate(LoadRequest(models / "mnn", "mnn", Options(), sequences=2, context_tokens=1000))
    assert found.cache_bytes == demo["num_hidden_layers"] * 2 * heads * 4 * 2 * 1000
    weights = (models / "mnn" / "llm.mnn.weight").stat().st_size
    assert 1.8 * weights < found.weights_bytes < 2.3 * weights  # half precision on disk, full in memory
    assert f"{found.cache_bytes // 8000:,} cached values" in found.arithmetic
