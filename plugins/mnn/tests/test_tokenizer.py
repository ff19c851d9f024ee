"""Tokens equal those of the tokenizer that the folder was exported from, byte by byte and id by id."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from enginebay_mnn.mtok import read_tokenizer
from enginebay_mnn.tokenizer import DamagedTokenizerError

SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<tool_call>", "</tool_call>", "<|im_", "|>"]
WORDS = st.sampled_from([*SPECIAL, " the", "'s", "Don't", "\r\n", "  ", "1234", "é", "e\u0301", "日本", "🦊", "\0"])
TEXTS = st.lists(st.one_of(WORDS, st.text(max_size=8)), max_size=12).map("".join)


@pytest.fixture(scope="module")
def pair(models: Path) -> tuple[Any, Any, Any]:
    """The vocabulary, our tokenizer, and Hugging Face's by ``special``."""
    from tokenizers import Tokenizer

    file = read_tokenizer((models / "mnn" / "tokenizer.mtok").read_bytes())
    reference = {}
    for special in (False, True):
        reference[special] = Tokenizer.from_file(str(models / "mlx" / "tokenizer.json"))
        reference[special].encode_special_tokens = not special
    return file.vocabulary(), file.encoder(), reference


@given(TEXTS, st.booleans())
def test_ids_and_bytes(pair: tuple[Any, Any, Any], text: str, special: bool) -> None:
    vocabulary, ours, reference = pair
    ids = ours.encode(text, special)
    assert ids == reference[special].encode(text, add_special_tokens=False).ids
    assert b"".join(vocabulary.pieces[token] for token in ids) == text.encode()
    assert special or vocabulary.control.isdisjoint(ids)


def test_vocabulary_is_the_exported_one(pair: tuple[Any, Any, Any], models: Path) -> None:
    vocabulary, _, reference = pair
    assert len(vocabulary.pieces) == reference[True].get_vocab_size()
    for text, token in reference[True].get_vocab(with_added_tokens=True).items():
        decoded = reference[True].decode([token], skip_special_tokens=False)
        if "\ufffd" not in decoded:
            assert vocabulary.pieces[token].decode() == decoded, text
    assert {vocabulary.pieces[token].decode() for token in vocabulary.control} == set(SPECIAL[:3])
    assert {vocabulary.pieces[token].decode() for token in vocabulary.special} == set(SPECIAL[:5])
    end = json.loads((models / "mlx" / "generation_config.json").read_bytes())["eos_token_id"]
    assert vocabulary.end == set(end if isinstance(end, list) else [end])
    assert vocabulary.prefix == ()


def test_older_form_is_refused_by_name() -> None:
    with pytest.raises(DamagedTokenizerError, match="older form"):
        read_tokenizer(b"430 1\n0 0 0\n\n3\nYQ==\nYg==\nYw==\n")


@given(st.data())
def test_damaged_bytes_are_refused_or_read(models: Path, data: st.DataObject) -> None:
    whole = (models / "mnn" / "tokenizer.mtok").read_bytes()
    damaged = bytearray(whole[: data.draw(st.sampled_from([len(whole), len(whole) // 2, 60]))])
    for place in data.draw(st.lists(st.integers(0, len(damaged) - 1), max_size=4)):
        damaged[place] = data.draw(st.integers(0, 255))
    try:
        vocabulary = read_tokenizer(bytes(damaged)).vocabulary()
    except DamagedTokenizerError:
        return
    assert vocabulary.pieces
