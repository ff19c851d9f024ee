"""Messages in Anthropic's form, and what they mean in the form of chat completions. It knows no engine."""

from __future__ import annotations

import json
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from enginebay_server.forms.base import Answer, Form, Name, StopText, Text
from enginebay_server.forms.chat import ChatRequest, ToolName

_CACHE = {"cache_control": "prefixes are found by themselves."}


class TextBlock(Form):
    REFUSED: ClassVar[dict[str, str]] = {**_CACHE, "citations": "nothing is cited."}
    NEUTRAL: ClassVar[dict[str, tuple[Any, ...]]] = {"cache_control": ({"type": "ephemeral"},)}

    type: Literal["text"]
    text: Text


class ToolUseBlock(Form):
    type: Literal["tool_use"]
    id: Name
    name: ToolName
    input: dict[str, Any]


class ToolResultBlock(Form):
    type: Literal["tool_result"]
    tool_use_id: Name
    content: Text | Annotated[list[TextBlock], Field(max_length=1000)] | None = None
    is_error: bool | None = None


Block = Annotated[TextBlock | ToolUseBlock | ToolResultBlock, Field(discriminator="type")]


class Turn(Form):
    role: Literal["user", "assistant"]
    content: Text | Annotated[list[Block], Field(max_length=1000)]


class ToolForm(Form):
    REFUSED: ClassVar[dict[str, str]] = {**_CACHE, "type": "only tools of your own can be used."}
    NEUTRAL: ClassVar[dict[str, tuple[Any, ...]]] = {"cache_control": ({"type": "ephemeral"},), "type": ("custom",)}

    name: ToolName
    description: Text | None = None
    input_schema: dict[str, Any]


class ToolChoiceForm(Form):
    type: Literal["auto", "any", "tool", "none"]
    name: ToolName | None = None
    disable_parallel_tool_use: bool | None = None


class CountRequest(Form):
    """A conversation whose tokens are to be counted."""

    REFUSED: ClassVar[dict[str, str]] = {
        "thinking": "no model here has such a setting.",
        "mcp_servers": "the server fetches nothing.",
        "context_management": "nothing is stored.",
    }
    NEUTRAL: ClassVar[dict[str, tuple[Any, ...]]] = {"thinking": ({"type": "disabled"},), "mcp_servers": ([],)}

    model: Name
    messages: Annotated[list[Turn], Field(min_length=1, max_length=10_000)]
    system: Text | Annotated[list[TextBlock], Field(max_length=1000)] | None = None
    tools: Annotated[list[ToolForm], Field(max_length=128)] | None = None
    tool_choice: ToolChoiceForm | None = None


class MessageMetadata(Form):
    user_id: Annotated[str, Field(max_length=1024)] | None = None


class MessagesRequest(CountRequest):
    """One turn of a conversation."""

    REFUSED: ClassVar[dict[str, str]] = {
        **CountRequest.REFUSED,
        "container": "the server has no such service.",
        "service_tier": "the server has no such service.",
    }
    NEUTRAL: ClassVar[dict[str, tuple[Any, ...]]] = {
        **CountRequest.NEUTRAL,
        "service_tier": ("auto", "standard_only"),
    }

    max_tokens: Annotated[int, Field(ge=1, le=1_000_000)]
    stop_sequences: Annotated[list[StopText], Field(max_length=64)] | None = None
    temperature: Annotated[float, Field(ge=0, le=1)] | None = None
    top_p: Annotated[float, Field(ge=0, le=1)] | None = None
    top_k: Annotated[int, Field(ge=0, le=10_000_000)] | None = None
    stream: bool | None = None
    metadata: MessageMetadata | None = None


class TextAnswer(Answer):
    type: Literal["text"] = "text"
    text: str


class ToolUseAnswer(Answer):
    type: Literal["tool_use"] = "tool_use"
    id: str
    name: str
    input: Any


class MessageUsage(Answer):
    input_tokens: int
    output_tokens: int
    cache_read_input_tokens: int = 0


class MessageAnswer(Answer):
    """The answer to a request that does not stream."""

    id: str
    type: Literal["message"] = "message"
    role: Literal["assistant"] = "assistant"
    model: str
    content: list[TextAnswer | ToolUseAnswer]
    stop_reason: Literal["end_turn", "max_tokens", "stop_sequence", "tool_use"]
    stop_sequence: str | None
    usage: MessageUsage


class CountAnswer(Answer):
    input_tokens: int


def as_chat(form: CountRequest) -> ChatRequest:
    """The same conversation as a chat completion.

    :raises pydantic.ValidationError: it is none
    """
    chat: dict[str, Any] = {"model": form.model, "messages": _messages(form)}
    if form.tools:
        chat["tools"] = [_tool(tool) for tool in form.tools]
    choice = form.tool_choice
    if choice:
        named = {"type": "function", "function": {"name": choice.name}}
        chat["tool_choice"] = {"any": "required", "tool": named}.get(choice.type, choice.type)
        chat["parallel_tool_calls"] = not choice.disable_parallel_tool_use
    if isinstance(form, MessagesRequest):
        chat |= {"max_tokens": form.max_tokens, "stop": form.stop_sequences or None}
        chat |= {"temperature": form.temperature, "top_p": form.top_p, "top_k": form.top_k}
    return ChatRequest.model_validate(chat)


def _tool(tool: ToolForm) -> dict[str, Any]:
    function = {"name": tool.name, "description": tool.description, "parameters": tool.input_schema}
    return {"type": "function", "function": function}


def _messages(form: CountRequest) -> list[dict[str, Any]]:
    messages: list[dict[str, Any]] = []
    if form.system:
        messages.append({"role": "system", "content": _text(form.system)})
    for turn in form.messages:
        if isinstance(turn.content, str):
            messages.append({"role": turn.role, "content": turn.content})
        else:
            messages += _blocks(turn.role, turn.content)
    return messages


def _blocks(role: str, blocks: list[TextBlock | ToolUseBlock | ToolResultBlock]) -> list[dict[str, Any]]:
    """A turn of blocks: what tools said first, as messages of their own, then the text and the calls."""
    results = [block for block in blocks if isinstance(block, ToolResultBlock)]
    calls = [block for block in blocks if isinstance(block, ToolUseBlock)]
    text = "".join(block.text for block in blocks if isinstance(block, TextBlock))
    messages = [{"role": "tool", "tool_call_id": one.tool_use_id, "content": _text(one.content)} for one in results]
    message: dict[str, Any] = {"role": role, "content": text}
    if calls:
        message["tool_calls"] = [
            {"id": one.id, "type": "function", "function": {"name": one.name, "arguments": json.dumps(one.input)}}
            for one in calls
        ]
    return [*messages, message] if text or calls or not results else messages


def _text(content: str | list[TextBlock] | None) -> str:
    return content if isinstance(content, str) else "".join(block.text for block in content or ())
