"""What all forms share: strict types, no unknown fields, fields that are refused by name. It knows no endpoint."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

MAX_TEXT = 8 * 1024 * 1024
MAX_PROMPT_TOKENS = 1_000_000
MAX_TOKEN_ID = 2**31 - 1
MAX_SOURCE = 64 * 1024
MAX_CHOICES = 16

Name = Annotated[str, Field(min_length=1, max_length=256)]
Text = Annotated[str, Field(max_length=MAX_TEXT)]
Source = Annotated[str, Field(min_length=1, max_length=MAX_SOURCE)]
TokenId = Annotated[int, Field(ge=0, le=MAX_TOKEN_ID)]
TokenIds = Annotated[list[TokenId], Field(max_length=MAX_PROMPT_TOKENS)]
StopText = Annotated[str, Field(min_length=1, max_length=4096)]


class Form(BaseModel):
    """Anything that a client sends. Nothing is coerced and nothing is ignored."""

    model_config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False, protected_namespaces=())

    REFUSED: ClassVar[dict[str, str]] = {}
    """Fields of the API that this server does not honour, and why. Null counts as not given."""

    NEUTRAL: ClassVar[dict[str, tuple[Any, ...]]] = {}
    """Values of refused fields that ask for nothing, and are let through."""

    @model_validator(mode="before")
    @classmethod
    def _refuse_by_name(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        for name in cls.REFUSED.keys() & data.keys():
            value = data[name]
            if value is not None and not any(
                value == neutral and type(value) is type(neutral) for neutral in cls.NEUTRAL.get(name, ())
            ):
                raise ValueError(f"{name} is not supported: {cls.REFUSED[name]}")
        return {name: value for name, value in data.items() if name not in cls.REFUSED}


class Answer(BaseModel):
    """Anything that the server says."""

    model_config = ConfigDict(protected_namespaces=())


class ErrorBody(Answer):
    """What failed, whose fault it is, and which field it is about."""

    message: str
    type: str
    param: str | None
    code: str


class ErrorAnswer(Answer):
    """Every error has this form, whatever its status."""

    error: ErrorBody


def _bias_keys(value: Any) -> Any:
    """The keys of ``logit_bias`` are token ids, written as text because JSON has no others."""
    if not isinstance(value, dict):
        return value
    for key in value:
        if not (isinstance(key, str) and key.isascii() and key.isdigit() and len(key) <= 10):
            raise ValueError('expected token ids as keys, such as "42"')
    return {int(key): bias for key, bias in value.items()}


Bias = Annotated[float, Field(ge=-1e6, le=1e6)]
LogitBias = Annotated[
    dict[TokenId, Bias],
    BeforeValidator(_bias_keys, json_schema_input_type=dict[Annotated[str, Field(pattern="^[0-9]{1,10}$")], Bias]),
    Field(max_length=100_000),
]


class StreamOptions(Form):
    """``include_usage``: one more chunk before ``[DONE]``, with the tokens that were used."""

    REFUSED: ClassVar[dict[str, str]] = {"include_obfuscation": "nothing is added to chunks."}
    NEUTRAL: ClassVar[dict[str, tuple[Any, ...]]] = {"include_obfuscation": (False,)}

    include_usage: bool | None = None


class Sampled(Form):
    """Fields of every endpoint that generates: what draws a token, what ends the text, what it must match."""

    model: Name | None = Field(None, description="A name that /v1/models lists. Left out: the current model.")
    temperature: Annotated[float, Field(ge=0, le=100)] | None = Field(None, description="0 is greedy.")
    top_p: Annotated[float, Field(ge=0, le=1)] | None = None
    top_k: Annotated[int, Field(ge=0, le=10_000_000)] | None = Field(None, description="0: all.")
    min_p: Annotated[float, Field(ge=0, le=1)] | None = None
    repeat_penalty: Annotated[float, Field(ge=0.01, le=100)] | None = Field(None, description="1 is off.")
    frequency_penalty: Annotated[float, Field(ge=-100, le=100)] | None = None
    presence_penalty: Annotated[float, Field(ge=-100, le=100)] | None = None
    logit_bias: LogitBias | None = None
    seed: Annotated[int, Field(ge=-(2**63), le=2**64 - 1)] | None = None
    stop: StopText | Annotated[list[StopText], Field(max_length=64)] | None = None
    n: Annotated[int, Field(ge=1, le=MAX_CHOICES)] | None = Field(None, description="How many choices.")
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    user: Annotated[str, Field(max_length=1024)] | None = Field(None, description="Accepted, and not used.")
    grammar: Source | None = Field(None, description="The output matches this grammar in GBNF.")
    regex: Source | None = Field(None, description="The whole output matches this expression.")
    choice: (
        Annotated[list[Annotated[str, Field(min_length=1, max_length=4096)]], Field(min_length=1, max_length=1000)]
        | None
    ) = Field(None, description="The output is one of these.")
    cache_prompt: bool | None = Field(None, description="Keep and use computed prefixes. On unless false.")

    @model_validator(mode="after")
    def _one_constraint(self) -> Sampled:
        given = [name for name in ("grammar", "regex", "choice") if getattr(self, name) is not None]
        if getattr(getattr(self, "response_format", None), "type", "text") != "text":
            given.append("response_format")
        if len(given) > 1:
            raise ValueError(f"give one of {', '.join(given)}: they exclude each other")
        if self.stream_options is not None and not self.stream:
            raise ValueError("stream_options needs stream to be true")
        return self


class Usage(Answer):
    """Tokens of the prompt and of the answer; ``cached_tokens`` of the prompt were not computed again."""

    class Details(Answer):
        cached_tokens: int = 0

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: Details = Field(default_factory=Details)


Role = Literal["system", "developer", "user", "assistant", "tool"]
