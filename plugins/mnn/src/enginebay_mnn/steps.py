"""MNN as a step model: sequences, each with its cache, over one set of weights. It knows nothing of requests."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from enginebay.data import LoadRequest
from enginebay.decode.protocol import Feed
from enginebay.errors import EngineUnavailable, GenerationError, ModelLoadError
from enginebay_mnn.files import EMPTY_TOKENIZER, HINT, MOST_CONTEXT_TOKENS, ModelFolder, check_folder, native_config
from enginebay_mnn.native import library, quietly
from enginebay_mnn.options import Options
from enginebay_mnn.tokenizer import DamagedTokenizerError

if TYPE_CHECKING:
    from enginebay.decode.protocol import Logits, StepModel

DEFAULT_THREADS = 4
STEP_TOKENS = 128
RUNNING = 0


class MnnModel:
    """What generating and embedding models share. One thread calls it; ``encode`` may be called from any."""

    def __init__(self, request: LoadRequest, folder: ModelFolder) -> None:
        self.vocabulary = folder.vocabulary
        self.chat_template = folder.chat_template
        known = min(folder.context_tokens or MOST_CONTEXT_TOKENS, MOST_CONTEXT_TOKENS)
        self.context_tokens = request.context_tokens or known
        self.notes: tuple[str, ...] = ()
        if request.context_tokens is None and folder.context_tokens is None:
            taken = f"a context of {self.context_tokens:,} was taken"
            self.notes = (f"the folder names no max_position_embeddings; {taken}",)
        try:
            self._encoder = folder.tokenizer.encoder()
        except DamagedTokenizerError as error:
            raise refused(folder.path, f"the tokenizer: {error}") from None

    def encode(self, text: str, special: bool) -> list[int]:
        return self._encoder.encode(text, special)


def open_steps(request: LoadRequest) -> StepModel:
    """Check and load a folder: a model that generates, or one that embeds."""
    from enginebay_mnn.embeddings import MnnEmbeddings

    folder = check_folder(request.path)
    return MnnEmbeddings(request, folder) if folder.kind == "embed" else MnnSteps(request, folder)


@contextmanager
def stand_ins(folder: ModelFolder, request: LoadRequest, tokenizer: bytes) -> Iterator[tuple[Any, str]]:
    """The library, and the path of a configuration for it that lasts as long as the context."""
    options: Options = request.options if isinstance(request.options, Options) else Options()
    try:
        module = library()
    except ImportError as error:
        raise EngineUnavailable(f"MNN cannot be imported: {error}", hint='pip install "MNN>=3.6.1,<4"') from None
    threads = options.threads or min(DEFAULT_THREADS, os.cpu_count() or 1)
    with tempfile.TemporaryDirectory(prefix="enginebay-mnn-") as scratch:
        config = native_config(folder, Path(scratch), exact=options.preset == "exact", threads=threads)
        Path(scratch, "tokenizer.mtok").write_bytes(tokenizer)
        path = Path(scratch, "config.json")
        path.write_text(json.dumps(config, ensure_ascii=False), "utf-8")
        yield module, str(path)


class MnnSteps(MnnModel):
    """An exported folder, loaded. MNN computes one sequence at a time, so several take turns within a step."""

    def __init__(self, request: LoadRequest, folder: ModelFolder) -> None:
        super().__init__(request, folder)
        self.sequences = request.sequences or 1
        self.step_tokens = max(STEP_TOKENS, self.sequences)
        self._lanes: list[_Lane] = []
        with stand_ins(folder, request, EMPTY_TOKENIZER) as (module, config):
            native = quietly(module.create, config)._c_obj
            if not quietly(native.load):
                raise refused(folder.path, "MNN refuses the model; its reason is in the log")
            self._lanes.append(_Lane(native))
            for _ in range(1, self.sequences):
                # The same graph as a variant of the loaded one: weights are shared, the cache is its own.
                self._lanes.append(_Lane(quietly(native.create_lora, json.dumps(str(folder.graph))[1:-1])))
        try:
            width = self._lanes[0].forward([0]).shape[0]
        except GenerationError as error:
            self.close()
            raise refused(folder.path, f"MNN loads the model and cannot run it: {error.message}") from None
        self._lanes[0].keep(0)
        if width < len(self.vocabulary.pieces):
            self.close()
            tokens = len(self.vocabulary.pieces)
            raise refused(folder.path, f"the model gives {width:,} logits for a vocabulary of {tokens:,} tokens")

    def step(self, feeds: Sequence[Feed]) -> Logits:
        import numpy as np

        rows: list[Logits] = []
        try:
            for feed in feeds:
                rows += self._lanes[feed.sequence].feed(list(feed.tokens), feed.outputs)
        except BaseException:
            for feed in feeds:
                self._lanes[feed.sequence].keep(0)
            raise
        if len(rows) == 1:
            return rows[0].reshape(1, -1)
        return np.stack(rows) if rows else np.empty((0, len(self.vocabulary.pieces)), np.float32)

    def keep(self, sequence: int, n: int) -> int:
        return self._lanes[sequence].keep(n)

    def close(self) -> None:
        while self._lanes:  # the first holds the weights of the others
            quietly(self._lanes.pop().close)


def refused(path: Path, reason: str) -> ModelLoadError:
    """The error for a folder that cannot be used."""
    return ModelLoadError(f"{path}: {reason}.", hint=HINT, path=str(path))


class _Lane:
    """One native object with one cache. ``erase_history`` waits for the next forward; what is kept is counted here."""

    def __init__(self, native: Any) -> None:
        self._native = native
        self._held = 0
        self._kept = 0

    def keep(self, n: int) -> int:
        self._kept = min(self._kept, n)
        return self._kept

    def feed(self, tokens: list[int], outputs: int) -> list[Logits]:
        """Append tokens; the logits of the last ``outputs`` of them. MNN gives those of a call's last position only."""
        singles = max(0, min(outputs, len(tokens)) - 1)
        cut = len(tokens) - singles
        rows = [self.forward(tokens[:cut])]
        rows += [self.forward([token]) for token in tokens[cut:]]
        return rows if outputs else []

    def forward(self, tokens: list[int]) -> Logits:
        """float32, shape (at least the vocabulary,): the logits of the last token."""
        if self._kept < self._held:
            quietly(self._native.erase_history, self._kept, 0)
            self._held = self._kept
        row = quietly(self._forward, tokens)
        self._held = self._kept = self._held + len(tokens)
        return row

    def _forward(self, tokens: list[int]) -> Logits:
        import numpy as np

        native = self._native
        if len(tokens) > 1:
            # Counts of generated tokens back to 0: otherwise each new length of a piece gets a copy of the graph.
            native.generate_init(None, None)
        result = native.forward(tokens)
        status = native.get_context()["status"]
        if status != RUNNING:  # then the result is a null pointer, which must not be looked at
            native.generate_init(None, None)
            raise GenerationError(f"MNN failed on {len(tokens):,} tokens (status {status}); its reason is in the log.")
        # A copy: the result is memory of the native object, and must not outlive it.
        return np.array(result.read(), dtype=np.float32).reshape(-1)

    def close(self) -> None:
        with suppress(AttributeError):
            del self._native
