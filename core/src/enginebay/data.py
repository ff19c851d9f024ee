"""The values that cross the contract: frozen, checked, without behaviour. They know no engine, file or thread."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, TypeAlias

from attrs import Attribute, field, frozen

CONTRACT_VERSION = 1
"""The version of the hooks and values in this module. A plugin declares the range that it was written for."""

FinishReason: TypeAlias = Literal["stop", "length", "cancelled", "tool_calls"]
Isolation: TypeAlias = Literal["inline", "process"]
Capability: TypeAlias = Literal[
    "detokenize", "grammar", "logprobs", "seed", "embed", "rerank", "save_session", "load_session", "context_shift"
]

MAX_TOKENS = 1_000_000


def bounded(low: float, high: float) -> Callable[[Any, Attribute[Any], Any], None]:
    """An attrs validator: ``None``, or a number within ``low`` and ``high`` (both allowed; NaN is not)."""

    def check(_instance: object, attribute: Attribute[Any], value: Any) -> None:
        if value is not None and not low <= value <= high:
            raise ValueError(f"{attribute.name}: expected {low:,} to {high:,}, got {value:,}")

    return check


# --- what a plugin says of itself ---------------------------------------------------------------------------------


@frozen
class ModelFormat:
    """A form of model on disk. A path has this form if it is a file or folder whose names match.

    ``file`` is a pattern for a single file's name (``*.gguf``); ``folder`` the patterns that a folder must hold, each once
    or more. ``magic`` is what a single file begins with, and decides before the name does.
    """

    name: str
    file: str | None = None
    folder: tuple[str, ...] = ()
    magic: bytes = b""


@frozen
class NoOptions:
    """The options of an engine that has none."""


@frozen
class EngineInfo:
    """What a plugin module declares in its attribute ``engine``; reading it loads no native library."""

    name: str
    summary: str
    formats: tuple[ModelFormat, ...]
    options: type = NoOptions
    contract: tuple[int, int] = (1, 1)
    isolation: Isolation = "inline"


@frozen
class Device:
    """A device that an engine can compute on. ``memory_bytes`` is None where it is not known."""

    name: str
    kind: Literal["cpu", "gpu"]
    memory_bytes: int | None = None


@frozen
class Health:
    """What an engine says of itself on this machine, or a loaded model of itself. ``hint`` is a command that mends it."""

    healthy: bool
    library: str
    version: str | None = None
    reason: str | None = None
    hint: str | None = None
    devices: tuple[Device, ...] = ()
    capabilities: frozenset[Capability] = frozenset()


# --- loading --------------------------------------------------------------------------------------------------------


@frozen
class LoadRequest:
    """A model to load, from local paths only. ``options`` is an instance of the engine's options class.

    ``context_tokens`` is per sequence (None: the model's own, at most 8,192). ``sequences`` is how many are decoded together
    (None: the engine's choice). ``queue_requests`` bounds how many may wait; ``cache_bytes`` bounds idle prefixes.
    """

    path: Path
    format: str
    options: Any = field(factory=NoOptions)
    context_tokens: int | None = field(default=None, validator=bounded(8, 16_777_216))
    sequences: int | None = field(default=None, validator=bounded(1, 256))
    queue_requests: int = field(default=256, validator=bounded(0, 100_000))
    cache_bytes: int = field(default=1 << 30, validator=bounded(0, 1 << 50))


@frozen
class MemoryEstimate:
    """What loading a model will take, from its files' own numbers, and the ``arithmetic`` in words."""

    weights_bytes: int
    cache_bytes: int
    arithmetic: str

    @property
    def total_bytes(self) -> int:
        return self.weights_bytes + self.cache_bytes


@frozen
class ModelInfo:
    """What is known of a loaded model. Two models with one ``vocabulary_fingerprint`` give a token the same bytes.

    ``prefix_tokens`` are those that the model's tokenizer puts before plain text (a BOS token, or none).
    ``special_text`` maps names such as ``bos_token`` and ``eos_token`` to their text, for the chat template.
    """

    engine: str
    path: Path
    format: str
    context_tokens: int
    sequences: int
    vocabulary_tokens: int
    vocabulary_fingerprint: str
    end_tokens: frozenset[int]
    prefix_tokens: tuple[int, ...] = ()
    chat_template: str | None = None
    special_text: Mapping[str, str] = field(factory=dict)
    capabilities: frozenset[Capability] = frozenset()
    notes: tuple[str, ...] = ()


# --- constraints ------------------------------------------------------------------------------------------------------


@frozen
class JsonSchema:
    """JSON that a JSON Schema (2020-12) accepts. ``strict=False`` drops what cannot be enforced, and says so."""

    schema: Mapping[str, Any] | bool
    strict: bool = True


@frozen
class JsonObject:
    """Any JSON object."""


@frozen
class Regex:
    """The whole output matches a regular expression in Rust syntax."""

    pattern: str


@frozen
class Gbnf:
    """The output matches a grammar in llama.cpp's GBNF."""

    source: str


@frozen
class Lark:
    """The output matches a grammar in llguidance's dialect of Lark."""

    source: str


@frozen
class Choice:
    """The output is exactly one of ``options``."""

    options: tuple[str, ...]


@frozen
class Rules:
    """A grammar as rules: ``root`` names the first; each rule is a list of GBNF alternatives."""

    root: str
    rules: Mapping[str, tuple[str, ...]]


Constraint: TypeAlias = JsonSchema | JsonObject | Regex | Gbnf | Lark | Choice | Rules


@frozen
class AppliedConstraint:
    """What was enforced: the constraint's kind, who compiled it, what was dropped (only when not strict), the verdict.

    ``valid`` is the verdict of a check of the finished text, where one was made.
    """

    kind: str
    compiler: str
    warnings: tuple[str, ...] = ()
    valid: bool | None = None


# --- generating -------------------------------------------------------------------------------------------------------


@frozen
class Sampling:
    """How a token is drawn. The order is: penalties, DRY, bias, constraint, top-n-sigma, top-k, typical, top-p, min-p,
    XTC, temperature, draw.

    ``temperature=0`` is greedy. ``top_k=0``, ``top_p=1``, ``min_p=0`` and ``repeat_penalty=1`` switch a filter off;
    what follows ``seed`` is off as it is. A window is how many of the last tokens are seen (0: all of them), and
    ``dry_breakers`` are tokens that a repetition does not cross. ``seed=None`` draws one; the result tells which.
    """

    temperature: float = field(default=0.8, validator=bounded(0.0, 100.0))
    top_k: int = field(default=40, validator=bounded(0, 10_000_000))
    top_p: float = field(default=0.95, validator=bounded(0.0, 1.0))
    min_p: float = field(default=0.05, validator=bounded(0.0, 1.0))
    repeat_penalty: float = field(default=1.0, validator=bounded(0.01, 100.0))
    frequency_penalty: float = field(default=0.0, validator=bounded(-100.0, 100.0))
    presence_penalty: float = field(default=0.0, validator=bounded(-100.0, 100.0))
    repeat_window_tokens: int = field(default=64, validator=bounded(0, MAX_TOKENS))
    logit_bias: Mapping[int, float] = field(factory=dict)
    seed: int | None = field(default=None, validator=bounded(0, 2**64 - 1))
    top_n_sigma: float = field(default=0.0, validator=bounded(0.0, 1000.0))
    typical_p: float = field(default=1.0, validator=bounded(0.0, 1.0))
    xtc_probability: float = field(default=0.0, validator=bounded(0.0, 1.0))
    xtc_threshold: float = field(default=0.1, validator=bounded(0.0, 1.0))
    dry_multiplier: float = field(default=0.0, validator=bounded(0.0, 100.0))
    dry_base: float = field(default=1.75, validator=bounded(1.0, 100.0))
    dry_allowed_tokens: int = field(default=2, validator=bounded(1, MAX_TOKENS))
    dry_window_tokens: int = field(default=0, validator=bounded(0, MAX_TOKENS))
    dry_breakers: frozenset[int] = frozenset()

    @logit_bias.validator
    def _finite_bias(self, _attribute: Attribute[Any], value: Mapping[int, float]) -> None:
        for token, bias in value.items():
            if token < 0 or not -1e6 <= bias <= 1e6:
                raise ValueError(f"logit_bias: expected -1,000,000 to 1,000,000 for a token, got {token}: {bias}")


@frozen
class GenerateRequest:
    """One sequence to generate. ``prompt`` is token ids; ``resume`` is what was generated before and is continued.

    A resumed request gives the chunks that follow, as if it had never been interrupted: limits, penalties, draws,
    stop strings and the constraint all count ``resume`` as generated. ``logprobs`` is how many alternatives to report for
    each token (0: the token's own only; None: none). ``context="shift"`` drops the oldest half beyond the first
    ``keep_tokens`` when the context is full.
    """

    prompt: tuple[int, ...]
    max_tokens: int | None = field(default=None, validator=bounded(1, MAX_TOKENS))
    sampling: Sampling = field(factory=Sampling)
    stop: tuple[str, ...] = field(default=())
    constraint: Constraint | None = None
    logprobs: int | None = field(default=None, validator=bounded(0, 100))
    ignore_end: bool = False
    cache_prompt: bool = True
    context: Literal["error", "shift"] = "error"
    keep_tokens: int = field(default=0, validator=bounded(0, MAX_TOKENS))
    priority: Literal["interactive", "batch"] = "interactive"
    timeout_seconds: float | None = field(default=None, validator=bounded(0.001, 1e7))
    resume: tuple[int, ...] = ()
    request_id: str = ""

    @stop.validator
    def _usable_stop(self, _attribute: Attribute[Any], value: tuple[str, ...]) -> None:
        if len(value) > 64 or any(not text or len(text) > 4096 for text in value):
            raise ValueError("stop: expected at most 64 strings of 1 to 4,096 characters")


@frozen
class TokenLogprob:
    """A token's natural log-probability from the unmodified logits, and the ``top`` alternatives, best first."""

    token: int
    logprob: float
    top: tuple[tuple[int, float], ...] = ()


@frozen
class Usage:
    """Tokens: of the prompt, generated, and those of the prompt that were not computed again."""

    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int = 0

    @property
    def total_tokens(self) -> int:
        return self.prompt_tokens + self.completion_tokens


@frozen
class Timings:
    """Seconds spent waiting, on the prompt and on generating, and the rates that follow."""

    queue_seconds: float
    prompt_seconds: float
    generation_seconds: float
    first_token_seconds: float
    prompt_tokens_per_second: float
    generated_tokens_per_second: float


@frozen
class Finish:
    """How a sequence ended. ``stop`` is the stop string that matched; ``shifted_tokens`` left the context on the way."""

    reason: FinishReason
    usage: Usage
    timings: Timings
    stop: str | None = None
    constraint: AppliedConstraint | None = None
    shifted_tokens: int = 0


@frozen
class Chunk:
    """What one or more steps added. ``text`` may lag behind ``tokens``: a character or a stop string may be unfinished.

    ``text`` depends on the tokens alone. Only the last chunk has ``finish``.
    """

    text: str = ""
    tokens: tuple[int, ...] = ()
    logprobs: tuple[TokenLogprob, ...] = ()
    finish: Finish | None = None


# --- catalogues -------------------------------------------------------------------------------------------------------


@frozen
class Artifact:
    """One form of a logical model: a local ``path``."""

    format: str
    path: Path


@frozen
class CatalogueModel:
    """A logical model: one name, one artifact for each format."""

    name: str
    summary: str
    artifacts: tuple[Artifact, ...]
