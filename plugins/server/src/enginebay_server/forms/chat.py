"""Chat completions in OpenAI's form. It knows no engine."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from enginebay_server.forms.base import MAX_TEXT, Answer, Form, Name, Sampled, Text, Usage

ToolName = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[a-zA-Z0-9_.-]+$")]


class TextPart(Form):
    """A piece of a message. Other kinds than text are refused: no engine here sees or hears."""

    type: Literal["text"]
    text: Text


Content = Text | Annotated[list[TextPart], Field(max_length=1000)]


class CalledFunction(Form):
    name: ToolName
    arguments: Text


class CalledTool(Form):
    id: Name
    type: Literal["function"] = "function"
    function: CalledFunction


class InstructionMessage(Form):
    role: Literal["system", "developer"]
    content: Content
    name: Name | None = None


class UserMessage(Form):
    role: Literal["user"]
    content: Content
    name: Name | None = None


class AssistantMessage(Form):
    REFUSED: ClassVar[dict[str, str]] = {
        "audio": "no engine here hears or speaks.",
        "function_call": "use tool_calls.",
        "refusal": "send it as content.",
        "annotations": "nothing is annotated.",
    }
    NEUTRAL: ClassVar[dict[str, tuple[Any, ...]]] = {"annotations": ([],)}

    role: Literal["assistant"]
    content: Content | None = None
    name: Name | None = None
    tool_calls: Annotated[list[CalledTool], Field(max_length=128)] | None = None


class ToolMessage(Form):
    role: Literal["tool"]
    content: Content
    tool_call_id: Name
    name: Name | None = None


Message = Annotated[InstructionMessage | UserMessage | AssistantMessage | ToolMessage, Field(discriminator="role")]


class Function(Form):
    REFUSED: ClassVar[dict[str, str]] = {"strict": "arguments always match the schema."}
    NEUTRAL: ClassVar[dict[str, tuple[Any, ...]]] = {"strict": (True, False)}

    name: ToolName
    description: Annotated[str, Field(max_length=MAX_TEXT)] | None = None
    parameters: dict[str, Any] | None = None


class Tool(Form):
    type: Literal["function"]
    function: Function


class NamedFunction(Form):
    name: ToolName


class NamedTool(Form):
    type: Literal["function"]
    function: NamedFunction


class JsonSchemaFormat(Form):
    name: Annotated[str, Field(max_length=256)] | None = None
    description: Text | None = None
    schema_: dict[str, Any] = Field(alias="schema")
    strict: bool | None = None


class PlainFormat(Form):
    type: Literal["text"]


class ObjectFormat(Form):
    type: Literal["json_object"]


class SchemaFormat(Form):
    type: Literal["json_schema"]
    json_schema: JsonSchemaFormat


ResponseFormat = Annotated[PlainFormat | ObjectFormat | SchemaFormat, Field(discriminator="type")]

_ALWAYS = "the server has no such service."


class ChatRequest(Sampled):
    """One turn of a conversation."""

    REFUSED: ClassVar[dict[str, str]] = {
        "audio": "no engine here speaks.",
        "modalities": "only text is made.",
        "functions": "use tools.",
        "function_call": "use tool_choice.",
        "metadata": "nothing is stored.",
        "moderation": _ALWAYS,
        "prediction": _ALWAYS,
        "prompt_cache_key": "prefixes are found by themselves.",
        "prompt_cache_options": "prefixes are found by themselves.",
        "prompt_cache_retention": "prefixes are found by themselves.",
        "reasoning_effort": "no model here has such a setting.",
        "safety_identifier": _ALWAYS,
        "service_tier": _ALWAYS,
        "store": "nothing is stored.",
        "verbosity": "no model here has such a setting.",
        "web_search_options": "the server fetches nothing.",
        "best_of": "it is a field of completions only.",
        "echo": "it is a field of completions only.",
        "suffix": "it is a field of completions only.",
    }
    NEUTRAL: ClassVar[dict[str, tuple[Any, ...]]] = {
        "modalities": (["text"],),
        "metadata": ({},),
        "service_tier": ("auto", "default"),
        "store": (False,),
        "reasoning_effort": ("none",),
    }

    messages: Annotated[list[Message], Field(min_length=1, max_length=10_000)]
    max_tokens: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    max_completion_tokens: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    response_format: ResponseFormat | None = None
    tools: Annotated[list[Tool], Field(max_length=128)] | None = None
    tool_choice: Literal["none", "auto", "required"] | NamedTool | None = None
    parallel_tool_calls: bool | None = None

    @model_validator(mode="after")
    def _consistent(self) -> ChatRequest:
        if self.max_tokens is not None and self.max_completion_tokens not in (None, self.max_tokens):
            raise ValueError("max_tokens and max_completion_tokens say different things")
        if self.top_logprobs and not self.logprobs:
            raise ValueError("top_logprobs needs logprobs to be true")
        names = [tool.function.name for tool in self.tools or ()]
        if len(set(names)) < len(names):
            raise ValueError("tools: two tools have the same name")
        if isinstance(self.tool_choice, NamedTool) and self.tool_choice.function.name not in names:
            raise ValueError(f"tool_choice: {self.tool_choice.function.name} is not among the tools")
        if self.tool_choice == "required" and not names:
            raise ValueError("tool_choice: required, and there are no tools")
        if names and self.tool_choice != "none":
            format_ = self.response_format
            if self.grammar or self.regex or self.choice or (format_ is not None and format_.type != "text"):
                raise ValueError("tools exclude response_format, grammar, regex and choice, unless tool_choice is none")
        return self


class TopLogprob(Answer):
    token: str
    logprob: float
    bytes: list[int]


class TokenLogprob(TopLogprob):
    top_logprobs: list[TopLogprob]


class ChatLogprobs(Answer):
    content: list[TokenLogprob]
    refusal: None = None


class AnswerFunction(Answer):
    name: str
    arguments: str


class AnswerTool(Answer):
    id: str
    type: Literal["function"] = "function"
    function: AnswerFunction


class AnswerMessage(Answer):
    role: Literal["assistant"] = "assistant"
    content: str | None
    refusal: None = None
    tool_calls: list[AnswerTool] | None = None


FinishReason = Literal["stop", "length", "tool_calls"]


class ChatChoice(Answer):
    index: int
    message: AnswerMessage
    logprobs: ChatLogprobs | None = None
    finish_reason: FinishReason


class ChatCompletion(Answer):
    """The answer to a request that does not stream."""

    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    system_fingerprint: str
    choices: list[ChatChoice]
    usage: Usage
