"""The tokenizer of a model: the bytes of its tokens, and the ids of a text. It does not know the file's format."""

from __future__ import annotations

import json
import threading
from typing import TYPE_CHECKING, Any

from attrs import frozen

from enginebay.decode.protocol import Vocabulary

if TYPE_CHECKING:
    from tokenizers import Tokenizer


class DamagedTokenizerError(ValueError):
    """The file is not a tokenizer that can be read."""


@frozen
class TokenizerFile:
    """What the file holds: Hugging Face's description of the tokenizer, and what MNN needs beside it."""

    description: dict[str, Any]
    special: tuple[int, ...]
    stop: tuple[int, ...]
    prefix: tuple[int, ...]
    chat_template: str
    end_text: str
    begin_text: str

    def vocabulary(self) -> Vocabulary:
        """The bytes of each token. Ids that no token has are empty."""
        model, added = self.description["model"], self.description["added_tokens"]
        tokens: dict[str, int] = (
            {item[0]: index for index, item in enumerate(model["vocab"])}
            if model["type"] == "Unigram"
            else model["vocab"]
        )
        pieces = [b""] * (1 + max((*tokens.values(), *(token["id"] for token in added)), default=-1))
        bytes_of = _byte_level() if "ByteLevel" in str(self.description["decoder"]) else None
        for text, index in tokens.items():
            pieces[index] = _spelled(text, bytes_of) if bytes_of else _plain(text)
        for token in added:
            pieces[token["id"]] = token["content"].encode()
        control = {token["id"] for token in added if token["special"]}
        control |= {index for index in self.special if index < len(pieces)}
        texts = {"eos_token": self.end_text, "bos_token": self.begin_text}
        return Vocabulary(
            pieces=tuple(pieces),
            end=frozenset(self.stop),
            control=frozenset(control),
            special=frozenset(control | {token["id"] for token in added}),
            prefix=self.prefix,
            special_text={name: text for name, text in texts.items() if text},
        )

    def encoder(self) -> Encoder:
        """The tokenizer, ready for text."""
        from tokenizers import Tokenizer

        try:
            return Encoder(Tokenizer.from_str(json.dumps(self.description)))
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # a panic in Rust is not an Exception
            raise DamagedTokenizerError(f"its parts make no tokenizer: {error}") from None


class Encoder:
    """Turns text into token ids, from any thread."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._lock = threading.Lock()

    def encode(self, text: str, special: bool) -> list[int]:
        """Token ids; ``special`` is whether the text of a control token becomes that token."""
        with self._lock:  # one tokenizer for both: a large vocabulary takes a second to build, and much memory
            self._tokenizer.encode_special_tokens = not special
            ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False).ids
        return ids


def _byte_level() -> dict[str, int]:
    """GPT-2's characters for bytes: printable ones stand for themselves, the others follow from U+0100 on."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + index): byte for index, byte in enumerate(others)}


def _spelled(text: str, bytes_of: dict[str, int]) -> bytes:
    try:
        return bytes([bytes_of[character] for character in text])
    except KeyError:
        return text.encode()


def _plain(text: str) -> bytes:
    if len(text) == 6 and text.startswith("<0x") and text.endswith(">"):
        try:
            return bytes([int(text[3:5], 16)])
        except ValueError:
            pass
    return text.replace("\N{LOWER ONE EIGHTH BLOCK}", " ").encode()
