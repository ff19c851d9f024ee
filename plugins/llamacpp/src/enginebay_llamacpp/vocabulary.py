"""Reads a loaded model's vocabulary. It knows no text, no cache and no context."""

from __future__ import annotations

import ctypes
from types import ModuleType
from typing import Any

from enginebay.decode.protocol import Vocabulary
from enginebay_llamacpp.gguf import GgufFile

_SPECIAL_TEXT = {
    "bos_token": "tokenizer.ggml.bos_token_id",
    "eos_token": "tokenizer.ggml.eos_token_id",
    "unk_token": "tokenizer.ggml.unknown_token_id",
    "pad_token": "tokenizer.ggml.padding_token_id",
    "sep_token": "tokenizer.ggml.seperator_token_id",
    "mask_token": "tokenizer.ggml.mask_token_id",
}
"""Names in chat templates, and the keys (spelt as the format spells them) that give their token ids."""


def read_vocabulary(native: ModuleType, vocab: Any, file: GgufFile) -> Vocabulary:
    """All tokens as bytes, and what they are for."""
    count = native.llama_vocab_n_tokens(vocab)
    piece, attributes, ends = native.llama_token_to_piece, native.llama_vocab_get_attr, native.llama_vocab_is_eog
    hidden = native.LLAMA_TOKEN_ATTR_CONTROL | native.LLAMA_TOKEN_ATTR_UNKNOWN
    plain = native.LLAMA_TOKEN_ATTR_NORMAL
    size = 1 << 10
    buffer = ctypes.create_string_buffer(size)
    pieces: list[bytes] = []
    end, control, special = set[int](), set[int](), set[int]()
    for token in range(count):
        length = piece(vocab, token, buffer, size, 0, True)
        if length < 0:
            size = -length
            buffer = ctypes.create_string_buffer(size)
            length = piece(vocab, token, buffer, size, 0, True)
        pieces.append(ctypes.string_at(buffer, length))
        flags = attributes(vocab, token)
        if flags == plain:
            continue
        if flags & (hidden | native.LLAMA_TOKEN_ATTR_USER_DEFINED):
            special.add(token)
        if flags & hidden:
            control.add(token)
        if ends(vocab, token):
            end.add(token)
    for token in (native.llama_vocab_eos(vocab), native.llama_vocab_eot(vocab)):
        if 0 <= token < count:
            end.add(token)
    begin = native.llama_vocab_bos(vocab)
    has_begin = native.llama_vocab_get_add_bos(vocab) and 0 <= begin < count
    texts = {}
    for name, key in _SPECIAL_TEXT.items():
        named = file.metadata.get(key)
        if isinstance(named, int) and named < count:
            texts[name] = pieces[named].decode("utf-8", "replace")
    return Vocabulary(
        tuple(pieces), frozenset(end), frozenset(control), frozenset(special), (begin,) if has_begin else (), texts
    )
