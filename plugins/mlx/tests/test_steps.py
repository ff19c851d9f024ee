"""What the engine computes: the same numbers however a prompt is cut and whoever shares a step, and the right ones."""

from __future__ import annotations

import json
import random
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from enginebay.decode.protocol import Copies, Feed, SavesState, StepInterrupted
from enginebay.errors import ContextOverflow
from enginebay_mlx.library import owner
from enginebay_mlx.options import Options

EXACT = 1e-4
"""How far logits may differ between two ways to compute them; they lie between -20 and 20, and differ by 0 on Linux."""
STORY = "Once upon a time there was a small rabbit who wanted to learn how to sing. "
Make = Callable[..., Any]


def whole(steps: Any, tokens: list[int]) -> Any:
    """The logits after ``tokens``, computed in one feed on the last sequence."""
    last = steps.sequences - 1
    steps.keep(last, 0)
    row = steps.step([Feed(last, tokens)])[0].copy()
    steps.keep(last, 0)
    return row


def test_a_prompt_in_pieces_gives_the_logits_of_the_whole(steps: Make) -> None:
    model = steps()
    tokens = model.encode(STORY * 6, False)
    expected = whole(model, tokens)
    for piece in (1, 2, 7, 64):
        model.keep(0, 0)
        for place in range(0, len(tokens), piece):
            logits = model.step([Feed(0, tokens[place : place + piece])])
        np.testing.assert_allclose(logits[0], expected, atol=EXACT)


def test_the_last_rows_can_be_asked_for(steps: Make) -> None:
    model = steps()
    tokens = model.encode(STORY, False)
    rows = model.step([Feed(0, tokens, 3), Feed(1, tokens[:5]), Feed(2, tokens, 0)])
    assert rows.shape == (4, 768)
    assert rows.dtype == np.float32
    for row, end in zip(rows, (len(tokens) - 2, len(tokens) - 1, len(tokens), 5), strict=True):
        np.testing.assert_allclose(row, whole(model, tokens[:end]), atol=EXACT)


@pytest.mark.parametrize("layers", ["full", "sliding"])
def test_neighbours_that_join_and_leave_change_nothing(steps: Make, copy: Make, layers: str) -> None:
    """Random traces of prompts, steps with some of the sequences, cuts and restarts; also with caches that rotate."""
    types = ["sliding_attention", "full_attention"] * 2
    folder = copy(layer_types=types, sliding_window=24) if layers == "sliding" else copy()
    model = steps(folder, sequences=6)
    dice = random.Random(5)
    held: dict[int, list[int]] = {}
    checked = 0
    for _ in range(60):
        feeds = []
        for sequence in dice.sample(range(5), dice.randint(1, 5)):
            if sequence in held and dice.random() < 0.15:
                kept = model.keep(sequence, dice.randint(0, len(held[sequence])))
                held[sequence] = held[sequence][:kept]
            fresh = not held.get(sequence)
            tokens = [
                dice.randrange(5, 768) for _ in range(dice.randint(1, 60) if fresh else dice.choice((1, 1, 1, 1, 5)))
            ]
            held[sequence] = held.get(sequence, []) + tokens
            feeds.append(Feed(sequence, tokens, int(fresh or dice.random() < 0.9)))
        rows = model.step(feeds).copy()
        wanted = [feed.sequence for feed in feeds if feed.outputs]
        assert len(rows) == len(wanted)
        for sequence, row in zip(wanted, rows, strict=True):
            if dice.random() < 0.3:
                checked += 1
                np.testing.assert_allclose(row, whole(model, held[sequence]), atol=EXACT)
    assert checked > 20


def test_a_cache_that_rotates_is_dropped_rather_than_cut(steps: Make, copy: Make) -> None:
    folder = copy(layer_types=["sliding_attention", "full_attention"] * 2, sliding_window=24)
    model = steps(folder)
    tokens = model.encode(STORY, False)
    model.step([Feed(0, tokens[:20])])
    assert model.keep(0, 10) == 10
    model.step([Feed(0, tokens[10:])])
    assert len(tokens) > 24
    assert model.keep(0, 10) == 0
    np.testing.assert_allclose(model.step([Feed(0, tokens[:12])])[0], whole(model, tokens[:12]), atol=EXACT)
    assert not isinstance(model.target, Copies | SavesState)


def test_a_copied_prefix_goes_its_own_way(steps: Make) -> None:
    model = steps()
    tokens = model.encode(STORY * 3, False)
    model.step([Feed(0, tokens), Feed(1, tokens[:4])])
    model.step([Feed(0, [50]), Feed(1, [51])])  # both are rows of the batch now
    model.copy(0, 2, 30)
    for token in (60, 70, 80):
        rows = model.step([Feed(0, [token]), Feed(2, [token + 1])])
    np.testing.assert_allclose(rows[0], whole(model, [*tokens, 50, 60, 70, 80]), atol=EXACT)
    np.testing.assert_allclose(rows[1], whole(model, [*tokens[:30], 61, 71, 81]), atol=EXACT)


def test_a_saved_state_continues_elsewhere_and_a_foreign_one_is_refused(steps: Make, copy: Make) -> None:
    model = steps()
    tokens = model.encode(STORY * 3, False)
    model.step([Feed(0, tokens), Feed(1, tokens[:4])])
    model.step([Feed(0, [50]), Feed(1, [51])])
    state, n = model.save_state(0), len(tokens) + 1
    other = steps()
    assert other.load_state(3, state, n)
    np.testing.assert_allclose(other.step([Feed(3, [60])])[0], whole(model, [*tokens, 50, 60]), atol=EXACT)
    half = steps(options=Options(precision="model"))
    assert half.load_state(0, state, n), "the demo's own precision is float32"
    for bad in (b"", state[:-1], state + b"\0", b"x" + state[1:], state[:16] + b"x" + state[17:]):
        assert not model.load_state(0, bad, n)
        np.testing.assert_allclose(model.step([Feed(0, tokens[:3])])[0], whole(model, tokens[:3]), atol=EXACT)
    assert not model.load_state(0, state, n - 1)
    assert not model.load_state(0, state, 10**9)


def test_the_context_ends_where_it_ends(steps: Make) -> None:
    model = steps(context_tokens=32)
    model.step([Feed(0, list(range(10, 41)))])
    model.step([Feed(0, [50])])
    with pytest.raises(ContextOverflow, match="32"):
        model.step([Feed(0, [51])])
    assert model.keep(0, 5) == 0
    np.testing.assert_allclose(model.step([Feed(0, [9, 10])])[0], whole(model, [9, 10]), atol=EXACT)


def test_a_running_prompt_is_given_up_between_pieces(steps: Make) -> None:
    model = steps(options=Options(step_tokens=2048))
    tokens = (model.encode(STORY * 120, False))[:2000]
    model.interrupt()  # nothing runs: it must not end the step that follows
    model.step([Feed(0, tokens[:8])])
    done = threading.Event()

    def keep_interrupting() -> None:
        while not done.wait(0.01):
            model.target.interrupt()

    thread = threading.Thread(target=keep_interrupting)
    thread.start()
    with pytest.raises(StepInterrupted):
        model.step([Feed(1, tokens)])
    done.set()
    thread.join()
    np.testing.assert_allclose(model.step([Feed(1, tokens[:9])])[0], whole(model, tokens[:9]), atol=EXACT)


def greedy(model: Any, prompts: list[list[int]], count: int) -> list[list[int]]:
    """Greedy tokens of several prompts in shared steps, end tokens like any other."""
    rows = model.step([Feed(place, prompt) for place, prompt in enumerate(prompts)])
    out = [[int(row.argmax())] for row in rows]
    for _ in range(count - 1):
        rows = model.step([Feed(place, [done[-1]]) for place, done in enumerate(out)])
        for done, row in zip(out, rows, strict=True):
            done.append(int(row.argmax()))
    return out


PROMPTS = [
    "Once",
    "Once upon a time",
    "The sea",
    "<|im_start|>user\nMy name is Ada.",
    "x" * 50,
    '{"name": "',
    "0",
    STORY,
]


def reference(folder: Path) -> Any:
    transformers = pytest.importorskip("transformers")
    torch = pytest.importorskip("torch")
    return transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


@pytest.mark.parametrize("theta", [10_000.0, 500_000.0])
def test_greedy_tokens_are_those_of_transformers(steps: Make, copy: Make, theta: float) -> None:
    """Also where the base of RoPE stands only in ``rope_parameters``, where mlx-lm does not look."""
    folder = copy(rope_parameters={"rope_theta": theta, "rope_type": "default"})
    model = steps(folder)
    prompts = [model.encode(prompt, True) for prompt in PROMPTS]
    torch, network = pytest.importorskip("torch"), reference(folder)
    for prompt, tokens in zip(prompts, greedy(model, prompts, 64), strict=True):
        with torch.no_grad():
            logits = network(torch.tensor([prompt + tokens])).logits[0]
        assert tokens == logits[len(prompt) - 1 : -1].argmax(-1).tolist()


def test_bfloat16_weights_compute_as_their_float32_values(steps: Make, copy: Make) -> None:
    folder = copy()

    def rewrite() -> None:
        import mlx.core as mx

        path = str(folder / "model.safetensors")
        mx.save_safetensors(path, {name: array.astype(mx.bfloat16) for name, array in mx.load(path).items()})

    owner().call(rewrite)
    tokens = [20, 30, 40, 50]
    exact, rounded, original = steps(folder), steps(folder, options=Options(precision="model")), steps()
    assert np.array_equal(exact.step([Feed(0, tokens)]), original.step([Feed(0, tokens)]))
    logits = rounded.step([Feed(0, tokens)])
    assert logits.dtype == np.float32
    assert not np.array_equal(logits, exact.step([Feed(1, tokens)]))
    np.testing.assert_allclose(logits, exact.step([Feed(2, tokens)]), atol=1.0)
    assert not rounded.load_state(1, exact.save_state(0), 4), "another number format is another cache"
    state = rounded.save_state(0)
    assert rounded.load_state(1, state, 4)
    assert np.array_equal(rounded.step([Feed(1, [60])]), rounded.step([Feed(0, [60])]))


def test_a_quantized_folder_decodes_in_a_batch_as_alone(steps: Make, copy: Make) -> None:
    folder = copy()

    def quantize() -> None:
        from mlx_lm.utils import load_model, quantize_model, save_model

        model, config = load_model(folder)
        model, config = quantize_model(model, config, group_size=32, bits=4)
        save_model(folder, model)
        (folder / "config.json").write_text(json.dumps(config))

    owner().call(quantize)
    model = steps(folder)
    prompts = [model.encode(prompt, True) for prompt in PROMPTS]
    together = greedy(model, prompts, 12)
    for prompt, tokens in zip(prompts, together, strict=True):
        model.keep(0, 0)
        assert greedy(model, [prompt], 12) == [tokens]
