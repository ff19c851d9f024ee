"""Where the tests find their helpers, and models that are written once for all of them."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))

import gguf
import llamacpp_samples as samples

from enginebay.data import LoadRequest
from enginebay_llamacpp.options import Options


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of .gguf files; ``spm`` has a SentencePiece vocabulary, ``embed`` pools."""
    folder = tmp_path_factory.mktemp("models")
    samples.llama(folder / "llama.gguf")
    samples.quantized(folder / "llama.gguf", folder / "quantized.gguf")
    samples.llama(folder / "spm.gguf", vocabulary="sentence-piece")
    samples.llama(folder / "tekken.gguf", vocabulary="tekken")
    samples.llama(folder / "embed.gguf", pooling=gguf.PoolingType.MEAN)
    samples.bert(folder / "bert.gguf")
    samples.bert(folder / "unpooled.gguf", pooling=None)
    samples.mamba(folder / "mamba.gguf")
    samples.adapter(folder / "adapter.gguf")
    samples.adapter(folder / "misfit.gguf", width=samples.WIDTH * 2)
    return folder


@pytest.fixture
def open_steps(models: Path) -> Iterator[samples.Open]:
    """``open_steps(name, options, **fields of the request)``: a step model, closed when the test is over."""
    from enginebay_llamacpp.steps import open_steps

    opened = []

    def open_named(name: str = "llama", options: Options | None = None, **fields: Any) -> Any:
        path = models / f"{name}.gguf"
        opened.append(open_steps(LoadRequest(path, "gguf", options or Options(), **fields)))
        return opened[-1]

    yield open_named
    for model in opened:
        model.close()
