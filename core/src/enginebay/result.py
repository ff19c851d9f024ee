"""What a caller gets back: the chunks of a request put together. It knows no engine."""

from __future__ import annotations

from attrs import field, frozen

from enginebay.data import AppliedConstraint, Chunk, FinishReason, Timings, TokenLogprob, Usage
from enginebay.errors import ContractError


@frozen
class Result:
    """A finished generation.

    ``tokens`` are all that were drawn, an end token included; ``text`` is theirs, cut before a stop string and without
    control tokens. ``seed`` repeats the draws. ``constraint`` tells what was enforced, if anything was asked.
    """

    text: str
    tokens: tuple[int, ...] = field(repr=False)
    finish_reason: FinishReason
    usage: Usage
    timings: Timings = field(repr=False)
    engine: str
    seed: int | None = None
    stop: str | None = None
    logprobs: tuple[TokenLogprob, ...] = field(default=(), repr=False)
    constraint: AppliedConstraint | None = None
    shifted_tokens: int = 0


class Collector:
    """Takes chunks and makes the result of them."""

    def __init__(self, engine: str, seed: int | None) -> None:
        self._engine = engine
        self._seed = seed
        self._text: list[str] = []
        self._tokens: list[int] = []
        self._logprobs: list[TokenLogprob] = []
        self._last: Chunk | None = None

    def add(self, chunk: Chunk) -> None:
        self._text.append(chunk.text)
        self._tokens.extend(chunk.tokens)
        self._logprobs.extend(chunk.logprobs)
        self._last = chunk

    def result(self) -> Result:
        """The whole.

        :raises ContractError: the engine's last chunk had no ``finish``
        """
        finish = self._last.finish if self._last else None
        if finish is None:
            raise ContractError(
                f"{self._engine} ended a stream without saying how.", engine=self._engine, hook="generate"
            )
        return Result(
            text="".join(self._text),
            tokens=tuple(self._tokens),
            finish_reason=finish.reason,
            usage=finish.usage,
            timings=finish.timings,
            engine=self._engine,
            seed=self._seed,
            stop=finish.stop,
            logprobs=tuple(self._logprobs),
            constraint=finish.constraint,
            shifted_tokens=finish.shifted_tokens,
        )
