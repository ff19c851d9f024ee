"""What the decode toolkit relies on: batches, prefixes, cuts, interrupts and states never change a sequence."""

from __future__ import annotations

import threading
import time
from typing import Any

import numpy as np
import pytest
from llamacpp_samples import Open

from enginebay.decode.protocol import Copies, Embeds, Feed, Interrupts, Notes, SavesState, StepInterrupted
from enginebay.errors import Cancelled, ContextOverflow, GenerationError, RequestError
from enginebay_llamacpp.options import Options

CLOSE = 2e-4  # float32 sums in another order


def logits_of(model: Any, sequence: int, tokens: list[int]) -> Any:
    """The last logits of a sequence that is emptied first."""
    model.keep(sequence, 0)
    return model.step([Feed(sequence, tokens)])[0].copy()


TEXT = list(range(40, 100))


def test_a_prompt_in_pieces_gives_the_logits_of_the_whole(open_steps: Open) -> None:
    model = open_steps()
    whole = logits_of(model, 0, TEXT)
    model.step([Feed(1, TEXT[:7], outputs=0)])
    model.step([Feed(1, TEXT[7:8], outputs=0)])
    rows = model.step([Feed(1, TEXT[8:])])
    assert rows.shape == (1, len(model.vocabulary.pieces))
    np.testing.assert_allclose(rows[0], whole, atol=CLOSE)


def test_every_output_that_is_asked_for_comes_in_order(open_steps: Open) -> None:
    model = open_steps()
    singly = [model.step([Feed(0, [token])])[0].copy() for token in TEXT[:6]]
    other = logits_of(model, 1, [99])
    model.keep(1, 0)
    rows = model.step([Feed(2, TEXT[:6], outputs=6), Feed(3, [1, 2], outputs=0), Feed(1, [99])])
    np.testing.assert_allclose(rows, [*singly, other], atol=CLOSE)
    assert model.step([Feed(3, [4], outputs=0)]).shape[0] == 0


def test_sequences_in_one_step_do_not_see_each_other(open_steps: Open) -> None:
    model = open_steps()
    prompts = [TEXT[start : start + 5 + start] for start in range(8)]
    alone = [logits_of(model, 0, prompt) for prompt in prompts]
    model.keep(0, 0)
    together = model.step([Feed(i, prompt) for i, prompt in enumerate(prompts)])
    np.testing.assert_allclose(together, alone, atol=CLOSE)
    after = model.step([Feed(i, [7]) for i in range(8)]).copy()
    for i, prompt in enumerate(prompts):
        np.testing.assert_allclose(after[i], logits_of(model, i, [*prompt, 7]), atol=CLOSE)


def test_a_cut_sequence_goes_on_from_the_cut(open_steps: Open) -> None:
    model = open_steps()
    wanted = logits_of(model, 0, [*TEXT[:20], 5])
    logits_of(model, 1, TEXT)
    assert model.keep(1, 200) == len(TEXT)
    assert model.keep(1, 20) == 20
    np.testing.assert_allclose(model.step([Feed(1, [5])])[0], wanted, atol=CLOSE)
    assert model.keep(1, 0) == 0


def test_a_copied_prefix_is_independent_of_its_source(open_steps: Open) -> None:
    model = open_steps()
    wanted = logits_of(model, 0, [*TEXT[:20], 5])
    logits_of(model, 0, TEXT)
    logits_of(model, 3, [1, 2, 3])
    model.copy(0, 3, 20)
    model.keep(0, 0)
    logits_of(model, 0, [9] * 30)
    np.testing.assert_allclose(model.step([Feed(3, [5])])[0], wanted, atol=CLOSE)


def test_a_recurrent_model_is_cut_to_nothing_and_not_copied(open_steps: Open) -> None:
    model = open_steps("mamba")
    assert not isinstance(model, Copies)
    wanted = logits_of(model, 0, [*TEXT, 5])
    model.step([Feed(1, TEXT[:20], outputs=0), Feed(2, TEXT[:7], outputs=0)])
    model.step([Feed(1, TEXT[20:], outputs=0)])
    assert model.keep(1, len(TEXT)) == len(TEXT)
    state = model.save_state(1)
    np.testing.assert_allclose(model.step([Feed(1, [5])])[0], wanted, atol=CLOSE)
    assert model.keep(1, 20) == 0
    np.testing.assert_allclose(model.step([Feed(1, [*TEXT, 5])])[0], wanted, atol=CLOSE)
    assert model.load_state(3, state, len(TEXT))
    np.testing.assert_allclose(model.step([Feed(3, [5])])[0], wanted, atol=CLOSE)


def test_a_saved_state_continues_in_another_sequence_and_another_load(open_steps: Open) -> None:
    model, other = open_steps(), open_steps()
    wanted = logits_of(model, 0, [*TEXT, 5])
    logits_of(model, 2, TEXT)
    state = model.save_state(2)
    assert model.load_state(5, state, len(TEXT))
    assert other.load_state(0, state, len(TEXT))
    np.testing.assert_allclose(model.step([Feed(5, [5])])[0], wanted, atol=CLOSE)
    np.testing.assert_allclose(other.step([Feed(0, [5])])[0], wanted, atol=CLOSE)


def test_a_state_that_does_not_fit_leaves_the_sequence_empty(open_steps: Open) -> None:
    model = open_steps()
    wanted = logits_of(model, 0, [1, 2])
    logits_of(model, 1, TEXT)
    state = model.save_state(1)
    wrong = [state[:-1], state + b"\0", state[: len(state) // 2], b"", b"\0" * 64]
    assert not model.load_state(1, state, len(TEXT) - 1)
    for damaged in wrong:
        assert not model.load_state(1, damaged, len(TEXT))
        np.testing.assert_allclose(logits_of(model, 1, [1, 2]), wanted, atol=CLOSE)


def long_steps(model: Any) -> None:
    for _ in range(50):  # an interrupt may come after the last node of a step
        model.step([Feed(0, TEXT * 60)])
        model.keep(0, 0)


def test_an_interrupted_step_raises_and_leaves_no_trace(open_steps: Open) -> None:
    model = open_steps("llama", Options(batch_tokens=4096, threads=1), context_tokens=4096, sequences=2)
    wanted = logits_of(model, 1, TEXT)
    model.interrupt()  # nothing runs: nothing happens
    np.testing.assert_allclose(logits_of(model, 1, TEXT), wanted, atol=CLOSE)
    model.keep(0, 0)

    def give_up() -> None:
        while not over.is_set():
            model.interrupt()
            time.sleep(0.001)

    over = threading.Event()
    thread = threading.Thread(target=give_up)
    thread.start()
    try:
        with pytest.raises(StepInterrupted):
            long_steps(model)
    finally:
        over.set()
        thread.join()
    np.testing.assert_allclose(logits_of(model, 0, TEXT), wanted, atol=CLOSE)


def test_what_does_not_fit_is_refused_before_native_code(open_steps: Open) -> None:
    model = open_steps("llama", Options(batch_tokens=16), context_tokens=24, sequences=2)
    assert (model.context_tokens, model.sequences, model.step_tokens) == (24, 2, 16)
    with pytest.raises(GenerationError):
        model.step([Feed(0, [1] * 10), Feed(1, [1] * 10)])
    model.step([Feed(0, [1] * 16)])
    with pytest.raises(ContextOverflow):
        model.step([Feed(0, [1] * 9)])
    model.step([Feed(0, [1] * 8)])
    with pytest.raises(GenerationError, match="status -1"):
        model.step([Feed(1, [100_000])])
    assert model.step([Feed(1, [1])]).shape[0] == 1


@pytest.mark.parametrize("name", ["llama", "spm"])
@pytest.mark.parametrize("special", [False, True])
@pytest.mark.parametrize("text", ["hello", " hello  hello ", "the and 123\n", "é☃\0x", "<s><eos>hello<tool>", ""])
def test_tokens_are_exactly_the_text(open_steps: Open, name: str, text: str, special: bool) -> None:
    model = open_steps(name)
    tokens = model.encode(text, special)
    assert b"".join(model.vocabulary.pieces[token] for token in tokens) == text.encode()


@pytest.mark.parametrize("name", ["llama", "spm", "tekken"])
@pytest.mark.parametrize("unit", ["a", " ", "!", "7", "漢", "aA"])
def test_a_long_run_of_one_kind_is_tokenized(open_steps: Open, name: str, unit: str) -> None:
    model = open_steps(name)
    text = unit * 60_000  # std::regex overflows an ordinary stack at 25,000
    assert b"".join(model.vocabulary.pieces[token] for token in model.encode(text, True)) == text.encode()


def test_a_text_too_long_for_a_recursive_tokenizer_is_refused(open_steps: Open) -> None:
    with pytest.raises(RequestError, match="at most 524,288"):
        open_steps("tekken").encode("a " * 400_000, True)


def test_the_vocabulary_knows_what_its_tokens_are_for(open_steps: Open) -> None:
    model = open_steps()
    vocabulary = model.vocabulary
    begin, end, tool = (vocabulary.pieces.index(text) for text in (b"<bos>", b"<eos>", b"<tool>"))
    assert (vocabulary.end, vocabulary.prefix) == ({end}, (begin,))
    assert (vocabulary.control, vocabulary.special) == ({begin, end}, {begin, end, tool})
    assert vocabulary.special_text == {"bos_token": "<bos>", "eos_token": "<eos>"}
    assert model.encode("<eos>", True) == [end]
    assert end not in model.encode("<eos>", False)
    assert "bos_token" in model.chat_template
    with pytest.raises(RequestError):
        model.encode("\ud800", False)


def test_what_a_model_can_do_is_what_its_class_offers(open_steps: Open) -> None:
    model, embeds = open_steps(), open_steps("embed")
    for protocol in (Copies, SavesState, Interrupts, Notes):
        assert isinstance(model, protocol)
    assert not isinstance(model, Embeds)
    assert isinstance(embeds, Embeds)
    assert not isinstance(embeds, SavesState)


def test_closing_twice_is_allowed(open_steps: Open) -> None:
    model = open_steps()
    model.close()
    model.close()
    with pytest.raises(Cancelled):  # and does not read freed memory
        model.encode("hello", False)


@pytest.mark.parametrize("shared", [False, True])
def test_sequences_that_are_not_adjacent_share_a_step_and_idle_ones_between_them_stay(
    open_steps: Open, shared: bool
) -> None:
    model = open_steps(options=Options(shared_cache=shared), sequences=8)
    prompts = {5: TEXT[:9], 0: TEXT[3:7], 2: TEXT[2:8], 7: TEXT[1:4]}
    alone = [logits_of(model, 0, prompt) for prompt in prompts.values()]
    idle = logits_of(model, 6, [*TEXT[:5], 7])
    for sequence in (0, 6):
        model.keep(sequence, 0)
    model.step([Feed(1, TEXT[:5], outputs=0), Feed(6, TEXT[:5], outputs=0)])
    together = model.step([Feed(sequence, prompt) for sequence, prompt in prompts.items()])
    np.testing.assert_allclose(together, alone, atol=CLOSE)
    after = model.step([Feed(6, [7]), Feed(1, [7])])
    np.testing.assert_allclose(after, [idle, idle], atol=CLOSE)


@pytest.mark.parametrize("shared", [False, True])
def test_a_copied_prefix_is_not_what_was_put_there_before_it(open_steps: Open, shared: bool) -> None:
    model = open_steps(options=Options(shared_cache=shared), sequences=4)
    expected = logits_of(model, 0, [*TEXT[:6], 9])
    model.step([Feed(3, TEXT[5:12], outputs=0)])
    other = model.save_state(3)
    model.copy(0, 2, 6)
    restored = model.load_state(0, other, 7)  # what is copied from may change before the copy is made
    if not restored:
        model.keep(0, 0)
    np.testing.assert_allclose(model.step([Feed(2, [9])])[0], expected, atol=CLOSE)
    assert model.save_state(2)
