"""Responses in OpenAI's form, without state, and what they mean in the form of chat completions. It knows no engine."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from enginebay_server.forms.base import Answer, Form, Name, Text
from enginebay_server.forms.chat import ChatRequest, ToolName

_NOT_STORED = "nothing is stored."
_NO_SETTING = "no model here has such a setting."


class InputText(Form):
    REFUSED: ClassVar[dict[str, str]] = {"annotations": "nothing is annotated.", "logprobs": "send the text alone."}
    NEUTRAL: ClassVar[dict[str, tuple[Any, ...]]] = {"annotations": ([],), "logprobs": ([],)}

    type: Literal["input_text", "output_text"]
    text: Text


class InputMessage(Form):
    type: Literal["message"] = "message"
    role: Literal["user", "assistant", "system", "developer"]
    content: Text | Annotated[list[InputText], Field(max_length=1000)]
    id: Name | None = None
    status: Literal["in_progress", "completed", "incomplete"] | None = None


class InputCall(Form):
    type: Literal["function_call"]
    call_id: Name
    name: ToolName
    arguments: Text
    id: Name | None = None
    status: Literal["in_progress", "completed", "incomplete"] | None = None


class InputCallOutput(Form):
    type: Literal["function_call_output"]
    call_id: Name
    output: Text
    id: Name | None = None
    status: Literal["in_progress", "completed", "incomplete"] | None = None


class FunctionTool(Form):
    REFUSED: ClassVar[dict[str, str]] = {"strict": "arguments always match the schema."}
    NEUTRAL: ClassVar[dict[str, tuple[Any, ...]]] = {"strict": (True, False)}

    type: Literal["function"]
    name: ToolName
    description: Text | None = None
    parameters: dict[str, Any] | None = None


class NamedFunctionTool(Form):
    type: Literal["function"]
    name: ToolName


class PlainText(Form):
    type: Literal["text"]


class ObjectText(Form):
    type: Literal["json_object"]


class SchemaText(Form):
    type: Literal["json_schema"]
    name: Annotated[str, Field(max_length=256)] | None = None
    description: Text | None = None
    schema_: dict[str, Any] = Field(alias="schema")
    strict: bool | None = None


class TextOptions(Form):
    REFUSED: ClassVar[dict[str, str]] = {"verbosity": _NO_SETTING}
    NEUTRAL: ClassVar[dict[str, tuple[Any, ...]]] = {"verbosity": ("medium",)}

    format: Annotated[PlainText | ObjectText | SchemaText, Field(discriminator="type")] | None = None


class ResponsesRequest(Form):
    """One turn of a conversation. All of it is sent each time."""

    REFUSED: ClassVar[dict[str, str]] = {
        "background": "nothing is stored.",
        "conversation": _NOT_STORED,
        "include": "there is nothing more to include.",
        "max_tool_calls": "the server runs no tools.",
        "metadata": _NOT_STORED,
        "previous_response_id": "nothing is stored: send the whole conversation as input.",
        "prompt": _NOT_STORED,
        "prompt_cache_key": "prefixes are found by themselves.",
        "prompt_cache_retention": "prefixes are found by themselves.",
        "reasoning": _NO_SETTING,
        "safety_identifier": "the server has no such service.",
        "service_tier": "the server has no such service.",
        "store": _NOT_STORED,
        "top_logprobs": "ask /v1/chat/completions.",
        "truncation": "a conversation that does not fit is refused.",
    }
    NEUTRAL: ClassVar[dict[str, tuple[Any, ...]]] = {
        "background": (False,),
        "include": ([],),
        "metadata": ({},),
        "reasoning": ({},),
        "service_tier": ("auto", "default"),
        "store": (False,),
        "top_logprobs": (0,),
        "truncation": ("disabled",),
    }

    model: Name | None = None
    input: Text | Annotated[list[InputMessage | InputCall | InputCallOutput], Field(min_length=1, max_length=10_000)]
    instructions: Text | None = None
    max_output_tokens: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    temperature: Annotated[float, Field(ge=0, le=100)] | None = None
    top_p: Annotated[float, Field(ge=0, le=1)] | None = None
    tools: Annotated[list[FunctionTool], Field(max_length=128)] | None = None
    tool_choice: Literal["none", "auto", "required"] | NamedFunctionTool | None = None
    parallel_tool_calls: bool | None = None
    text: TextOptions | None = None
    stream: bool | None = None
    user: Annotated[str, Field(max_length=1024)] | None = None


class OutputText(Answer):
    type: Literal["output_text"] = "output_text"
    text: str
    annotations: list[Any] = Field(default_factory=list)


class OutputMessage(Answer):
    type: Literal["message"] = "message"
    id: str
    role: Literal["assistant"] = "assistant"
    status: Literal["in_progress", "completed", "incomplete"]
    content: list[OutputText]


class OutputCall(Answer):
    type: Literal["function_call"] = "function_call"
    id: str
    call_id: str
    name: str
    arguments: str
    status: Literal["in_progress", "completed", "incomplete"]


class CachedTokens(Answer):
    cached_tokens: int = 0


class ReasoningTokens(Answer):
    reasoning_tokens: int = 0


class ResponseUsage(Answer):
    input_tokens: int
    output_tokens: int
    total_tokens: int
    input_tokens_details: CachedTokens
    output_tokens_details: ReasoningTokens


class IncompleteDetails(Answer):
    reason: Literal["max_output_tokens"]


class ResponsesAnswer(Answer):
    """The answer to a request that does not stream."""

    id: str
    object: Literal["response"] = "response"
    created_at: int
    status: Literal["in_progress", "completed", "incomplete"]
    model: str
    output: list[OutputMessage | OutputCall]
    error: None = None
    incomplete_details: IncompleteDetails | None = None
    instructions: str | None = None
    parallel_tool_calls: bool = True
    tool_choice: Any = "auto"
    tools: list[Any] = Field(default_factory=list)
    temperature: float | None = None
    top_p: float | None = None
    store: Literal[False] = False
    usage: ResponseUsage | None = None


def as_chat(form: ResponsesRequest) -> ChatRequest:
    """The same conversation as a chat completion.

    :raises pydantic.ValidationError: it is none
    """
    messages: list[dict[str, Any]] = []
    if form.instructions:
        messages.append({"role": "system", "content": form.instructions})
    if isinstance(form.input, str):
        messages.append({"role": "user", "content": form.input})
    else:
        for item in form.input:
            _add(messages, item)
    chat: dict[str, Any] = {
        "model": form.model,
        "messages": messages,
        "max_tokens": form.max_output_tokens,
        "temperature": form.temperature,
        "top_p": form.top_p,
        "parallel_tool_calls": form.parallel_tool_calls,
    }
    if form.tools:
        chat["tools"] = [
            {"type": "function", "function": tool.model_dump(exclude={"type"}, exclude_none=True)}
            for tool in form.tools
        ]
    choice = form.tool_choice
    if isinstance(choice, NamedFunctionTool):
        chat["tool_choice"] = {"type": "function", "function": {"name": choice.name}}
    else:
        chat["tool_choice"] = choice
    if form.text and form.text.format:
        chat["response_format"] = _format(form.text.format)
    return ChatRequest.model_validate(chat)


def _format(asked: PlainText | ObjectText | SchemaText) -> dict[str, Any]:
    if isinstance(asked, SchemaText):
        schema = {"name": asked.name, "schema": asked.schema_, "strict": asked.strict}
        return {"type": "json_schema", "json_schema": schema}
    return {"type": asked.type}


def _add(messages: list[dict[str, Any]], item: InputMessage | InputCall | InputCallOutput) -> None:
    """An item as a message; calls in a row belong to one message."""
    if isinstance(item, InputMessage):
        content = item.content if isinstance(item.content, str) else "".join(part.text for part in item.content)
        messages.append({"role": item.role, "content": content})
    elif isinstance(item, InputCallOutput):
        messages.append({"role": "tool", "tool_call_id": item.call_id, "content": item.output})
    else:
        call = {"id": item.call_id, "type": "function", "function": {"name": item.name, "arguments": item.arguments}}
        if messages and messages[-1]["role"] == "assistant":
            messages[-1].setdefault("tool_calls", []).append(call)
        else:
            messages.append({"role": "assistant", "content": "", "tool_calls": [call]})
