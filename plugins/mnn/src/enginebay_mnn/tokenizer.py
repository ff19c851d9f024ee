"""Reads a ``tokenizer.mtok`` into the pieces of its vocabulary and a tokenizer of the ``tokenizers`` library.

The format is a text header (``430 4``, counts, and the ids of special, stop and prefix tokens) and a binary body that holds a
Hugging Face tokenizer's normalizer, pre-tokenizer, model, decoder and added tokens. It knows nothing of MNN itself.
"""

from __future__ import annotations

import json
import struct
from typing import TYPE_CHECKING, Any

from attrs import frozen

from enginebay.decode.protocol import Vocabulary

if TYPE_CHECKING:
    from tokenizers import Tokenizer

MAGIC, PIPELINE = "430", "4"
MAX_TOKENS = 4_000_000
MAX_MERGES = 16_000_000
MAX_PARTS = 64
# Llama 3 takes a whole word that is a token as it is, without merging. The file does not say so; this pattern does.
WHOLE_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


class DamagedTokenizer(ValueError):
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
        control = {token["id"] for token in added if token["special"]} | {index for index in self.special if index < len(pieces)}
        texts = {"eos_token": self.end_text, "bos_token": self.begin_text}
        return Vocabulary(
            pieces=tuple(pieces),
            end=frozenset(self.stop),
            control=frozenset(control),
            special=frozenset(control | {token["id"] for token in added}),
            prefix=self.prefix,
            special_text={name: text for name, text in texts.items() if text},
        )

    def tokenizer(self, *, special: bool) -> Tokenizer:
        """The tokenizer; ``special`` is whether the text of a control token becomes that token."""
        from tokenizers import Tokenizer

        try:
            tokenizer = Tokenizer.from_str(json.dumps(self.description))
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # noqa: BLE001 - a panic in Rust is not an Exception
            raise DamagedTokenizer(f"its parts make no tokenizer: {error}") from None
        tokenizer.encode_special_tokens = not special
        return tokenizer


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


def read_tokenizer(data: bytes) -> TokenizerFile:
    """Read the bytes of a ``tokenizer.mtok``.

    :raises DamagedTokenizer: it ends early, an id or a count is impossible, or it is of an older form
    """
    lines = data[: 1 << 20].split(b"\n", 3)
    try:
        first, counts, ids = (line.decode("ascii").split() for line in lines[:3])
        if first[:1] != [MAGIC]:
            raise DamagedTokenizer("it does not begin as an MNN tokenizer does")
        if first[1:] != [PIPELINE]:
            raise DamagedTokenizer("it is of an older form, which does not say how text is split")
        lengths, numbers = [int(part) for part in counts], [int(part) for part in ids]
    except (ValueError, IndexError) as error:
        raise error if isinstance(error, DamagedTokenizer) else DamagedTokenizer("its header is not text") from None
    if len(lines) < 4 or len(lengths) != 3 or min(lengths) < 0 or sum(lengths) != len(numbers):
        raise DamagedTokenizer("its header does not count its special tokens")
    stop_at = lengths[0] + lengths[1]
    body = _Body(data, sum(len(line) + 1 for line in lines[:3]))
    description, tokens = body.description()
    if any(not 0 <= number < MAX_TOKENS for number in numbers) or any(n not in tokens for n in numbers[lengths[0] :]):
        raise DamagedTokenizer("its header names tokens that it does not have")
    template, end_text, begin_text = body.tail()
    return TokenizerFile(
        description,
        tuple(numbers[: lengths[0]]),
        tuple(numbers[lengths[0] : stop_at]),
        tuple(numbers[stop_at:]),
        template,
        end_text,
        begin_text,
    )


class _Body:
    """The binary part, read from front to back."""

    def __init__(self, data: bytes, offset: int) -> None:
        self._data = data
        self._offset = offset

    def _take(self, layout: str) -> tuple[Any, ...]:
        try:
            values = struct.unpack_from("<" + layout, self._data, self._offset)
        except struct.error:
            raise DamagedTokenizer("it ends early") from None
        self._offset += struct.calcsize("<" + layout)
        return values

    def _count(self, limit: int, item_bytes: int) -> int:
        (count,) = self._take("I")
        if count > limit or count * item_bytes > len(self._data) - self._offset:
            raise DamagedTokenizer(f"it counts {count:,} parts where they cannot be")
        return int(count)

    def _bytes(self, length: int) -> str:
        end = self._offset + length
        if end > len(self._data):
            raise DamagedTokenizer("it ends early")
        try:
            text = self._data[self._offset : end].decode()
        except UnicodeDecodeError:
            raise DamagedTokenizer("it has text that is not UTF-8") from None
        self._offset = end
        return text

    def _text(self) -> str:
        return self._bytes(self._take("H")[0])

    def description(self) -> tuple[dict[str, Any], set[int]]:
        """The tokenizer as Hugging Face describes it in ``tokenizer.json``, and all ids."""
        normalizer = self._normalizer(0)
        pre_tokenizer = self._pre_tokenizer(0)
        model, spelled_bytes, ids = self._model()
        decoder = self._decoder(0)
        if spelled_bytes:
            level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
            pre_tokenizer = _sequence("pretokenizers", [part for part in (pre_tokenizer, level) if part])
        if model["type"] == "BPE" and _splits_like(pre_tokenizer, WHOLE_WORDS):
            model["ignore_merges"] = True
        added = [self._added() for _ in range(self._count(MAX_TOKENS, 9))]
        ids.update(token["id"] for token in added)
        if max(ids, default=MAX_TOKENS) >= MAX_TOKENS:
            raise DamagedTokenizer("it has no tokens, or one with an impossible id")
        return {
            "version": "1.0",
            "added_tokens": sorted(added, key=lambda token: int(token["id"])),
            "normalizer": normalizer,
            "pre_tokenizer": pre_tokenizer,
            "post_processor": None,
            "decoder": decoder,
            "model": model,
        }, ids

    def tail(self) -> tuple[str, str, str]:
        """The chat template and the texts of the end and begin tokens, which older files do not have."""
        if self._offset >= len(self._data):
            return "", "", ""
        template = self._bytes(self._take("I")[0])
        end_text = self._text() if self._offset < len(self._data) else ""
        if self._offset < len(self._data):
            self._take("B")
        begin_text = self._text() if self._offset < len(self._data) else ""
        return template, end_text, begin_text

    def _normalizer(self, depth: int) -> dict[str, Any] | None:
        (kind,) = self._take("B")
        if kind in (0, 1):
            return None
        if kind == 2:
            return {"type": "Prepend", "prepend": self._text()}
        if kind == 3:
            return {"type": "Replace", "pattern": {"String": self._text()}, "content": self._text()}
        if kind == 4:
            return _sequence("normalizers", self._parts(self._normalizer, depth))
        if kind in (5, 7):
            clean, chinese, strip, lower = (bool(flag) for flag in self._take("BBBB"))
            if kind == 7 and strip:
                self._table()
            return {
                "type": "BertNormalizer",
                "clean_text": clean,
                "handle_chinese_chars": chinese,
                "strip_accents": strip,
                "lowercase": lower,
            }
        if kind == 6:
            # The table maps single characters; the form that it was made of also joins and orders marks.
            return {"type": "NFKC" if 0xFB01 in self._table() else "NFC"}
        if kind == 8:
            left, right = self._take("BB")
            return {"type": "Strip", "strip_left": bool(left), "strip_right": bool(right)}
        raise DamagedTokenizer(f"it has a normalizer of the unknown kind {kind}")

    def _table(self) -> set[int]:
        points = set()
        for _ in range(self._count(0x110000, 6)):
            points.add(self._take("I")[0])
            self._text()
        return points

    def _pre_tokenizer(self, depth: int) -> dict[str, Any] | None:
        (kind,) = self._take("B")
        if kind == 0:
            return None
        if kind == 1:
            level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}
            return level | {"use_regex": bool(self._take("B")[0])}
        if kind == 2:
            return {"type": "Digits", "individual_digits": bool(self._take("B")[0])}
        if kind == 3:
            replacement, prefix = self._text(), bool(self._take("B")[0])
            scheme = "always" if prefix else "never"
            return {"type": "Metaspace", "replacement": replacement, "prepend_scheme": scheme, "split": True}
        if kind == 4:
            pattern, (invert, behavior) = self._text(), self._take("BB")
            if behavior > 2:
                raise DamagedTokenizer(f"it splits in the unknown way {behavior}")
            way = ("Isolated", "Removed", "MergedWithPrevious")[behavior]
            return {"type": "Split", "pattern": {"Regex": pattern}, "behavior": way, "invert": bool(invert)}
        if kind == 5:
            return {"type": "BertPreTokenizer"}
        if kind == 6:
            return _sequence("pretokenizers", self._parts(self._pre_tokenizer, depth))
        raise DamagedTokenizer(f"it has a pre-tokenizer of the unknown kind {kind}")

    def _decoder(self, depth: int) -> dict[str, Any]:
        (kind,) = self._take("B")
        if kind == 0:
            return {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True}
        if kind == 1:
            return {"type": "ByteFallback"}
        if kind == 2:
            replacement, prefix = self._text(), bool(self._take("B")[0])
            scheme = "always" if prefix else "never"
            return {"type": "Metaspace", "replacement": replacement, "prepend_scheme": scheme, "split": True}
        if kind == 3:
            return {"type": "WordPiece", "prefix": self._text(), "cleanup": bool(self._take("B")[0])}
        if kind == 4:
            return {"type": "Fuse"}
        if kind == 5:
            return {"type": "Replace", "pattern": {"String": self._text()}, "content": self._text()}
        if kind == 6:
            content, (start, stop) = self._text(), self._take("II")
            return {"type": "Strip", "content": content, "start": start, "stop": stop}
        if kind == 7:
            return _sequence("decoders", self._parts(self._decoder, depth)) or {"type": "Fuse"}
        raise DamagedTokenizer(f"it has a decoder of the unknown kind {kind}")

    def _parts(self, read: Any, depth: int) -> list[dict[str, Any]]:
        if depth > 4:
            raise DamagedTokenizer("its parts nest too deeply")
        return [part for part in (read(depth + 1) for _ in range(self._count(MAX_PARTS, 1))) if part is not None]

    def _model(self) -> tuple[dict[str, Any], bool, set[int]]:
        kind, size = self._take("BI")
        if size > MAX_TOKENS:
            raise DamagedTokenizer(f"it counts {size:,} tokens")
        if kind == 0:
            fallback, spelled, merges = self._take("BBI")
            vocabulary, texts = self._vocabulary(size)
            model: dict[str, Any] = {
                "type": "BPE",
                "vocab": vocabulary,
                "merges": self._merges(merges, texts),
                "byte_fallback": bool(fallback),
                "unk_token": "<unk>" if fallback and "<unk>" in vocabulary else None,
                "fuse_unk": bool(fallback),
                "ignore_merges": False,
            }
            return model, bool(spelled), set(texts)
        if kind == 1:
            unknown, prefix, (longest,) = self._text(), self._text(), self._take("I")
            vocabulary, texts = self._vocabulary(size)
            if unknown not in vocabulary:
                raise DamagedTokenizer("it has no token for unknown words")
            form = {"type": "WordPiece", "unk_token": unknown, "continuing_subword_prefix": prefix}
            return form | {"max_input_chars_per_word": longest, "vocab": vocabulary}, False, set(texts)
        if kind == 2:
            unknown_id, fallback = self._take("IB")
            scores: dict[int, tuple[str, float]] = {}
            for _ in range(size):
                text = self._text()
                index, score = self._take("Id")
                if index in scores or index >= size or score != score:  # noqa: PLR0124 - NaN
                    raise DamagedTokenizer(f"token {index} is impossible")
                scores[index] = (text, score)
            if unknown_id >= size:
                raise DamagedTokenizer("it has no token for unknown words")
            vocab = [scores[index] for index in range(size)]
            return {"type": "Unigram", "unk_id": unknown_id, "vocab": vocab, "byte_fallback": bool(fallback)}, False, set(scores)
        raise DamagedTokenizer(f"it has a model of the unknown kind {kind}")

    def _vocabulary(self, size: int) -> tuple[dict[str, int], dict[int, str]]:
        texts: dict[int, str] = {}
        for _ in range(size):
            text = self._text()
            (index,) = self._take("I")
            if index in texts or index >= MAX_TOKENS:
                raise DamagedTokenizer(f"token {index} is impossible, or there twice")
            texts[index] = text
        vocabulary = {text: index for index, text in texts.items()}
        if len(vocabulary) != size:
            raise DamagedTokenizer("two tokens have one text")
        return vocabulary, texts

    def _merges(self, count: int, texts: dict[int, str]) -> list[tuple[str, str]]:
        if count > MAX_MERGES or count * 12 > len(self._data) - self._offset:
            raise DamagedTokenizer(f"it counts {count:,} merges where they cannot be")
        merges = sorted(struct.iter_unpack("<III", self._data[self._offset : self._offset + 12 * count]), key=lambda m: m[2])
        self._offset += 12 * count
        try:
            return [(texts[left], texts[right]) for left, right, _ in merges]
        except KeyError as error:
            raise DamagedTokenizer(f"it merges the token {error}, which it does not have") from None

    def _added(self) -> dict[str, Any]:
        index, special, left, right = self._take("IBBB")
        content = self._text()
        if not content:
            raise DamagedTokenizer("it has an added token without text")
        return {
            "id": index,
            "content": content,
            "single_word": False,
            "lstrip": bool(left),
            "rstrip": bool(right),
            "normalized": not special,
            "special": bool(special),
        }


def _sequence(name: str, parts: list[dict[str, Any]]) -> dict[str, Any] | None:
    return {"type": "Sequence", name: parts} if len(parts) > 1 else parts[0] if parts else None


def _splits_like(pre_tokenizer: dict[str, Any] | None, pattern: str) -> bool:
    parts = (pre_tokenizer or {}).get("pretokenizers", [pre_tokenizer or {}])
    return any(part.get("pattern") == {"Regex": pattern} for part in parts)
