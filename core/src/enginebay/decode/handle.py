"""A loaded model over the toolkit: what an engine's ``load`` returns. It joins owner, scheduler and constraints."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from enginebay.data import Capability, Chunk, Constraint, EngineInfo, GenerateRequest, LoadRequest, ModelInfo, Sampling
from enginebay.decode.constraints import Compiled, ConstraintCompiler
from enginebay.decode.job import Job, JobStream
from enginebay.decode.owner import OwnerThread
from enginebay.decode.protocol import Embeds, Notes, SavesState, StepModel
from enginebay.decode.scheduler import Scheduler, unknown_tokens
from enginebay.decode.slots import common_prefix
from enginebay.errors import Cancelled, ContextOverflow, EnginebayError, QueueFull, RequestError, Unsupported

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


class DecodeModel:
    """A model that an owner thread decodes. Methods may be called from any thread, ``close`` twice."""

    def __init__(
        self, request: LoadRequest, engine: EngineInfo, model: StepModel, owner: OwnerThread, shared: bool
    ) -> None:
        self._model = model
        self._owner = owner
        self._shared = shared
        self._closing = threading.Lock()
        self._closed = False
        self._scheduler = Scheduler(model, queue_requests=request.queue_requests, cache_bytes=request.cache_bytes)
        self._vocabulary = model.vocabulary
        self._compiler = ConstraintCompiler(model.vocabulary, lambda text: model.encode(text, False))
        self.info = ModelInfo(
            engine=engine.name,
            path=request.path,
            format=request.format,
            context_tokens=model.context_tokens,
            sequences=model.sequences,
            vocabulary_tokens=len(model.vocabulary.pieces),
            vocabulary_fingerprint=model.vocabulary.fingerprint(),
            end_tokens=model.vocabulary.end,
            prefix_tokens=model.vocabulary.prefix,
            chat_template=model.chat_template,
            special_text=model.vocabulary.special_text,
            capabilities=capabilities(model),
            notes=model.notes if isinstance(model, Notes) else (),
        )
        owner.attach(self._scheduler.work)

    @classmethod
    def open(
        cls, request: LoadRequest, engine: EngineInfo, build: Callable[[], StepModel], owner: OwnerThread | None = None
    ) -> DecodeModel:
        """Call ``build`` on the thread that will own the model: a new one, or the ``owner`` that an engine keeps."""
        thread = owner or OwnerThread(f"enginebay-{engine.name}")
        try:
            return cls(request, engine, thread.call(build), thread, shared=owner is not None)
        except BaseException:
            if owner is None:
                thread.stop()
            raise

    def close(self) -> None:
        """End what runs with ``cancelled`` and free the model."""
        with self._closing:
            if self._closed:
                return
            self._closed = True
        self._scheduler.shut(Cancelled("The model was closed.", hint="Open it again."))
        self._owner.wake()
        self._owner.detach(self._scheduler.work)
        self._owner.call(self._scheduler.work)
        self._owner.call(self._model.close)
        if not self._shared:
            self._owner.stop()

    def generate(self, request: GenerateRequest) -> Iterator[Chunk]:
        """Put a request in line; see the ``generate`` hook."""
        self._check(request)
        compiled = self._compiler.compile(request.constraint) if request.constraint is not None else None
        return self._submit(request, compiled)

    def _submit(self, request: GenerateRequest, compiled: Compiled | None) -> JobStream:
        seed = secrets.randbits(63) if request.sampling.seed is None else request.sampling.seed
        job = Job(request, seed, self._vocabulary, self.info.context_tokens, compiled)
        if job.over is not None:  # a resumed request that was complete already
            job.finish(job.over)
        else:
            self._scheduler.submit(job)
            self._owner.wake()
        return JobStream(job, self._cancel)

    def _cancel(self, job: Job) -> None:
        self._scheduler.cancel(job)
        self._owner.wake()

    def _check(self, request: GenerateRequest) -> None:
        if not request.prompt:
            raise RequestError("prompt: expected at least one token, got none.", hint="Give some text to begin with.")
        unknown = unknown_tokens(request, self.info.vocabulary_tokens)
        if unknown:
            raise RequestError(
                f"Token ids {unknown} are not in the vocabulary of {self.info.vocabulary_tokens:,} tokens."
            )
        room, needed = self.info.context_tokens, len(request.prompt) + (request.max_tokens or 1)
        if request.context == "error" and needed > room:
            raise ContextOverflow(
                f"The prompt has {len(request.prompt):,} tokens and up to {request.max_tokens or 1:,} are to follow; "
                f"the context of this model holds {room:,}.",
                hint='Shorten the prompt, lower max_tokens, raise context_tokens, or pass context="shift".',
                prompt_tokens=len(request.prompt),
                context_tokens=room,
            )
        if request.context == "shift" and request.keep_tokens >= room // 2:
            raise RequestError(
                f"keep_tokens: expected less than half the context of {room:,}, got {request.keep_tokens:,}."
            )

    def tokenize(self, text: str, special: bool) -> list[int]:
        return self._model.encode(text, special)

    def detokenize(self, tokens: Sequence[int]) -> bytes:
        pieces = self._vocabulary.pieces
        for token in tokens:
            if not 0 <= token < len(pieces):
                raise RequestError(f"Token id {token} is not in the vocabulary of {len(pieces):,} tokens.")
        return b"".join(pieces[token] for token in tokens)

    def grammar(self, constraint: Constraint) -> Compiled:
        return self._compiler.compile(constraint)

    def embed(self, texts: Sequence[str], normalize: bool) -> npt.NDArray[np.float32]:
        import numpy as np

        model = self._model
        if not isinstance(model, Embeds):
            raise Unsupported(f"This model of {self.info.engine} does not embed.", hint="Load an embedding model.")
        vectors = []
        for text in texts:
            tokens = [*self.info.prefix_tokens, *model.encode(text, False)]
            if not 0 < len(tokens) <= self.info.context_tokens:
                raise ContextOverflow(
                    f"A text has {len(tokens):,} tokens; the context holds {self.info.context_tokens:,}."
                )
            vectors.append(self._owner.call(lambda tokens=tokens: model.embed(tokens)))  # type: ignore[misc]
        matrix = np.stack(vectors).astype(np.float32)
        if normalize:
            matrix /= np.maximum(np.linalg.norm(matrix, axis=1, keepdims=True), 1e-12)
        return matrix

    def save_session(self, tokens: Sequence[int]) -> bytes:
        return self._owner.call(lambda: self._save(list(tokens)))

    def _save(self, tokens: list[int]) -> bytes:
        slot = self._scheduler.slots.holding(tokens)
        if slot is None or not isinstance(self._model, SavesState):
            return b""
        length = common_prefix(slot.tokens, tokens)
        self._scheduler.slots.cut(slot, length)
        return length.to_bytes(8, "little") + self._model.save_state(slot.index) if slot.tokens else b""

    def load_session(self, tokens: Sequence[int], state: bytes) -> int:
        length = int.from_bytes(state[:8], "little")
        if not 0 < length <= len(tokens) or not isinstance(self._model, SavesState):
            return 0
        self._owner.call(lambda: self._scheduler.slots.restore(tokens[:length], state[8:]))
        return length

    @property
    def progress(self) -> int:
        """Steps made so far: what a supervisor watches."""
        return self._scheduler.steps

    def drop_caches(self) -> None:
        """Forget idle prefixes: memory is short."""
        self._owner.call(self._scheduler.slots.drop_idle)

    def prove(self) -> str | None:
        """Produce one token; say why that failed. A full queue that moves is proof as well."""
        steps = self._scheduler.steps
        prompt = self.info.prefix_tokens or tuple(self._model.encode("a", False))[:1] or (0,)
        request = GenerateRequest(
            prompt, max_tokens=1, sampling=Sampling(temperature=0), cache_prompt=False, timeout_seconds=60
        )
        try:
            for _ in self._submit(request, None):
                pass
        except QueueFull:
            return None if self._scheduler.steps > steps else "The queue is full and no step was made."
        except Unsupported as error:
            return self._prove_embedding(prompt, error.message)
        except EnginebayError as error:
            return error.message
        return None

    def _prove_embedding(self, tokens: tuple[int, ...], otherwise: str) -> str | None:
        """For a model that embeds and does not generate, a vector is the proof."""
        model = self._model
        if not isinstance(model, Embeds):
            return otherwise
        try:
            self._owner.call(lambda: model.embed(tokens))
        except EnginebayError as error:
            return error.message
        return None


def capabilities(model: StepModel) -> frozenset[Capability]:
    """What the toolkit can do with this model."""
    offered: set[Capability] = {"detokenize", "grammar", "logprobs", "seed", "context_shift"}
    if isinstance(model, SavesState):
        offered |= {"save_session", "load_session"}
    if isinstance(model, Embeds):
        offered.add("embed")
    return frozenset(offered)
