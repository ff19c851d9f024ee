"""The tokenizer of a model folder: the bytes of each token, which tokens are special, and encoding. It knows no model.

It is read by the ``tokenizers`` library from ``tokenizer.json`` alone: no code of the folder is run.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from enginebay.decode.protocol import Vocabulary
from enginebay.errors import ModelLoadError, RequestError
from enginebay_mlx.files import MAX_WIDTH, ModelFolder

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_BYTE_TOKEN = re.compile(r"<0x([0-9A-Fa-f]{2})>")
_NAMED = ("bos_token", "eos_token", "unk_token", "pad_token")


class FolderTokenizer:
    """Encodes text, from any thread."""

    def __init__(self, folder: ModelFolder) -> None:
        self._tokenizer = _open(folder)
        self._lock = threading.Lock()
        self.vocabulary = self._read_vocabulary(folder)

    def encode(self, text: str, special: bool) -> list[int]:
        """Token ids of text; nothing is added. ``special``: whether the text of control tokens becomes those tokens.

        :raises RequestError: the text holds half of a surrogate pair
        """
        try:
            with self._lock:
                self._tokenizer.encode_special_tokens = not special
                ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False).ids
        except TypeError as error:
            raise RequestError("The text holds half of a surrogate pair, which has no bytes.") from error
        return ids

    def _read_vocabulary(self, folder: ModelFolder) -> Vocabulary:
        names: dict[str, int] = self._tokenizer.get_vocab(with_added_tokens=True)
        added = self._tokenizer.get_added_tokens_decoder()
        width = folder.text_config.get("vocab_size")
        count = max(names.values(), default=-1) + 1
        if not 0 < count <= (width if type(width) is int else MAX_WIDTH):
            raise ModelLoadError(
                f"The tokenizer of {folder.path} has {count:,} tokens; the model has {width}.",
                hint="Use the tokenizer that belongs to the model.",
                path=str(folder.path),
            )
        to_bytes = _token_bytes(folder)
        pieces = [b""] * count
        for name, token in names.items():
            pieces[token] = added[token].content.encode() if token in added else to_bytes(name)
        special_text = dict(_special_text(folder.tokenizer))
        return Vocabulary(
            pieces=tuple(pieces),
            end=self._end_tokens(folder, names, special_text, count),
            control=frozenset(token for token, entry in added.items() if entry.special),
            special=frozenset(added),
            prefix=self._prefix(folder, names, special_text),
            special_text=special_text,
        )

    def _end_tokens(
        self, folder: ModelFolder, names: Mapping[str, int], special_text: Mapping[str, str], count: int
    ) -> frozenset[int]:
        ends: set[int] = set()
        for source in (folder.generation, folder.config, folder.text_config):
            found = source.get("eos_token_id")
            for token in found if isinstance(found, list) else [found]:
                if token is None:
                    continue
                if type(token) is not int or not 0 <= token < count:
                    raise ModelLoadError(
                        f"The model folder {folder.path} names {str(token)[:40]!r} as an end token; it has {count:,}.",
                        hint="Correct eos_token_id in config.json and generation_config.json.",
                        path=str(folder.path),
                    )
                ends.add(token)
        if special_text.get("eos_token") in names:
            ends.add(names[special_text["eos_token"]])
        return frozenset(ends)

    def _prefix(
        self, folder: ModelFolder, names: Mapping[str, int], special_text: Mapping[str, str]
    ) -> tuple[int, ...]:
        """What the tokenizer puts before text: its configuration says so, or else its post-processor shows it."""
        wanted = folder.tokenizer.get("add_bos_token")
        begin = names.get(special_text.get("bos_token", ""))
        if wanted is False:
            return ()
        if wanted is True and begin is not None:
            return (begin,)
        plain: list[int] = self._tokenizer.encode("a", add_special_tokens=False).ids
        full: list[int] = self._tokenizer.encode("a", add_special_tokens=True).ids
        before = len(full) - len(plain)
        return next((tuple(full[:n]) for n in range(before, 0, -1) if full[n : n + len(plain)] == plain), ())


def _open(folder: ModelFolder) -> Tokenizer:
    from tokenizers import Tokenizer

    try:
        tokenizer = Tokenizer.from_str(folder.tokenizer_json)
        tokenizer.no_truncation()
        tokenizer.no_padding()
        tokenizer.encode("a")
    except BaseException as error:  # the library's panics are no Exception
        if isinstance(error, (KeyboardInterrupt, SystemExit)):
            raise
        raise _unreadable(folder, str(error)[:200]) from None
    return tokenizer


def _unreadable(folder: ModelFolder, what: str) -> ModelLoadError:
    hint = "Download or convert the model again."
    return ModelLoadError(
        f"The tokenizer.json of {folder.path} cannot be used: {what}", hint=hint, path=str(folder.path)
    )


def _token_bytes(folder: ModelFolder) -> Callable[[str], bytes]:
    """How the name of a token becomes bytes: what the tokenizer's decoder does to one token."""
    content: dict[str, Any] = json.loads(folder.tokenizer_json)
    steps = list(_parts(content.get("decoder"), "decoders"))
    kinds = {step.get("type") for step in steps}
    if "ByteLevel" in kinds:
        table = _byte_of_character()
        return lambda name: b"".join(table.get(character, character.encode()) for character in name)
    if not kinds & {"ByteFallback", "Replace", "Metaspace"}:
        raise _unreadable(
            folder, f"its decoder {sorted(map(str, kinds))} is none that gives each token bytes of its own."
        )
    replaced = [("▁", " ")] if "Metaspace" in kinds else []
    for step in steps:
        pattern = step.get("pattern")
        if step.get("type") == "Replace" and isinstance(pattern, dict) and isinstance(pattern.get("String"), str):
            replaced.append((pattern["String"], str(step.get("content", ""))))

    def to_bytes(name: str) -> bytes:
        byte = _BYTE_TOKEN.fullmatch(name) if "ByteFallback" in kinds else None
        if byte:
            return bytes((int(byte[1], 16),))
        for old, new in replaced:
            name = name.replace(old, new)
        return name.encode()

    return to_bytes


def _parts(step: object, key: str) -> Iterator[dict[str, Any]]:
    if isinstance(step, dict):
        yield step
        for part in step.get(key) or ():
            yield from _parts(part, key)


def _byte_of_character() -> dict[str, bytes]:
    """GPT-2's printable stand-ins for bytes: printable Latin-1 stands for itself, the rest begins at U+0100.

    https://github.com/openai/gpt-2/blob/master/src/encoder.py
    """
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    table = {chr(byte): bytes((byte,)) for byte in printable}
    others = (byte for byte in range(256) if byte not in printable)
    return table | {chr(0x100 + place): bytes((byte,)) for place, byte in enumerate(others)}


def _special_text(tokenizer: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for name in _NAMED:
        text = tokenizer.get(name)
        text = text.get("content") if isinstance(text, dict) else text
        if isinstance(text, str):
            yield name, text
