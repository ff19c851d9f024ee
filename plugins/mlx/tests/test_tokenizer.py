"""Bytes of tokens and encoding, against what the tokenizers library itself decodes."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mlx_mutants import DEMO
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, processors

from enginebay.errors import ModelLoadError, RequestError
from enginebay_mlx.files import check_folder
from enginebay_mlx.tokenizer import FolderTokenizer

Make = Callable[..., Path]


@pytest.fixture(scope="module")
def tokenizer() -> FolderTokenizer:
    return FolderTokenizer(check_folder(DEMO))


@settings(max_examples=300, deadline=None)
@given(text=st.text(max_size=60), special=st.booleans())
def test_the_bytes_of_the_tokens_are_the_text(tokenizer: FolderTokenizer, text: str, special: bool) -> None:
    ids = tokenizer.encode(text, special)
    assert b"".join(tokenizer.vocabulary.pieces[token] for token in ids) == text.encode()


def test_special_text_is_special_only_when_asked(tokenizer: FolderTokenizer) -> None:
    words = tokenizer.vocabulary
    text = "<|im_start|>user<|im_end|>"
    assert not words.control & set(tokenizer.encode(text, False))
    ids = tokenizer.encode(text, True)
    assert (ids[0], ids[-1]) == (1, 2)
    assert words.end == {0, 2}
    assert words.control == {0, 1, 2}
    assert words.special == {0, 1, 2, 3, 4}, "<tool_call> is text, but no constraint may match it"
    assert words.special_text == {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"}
    assert words.prefix == ()


def test_threads_do_not_mix_the_two_ways_to_encode(tokenizer: FolderTokenizer) -> None:
    wrong: list[list[int]] = []
    marked, plain = (tokenizer.encode("<|im_start|>", special)[0] for special in (True, False))
    assert marked != plain

    def work(special: bool) -> None:
        expected = marked if special else plain
        for _ in range(2_000):
            ids = tokenizer.encode("<|im_start|>", special)
            if ids[0] != expected:
                wrong.append(ids)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        threads = [threading.Thread(target=work, args=(number % 2 == 0,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    assert not wrong


def test_half_a_surrogate_pair_is_the_callers_fault(tokenizer: FolderTokenizer) -> None:
    with pytest.raises(RequestError, match="surrogate"):
        tokenizer.encode("a\ud800b", False)


def sentencepiece(folder: Path, *, prefix: bool) -> None:
    """A tokenizer as Llama 2 has it: a mark for spaces, bytes for what is no token, a BOS token before text."""
    words = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁", "a", "b", "▁a", "ab", "▁ab"]
    model = models.BPE(
        {word: place for place, word in enumerate(words)},
        [("▁", "a"), ("a", "b"), ("▁a", "b")],
        unk_token="<unk>",
        fuse_unk=True,
        byte_fallback=True,
    )
    made = Tokenizer(model)
    made.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    made.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    made.add_special_tokens([AddedToken(word, normalized=False) for word in words[:3]])
    if prefix:
        made.post_processor = processors.TemplateProcessing("<s> $A </s>", None, [("<s>", 1), ("</s>", 2)])
    made.save(str(folder / "tokenizer.json"))
    named = {"bos_token": {"content": "<s>"}, "eos_token": "</s>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(named))


def test_a_tokenizer_of_sentencepiece_gives_bytes(copy: Make) -> None:
    folder = copy()
    sentencepiece(folder, prefix=True)
    made = FolderTokenizer(check_folder(folder))
    assert made.vocabulary.pieces[3 + 0xE2] == b"\xe2"
    assert made.vocabulary.pieces[-1] == b" ab"
    ids = made.encode("ab é ab", False)
    assert b"".join(made.vocabulary.pieces[token] for token in ids) == " ab é ab".encode(), (
        "the space is the model's own"
    )
    assert made.vocabulary.prefix == (1,)
    assert made.vocabulary.end == {0, 2}
    assert made.vocabulary.special_text == {"bos_token": "<s>", "eos_token": "</s>"}


@pytest.mark.parametrize(("says", "expected"), [(None, ()), (True, (1,)), (False, ())])
def test_the_configuration_decides_about_the_first_token(
    copy: Make, says: bool | None, expected: tuple[int, ...]
) -> None:
    folder = copy()
    sentencepiece(folder, prefix=says is False)
    path = folder / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"add_bos_token": says}))
    assert FolderTokenizer(check_folder(folder)).vocabulary.prefix == expected


def test_a_tokenizer_without_bytes_is_refused(copy: Make) -> None:
    folder = copy()
    content = json.loads((folder / "tokenizer.json").read_text())
    content["decoder"] = {"type": "WordPiece", "prefix": "##", "cleanup": True}
    (folder / "tokenizer.json").write_text(json.dumps(content))
    with pytest.raises(ModelLoadError, match="WordPiece"):
        FolderTokenizer(check_folder(folder))


def test_truncation_and_padding_of_the_file_are_switched_off(copy: Make) -> None:
    folder = copy()
    content = json.loads((folder / "tokenizer.json").read_text())
    content["truncation"] = {"max_length": 2, "strategy": "LongestFirst", "stride": 0, "direction": "Right"}
    (folder / "tokenizer.json").write_text(json.dumps(content))
    made = FolderTokenizer(check_folder(folder))
    assert len(made.encode("one two three four", False)) > 2


def test_the_chat_template_is_the_files_own_first(copy: Make) -> None:
    folder = copy()
    assert "im_start" in (check_folder(folder).chat_template or "")
    (folder / "chat_template.jinja").write_text("mine")
    assert check_folder(folder).chat_template == "mine"
    (folder / "chat_template.jinja").unlink()
    path = folder / "tokenizer_config.json"
    several = [{"name": "default", "template": "first"}, {"name": "tool_use", "template": "second"}]
    path.write_text(json.dumps({"chat_template": several}))
    assert check_folder(folder).chat_template == "first"
