"""Reads the format of ``tokenizer.mtok``. It does not know what a tokenizer does with text.

The format is a text header (``430 4``, counts, and the ids of special, stop and prefix tokens) and a binary body that
holds a Hugging Face tokenizer's normalizer, pre-tokenizer, model, decoder and added tokens.
"""

from __future__ import annotations

import struct
from typing import Any

from enginebay_mnn.tokenizer import DamagedTokenizerError, TokenizerFile

MAGIC, PIPELINE = b"430", b"4"
MAX_TOKENS = 4_000_000
MAX_MERGES = 16_000_000
MAX_PARTS = 64
# Llama 3 takes a whole word that is a token as it is, without merging. The file does not say so; this pattern does.
WHOLE_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def read_tokenizer(data: bytes) -> TokenizerFile:
    """Read the bytes of a ``tokenizer.mtok``.

    :raises DamagedTokenizerError: it ends early, an id or a count is impossible, or it is of an older form
    """
    lines = data[: 1 << 20].split(b"\n", 3)
    if lines[0].split()[:1] != [MAGIC]:
        raise DamagedTokenizerError("it does not begin as an MNN tokenizer does")
    if lines[0].split()[1:] != [PIPELINE]:
        raise DamagedTokenizerError("it is of an older form, which does not say how text is split")
    try:
        counts, ids = (line.decode("ascii").split() for line in lines[1:3])
        lengths, numbers = [int(part) for part in counts], [int(part) for part in ids]
    except (ValueError, IndexError) as error:
        raise (
            error if isinstance(error, DamagedTokenizerError) else DamagedTokenizerError("its header is not text")
        ) from None
    if len(lines) < 4 or len(lengths) != 3 or min(lengths) < 0 or sum(lengths) != len(numbers):
        raise DamagedTokenizerError("its header does not count its special tokens")
    stop_at = lengths[0] + lengths[1]
    body = _Body(data, sum(len(line) + 1 for line in lines[:3]))
    description, tokens = body.description()
    if any(not 0 <= number < MAX_TOKENS for number in numbers) or any(n not in tokens for n in numbers[lengths[0] :]):
        raise DamagedTokenizerError("its header names tokens that it does not have")
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
            raise DamagedTokenizerError("it ends early") from None
        self._offset += struct.calcsize("<" + layout)
        return values

    def _count(self, limit: int, item_bytes: int) -> int:
        (count,) = self._take("I")
        if count > limit or count * item_bytes > len(self._data) - self._offset:
            raise DamagedTokenizerError(f"it counts {count:,} parts where they cannot be")
        return int(count)

    def _bytes(self, length: int) -> str:
        end = self._offset + length
        if end > len(self._data):
            raise DamagedTokenizerError("it ends early")
        try:
            text = self._data[self._offset : end].decode()
        except UnicodeDecodeError:
            raise DamagedTokenizerError("it has text that is not UTF-8") from None
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
            raise DamagedTokenizerError("it has no tokens, or one with an impossible id")
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
        raise DamagedTokenizerError(f"it has a normalizer of the unknown kind {kind}")

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
                raise DamagedTokenizerError(f"it splits in the unknown way {behavior}")
            way = ("Isolated", "Removed", "MergedWithPrevious")[behavior]
            return {"type": "Split", "pattern": {"Regex": pattern}, "behavior": way, "invert": bool(invert)}
        if kind == 5:
            return {"type": "BertPreTokenizer"}
        if kind == 6:
            return _sequence("pretokenizers", self._parts(self._pre_tokenizer, depth))
        raise DamagedTokenizerError(f"it has a pre-tokenizer of the unknown kind {kind}")

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
        raise DamagedTokenizerError(f"it has a decoder of the unknown kind {kind}")

    def _parts(self, read: Any, depth: int) -> list[dict[str, Any]]:
        if depth > 4:
            raise DamagedTokenizerError("its parts nest too deeply")
        return [part for part in (read(depth + 1) for _ in range(self._count(MAX_PARTS, 1))) if part is not None]

    def _model(self) -> tuple[dict[str, Any], bool, set[int]]:
        kind, size = self._take("BI")
        if size > MAX_TOKENS:
            raise DamagedTokenizerError(f"it counts {size:,} tokens")
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
                raise DamagedTokenizerError("it has no token for unknown words")
            form: dict[str, Any] = {"type": "WordPiece", "unk_token": unknown, "continuing_subword_prefix": prefix}
            return form | {"max_input_chars_per_word": longest, "vocab": vocabulary}, False, set(texts)
        if kind == 2:
            unknown_id, fallback = self._take("IB")
            scores: dict[int, tuple[str, float]] = {}
            for _ in range(size):
                text = self._text()
                index, score = self._take("Id")
                if index in scores or index >= size or score != score:  # noqa: PLR0124 - NaN
                    raise DamagedTokenizerError(f"token {index} is impossible")
                scores[index] = (text, score)
            if unknown_id >= size:
                raise DamagedTokenizerError("it has no token for unknown words")
            vocab = [scores[index] for index in range(size)]
            form = {"type": "Unigram", "unk_id": unknown_id, "vocab": vocab}
            return form | {"byte_fallback": bool(fallback)}, False, set(scores)
        raise DamagedTokenizerError(f"it has a model of the unknown kind {kind}")

    def _vocabulary(self, size: int) -> tuple[dict[str, int], dict[int, str]]:
        texts: dict[int, str] = {}
        for _ in range(size):
            text = self._text()
            (index,) = self._take("I")
            if index in texts or index >= MAX_TOKENS:
                raise DamagedTokenizerError(f"token {index} is impossible, or there twice")
            texts[index] = text
        vocabulary = {text: index for index, text in texts.items()}
        if len(vocabulary) != size:
            raise DamagedTokenizerError("two tokens have one text")
        return vocabulary, texts

    def _merges(self, count: int, texts: dict[int, str]) -> list[tuple[str, str]]:
        if count > MAX_MERGES or count * 12 > len(self._data) - self._offset:
            raise DamagedTokenizerError(f"it counts {count:,} merges where they cannot be")
        packed = self._data[self._offset : self._offset + 12 * count]
        merges = sorted(struct.iter_unpack("<III", packed), key=lambda merge: merge[2])
        self._offset += 12 * count
        try:
            return [(texts[left], texts[right]) for left, right, _ in merges]
        except KeyError as error:
            raise DamagedTokenizerError(f"it merges the token {error}, which it does not have") from None

    def _added(self) -> dict[str, Any]:
        index, special, left, right = self._take("IBBB")
        content = self._text()
        if not content:
            raise DamagedTokenizerError("it has an added token without text")
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
