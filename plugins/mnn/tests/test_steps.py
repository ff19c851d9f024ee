"""The steps of MNN: pieces, cuts, several sequences, and what they leave behind."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from enginebay.decode.protocol import Feed
from enginebay.errors import GenerationError
from enginebay_mnn.options import Options

PROMPT = "Once upon a time there was a fox who lived in a small village. "
CLOSE = 1e-4


def logits(model: Any, tokens: list[int], sequence: int = 0) -> Any:
    model.keep(sequence, 0)
    return model.step([Feed(sequence, tokens)])[0].copy()


def test_pieces_of_a_prompt_give_what_the_whole_gives(open_model: Callable[..., Any]) -> None:
    model = open_model()
    tokens = model.encode(PROMPT, False)
    whole = logits(model, tokens)
    for cuts in ([1], [2, 3], [5, 6, 7, 8], [len(tokens) - 1]):
        model.keep(0, 0)
        for start, end in zip([0, *cuts], [*cuts, len(tokens)], strict=True):
            rows = model.step([Feed(0, tokens[start:end], int(end == len(tokens)))])
        assert rows.dtype == np.float32
        assert rows.shape[0] == 1
        np.testing.assert_allclose(rows[0], whole, atol=CLOSE)


def test_cut_sequence_continues_as_a_fresh_one(open_model: Callable[..., Any]) -> None:
    model = open_model()
    tokens, other = model.encode(PROMPT, False), model.encode('{"name": "Ada"}', False)
    fresh = logits(model, [*tokens[:6], *other])
    logits(model, tokens)
    assert model.keep(0, 9) == 9
    assert model.keep(0, 6) == 6
    np.testing.assert_allclose(model.step([Feed(0, other)])[0], fresh, atol=CLOSE)
    assert model.keep(0, 0) == 0
    np.testing.assert_allclose(logits(model, [*tokens[:6], *other]), fresh, atol=CLOSE)


def test_logits_of_several_positions(open_model: Callable[..., Any]) -> None:
    model = open_model()
    tokens = model.encode(PROMPT, False)
    rows = model.step([Feed(0, tokens, 4)]).copy()
    for back in range(4):
        np.testing.assert_allclose(rows[3 - back], logits(model, tokens[: len(tokens) - back]), atol=CLOSE)


def test_sequences_share_weights_and_nothing_else(open_model: Callable[..., Any]) -> None:
    model = open_model(sequences=3)
    prompts = [model.encode(text, False) for text in (PROMPT, "My name is Tom and I live in Oslo.", "The cat")]
    alone = [logits(model, prompt) for prompt in prompts]
    for sequence in range(3):
        model.keep(sequence, 0)
    model.step([Feed(sequence, prompt[:-1], 0) for sequence, prompt in enumerate(prompts)])
    together = model.step([Feed(sequence, prompts[sequence][-1:]) for sequence in (2, 0, 1)])
    for row, sequence in zip(together, (2, 0, 1), strict=True):
        np.testing.assert_allclose(row, alone[sequence], atol=CLOSE)


def test_failed_step_leaves_a_usable_model(open_model: Callable[..., Any]) -> None:
    model = open_model()
    tokens = model.encode(PROMPT, False)
    before = logits(model, tokens)
    native = model._lanes[0]._native
    native.set_context({"status": 4})  # MNN's "internal error"; the next forward gives a null pointer
    with pytest.raises(GenerationError, match="status 4"):
        model.step([Feed(0, tokens[:1])])
    np.testing.assert_allclose(model.step([Feed(0, tokens)])[0], before, atol=CLOSE)


def test_pieces_of_many_lengths_do_not_copy_the_graph(open_model: Callable[..., Any], caplog: Any) -> None:
    model = open_model()
    tokens = model.encode(PROMPT, False)
    with caplog.at_level("DEBUG", "enginebay.mnn"):
        for length in range(1, 12):
            model.step([Feed(0, tokens[:length])])
            model.step([Feed(0, tokens[:1])])
    assert not [record for record in caplog.records if "clon" in record.getMessage()]


def test_fast_preset_and_threads(open_model: Callable[..., Any]) -> None:
    model = open_model(Options(preset="fast", threads=1))
    assert logits(model, model.encode(PROMPT, False)).shape[0] >= len(model.vocabulary.pieces)
    assert '"precision":"low"' in model._lanes[0]._native.dump_config()
    assert '"thread_num":1' in model._lanes[0]._native.dump_config()


def test_closing_twice_and_again_gives_memory_back(open_model: Callable[..., Any]) -> None:
    def resident() -> int:
        gc.collect()
        pages = int(Path("/proc/self/statm").read_text("ascii").split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")

    if not Path("/proc/self/statm").exists():
        pytest.skip("no /proc here")
    sizes = []
    for _ in range(20):
        model = open_model(sequences=2)
        logits(model, model.encode(PROMPT * 5, False), 1)
        model.close()
        model.close()
        sizes.append(resident())
    assert sizes[-1] - sizes[4] < 20 << 20  # one model is 8 MiB of weights in 32 bits: 15 that leak are 120


def test_model_folder_stays_as_it_was(
    open_model: Callable[..., Any], models: Path, tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    before = sorted(path.name for path in (models / "mnn").iterdir())
    model = open_model(sequences=2)
    logits(model, model.encode(PROMPT, False))
    assert sorted(path.name for path in (models / "mnn").iterdir()) == before
    assert not list(tmp_path.iterdir())
