"""Plain completions in OpenAI's form. It knows no engine."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from enginebay_server.forms.base import MAX_CHOICES, Answer, Sampled, Text, TokenIds, Usage
from enginebay_server.forms.chat import FinishReason, ResponseFormat

MAX_PROMPTS = 16
Prompt = (
    Text
    | TokenIds
    | Annotated[list[Text], Field(min_length=1, max_length=MAX_PROMPTS)]
    | Annotated[list[TokenIds], Field(min_length=1, max_length=MAX_PROMPTS)]
)


class CompletionRequest(Sampled):
    """A text to be continued, or several."""

    REFUSED: ClassVar[dict[str, str]] = {
        "best_of": "ask for n choices, and choose.",
        "echo": "the answer is what follows the prompt.",
        "suffix": "no engine here fills in the middle.",
    }
    NEUTRAL: ClassVar[dict[str, tuple[Any, ...]]] = {"best_of": (1,), "echo": (False,)}

    prompt: Prompt
    max_tokens: Annotated[int, Field(ge=1, le=1_000_000)] | None = Field(None, description="16 if left out.")
    logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    response_format: ResponseFormat | None = None

    @model_validator(mode="after")
    def _few_choices(self) -> CompletionRequest:
        if len(prompts_of(self.prompt)) * (self.n or 1) > MAX_CHOICES:
            raise ValueError(f"n: prompts and n together ask for more than {MAX_CHOICES} choices")
        return self


def prompts_of(prompt: str | list[Any]) -> list[str | list[int]]:
    """Each prompt of one form or another: a text or token ids."""
    if isinstance(prompt, str) or (prompt and isinstance(prompt[0], int)) or not prompt:
        return [prompt]
    return prompt


class CompletionLogprobs(Answer):
    tokens: list[str]
    token_logprobs: list[float]
    top_logprobs: list[dict[str, float]]
    text_offset: list[int]


class CompletionChoice(Answer):
    index: int
    text: str
    logprobs: CompletionLogprobs | None = None
    finish_reason: FinishReason | None


class Completion(Answer):
    """The answer to a request that does not stream. Streamed events have the same form."""

    id: str
    object: Literal["text_completion"] = "text_completion"
    created: int
    model: str
    system_fingerprint: str
    choices: list[CompletionChoice]
    usage: Usage | None = None
