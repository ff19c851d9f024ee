"""Turns text into tokens, exactly, whatever the text. It knows no cache and no context."""

from __future__ import annotations

import ctypes
import threading
from concurrent.futures import Future
from types import ModuleType
from typing import Any, Final

from enginebay.errors import Cancelled, OutOfMemory, RequestError
from enginebay_llamacpp.gguf import GgufFile

_OWN_CODE: Final = """
a.x-4.0 chameleon chatglm-bpe codeshell command-r dbrx deepseek-r1-qwen exaone exaone4 f2llmv2 falcon-h1 falcon3 gemma4
gigachat glm4 gpt-2 granite-docling grok-2 hunyuan jais jina-de jina-es jina-v1-en jina-v2-code jina-v2-de jina-v2-es
jina-v5-nano kimi-k2 kormo laguna lfm2 llama-bpe llama-v3 llama3 megrez mellum mellum2 midm-2.0 minerva-7b modern-bert mpt
olmo phi-2 pixtral qwen2 qwen35 refact roberta-bpe sarvam-moe smaug-bpe smollm solar-open stablelm2 starcoder trillion
"""
"""Pre-tokenizers that llama.cpp splits text for with code of its own. For others it uses ``std::regex``."""

_SHORT_BYTES: Final = 1_000
_STACK_BYTES: Final = 2_048  # that std::regex takes for a byte of text, at most: it calls itself for each; measured
_MOST_STACK_BYTES: Final = 1 << 30
_starting = threading.Lock()


class Tokenizer:
    """The tokenizer of a loaded model. Any thread may call it; ``close`` waits until none does."""

    def __init__(self, native: ModuleType, vocab: Any, file: GgufFile) -> None:
        self._native = native
        self._vocab = vocab
        own = file.metadata.get("tokenizer.ggml.pre") in _OWN_CODE.split()
        self._recursive = file.metadata.get("tokenizer.ggml.model") == "gpt2" and not own
        self._change = threading.Condition()
        self._users = 0
        self._closed = False

    def encode(self, text: str, special: bool) -> list[int]:
        """Token ids of exactly this text. ``special``: whether the text of special tokens becomes those tokens.

        :raises RequestError: the text is not Unicode, or longer than this model's tokenizer can take
        :raises Cancelled: the model is closed
        """
        try:
            raw = text.encode()
        except UnicodeEncodeError as error:
            where = f"The text has a lone surrogate at position {error.start}."
            raise RequestError(where, hint="Give valid Unicode.") from None
        with self._change:
            if self._closed:
                raise Cancelled("The model was closed.", hint="Open it again.")
            self._users += 1
        try:
            if self._recursive and len(raw) > _SHORT_BYTES:
                return self._with_room(raw, special)
            return self._tokens(raw, special)
        finally:
            with self._change:
                self._users -= 1
                self._change.notify()

    def close(self) -> None:
        """Take no more calls; returns when those that run are over."""
        with self._change:
            self._closed = True
            while self._users:
                self._change.wait()

    def _tokens(self, raw: bytes, special: bool) -> list[int]:
        room = len(raw) + 8
        tokens = (ctypes.c_int32 * room)()
        count = self._native.llama_tokenize(self._vocab, raw, len(raw), tokens, room, False, special)
        if count < 0:
            tokens = (ctypes.c_int32 * -count)()
            count = self._native.llama_tokenize(self._vocab, raw, len(raw), tokens, -count, False, special)
        return list(tokens[:count])

    def _with_room(self, raw: bytes, special: bool) -> list[int]:
        """On a thread with a stack that is deep enough: a run of 25,000 letters would end the process on an ordinary one."""
        stack_bytes = (1 << 20) + -(-_STACK_BYTES * len(raw) // 4096) * 4096
        if stack_bytes > _MOST_STACK_BYTES:
            most = _MOST_STACK_BYTES // _STACK_BYTES
            what = f"The text has {len(raw):,} bytes, and the tokenizer of this model takes at most {most:,} at once."
            raise RequestError(what, hint="Tokenize it in parts.")
        tokens: Future[list[int]] = Future()

        def run() -> None:
            try:
                tokens.set_result(self._tokens(raw, special))
            except BaseException as error:  # it belongs to the caller's thread
                tokens.set_exception(error)

        thread = threading.Thread(target=run, daemon=True)
        with _starting:
            usual = threading.stack_size(stack_bytes)
            try:
                thread.start()
            except RuntimeError as error:
                what = f"There is no memory for a stack of {stack_bytes >> 20:,} MiB to tokenize {len(raw):,} bytes."
                raise OutOfMemory(what, hint="Tokenize the text in parts.") from error
            finally:
                threading.stack_size(usual)
        return tokens.result()
