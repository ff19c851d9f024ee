"""``POST /v1/chat/completions``. It knows no engine."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator, Sequence
from typing import Any

from attrs import define, field
from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from enginebay.data import Chunk, Usage
from enginebay.model import Model
from enginebay.tools import CallBegun, CallPiece, Piece, TextPiece, ToolCallReader
from enginebay_server import generation
from enginebay_server.events import event
from enginebay_server.forms.chat import (
    AssistantMessage,
    ChatCompletion,
    ChatRequest,
    Message,
    NamedTool,
    ToolMessage,
)
from enginebay_server.routes.answers import call_id, ended, fingerprint, finished, usage_of
from enginebay_server.routes.documented import STREAMED
from enginebay_server.running import Build, Running
from enginebay_server.service import request_id, service_of

router = APIRouter(tags=["OpenAI"])


@router.post("/v1/chat/completions", response_model=ChatCompletion, responses=STREAMED)
async def chat_completions(form: ChatRequest, request: Request) -> Response:
    """Answer a conversation."""
    service = service_of(request)
    running, started = await service.begin(request, form.model, chat_builds(form, service.settings.request_seconds))
    head = {
        "id": f"chatcmpl-{request_id(request)}",
        "created": int(time.time()),
        "model": started[0].model,
        "system_fingerprint": fingerprint(started[0]),
    }
    calling = bool(used_tools(form))
    if form.stream:
        usage = bool(form.stream_options and form.stream_options.include_usage)
        return service.stream(running, chat_events(running, head, len(started), calling=calling, usage=usage))
    choices = [ChoiceReader(calling) for _ in started]
    await service.collect(request, running, lambda i, chunk, pieces: take(choices, i, chunk, pieces))
    body = {
        "object": "chat.completion",
        **head,
        "choices": [
            {
                "index": i,
                "message": choice.message(),
                "logprobs": {"content": choice.logprobs, "refusal": None} if form.logprobs else None,
                "finish_reason": choice.finish_reason,
            }
            for i, choice in enumerate(choices)
        ],
        "usage": usage_form(choices),
    }
    return JSONResponse(body)


# --- asking -----------------------------------------------------------------------------------------------------------


def chat_builds(form: ChatRequest, timeout_seconds: float) -> tuple[Build, ...]:
    """How the choices of a chat request are built."""
    messages = [as_template_wants(message) for message in form.messages]
    tools = used_tools(form)
    if tools:
        choice = form.tool_choice or "auto"
        wanted = choice.function.name if isinstance(choice, NamedTool) else choice
        constrain = generation.tools_constraint(tools, wanted, parallel=form.parallel_tool_calls is not False)
    else:
        constrain = generation.constraint(form, form.response_format)
    given = generation.options(
        form,
        max_tokens=form.max_completion_tokens or form.max_tokens,
        logprobs=(form.top_logprobs or 0) if form.logprobs else None,
        timeout_seconds=timeout_seconds,
    )

    def prompt(model: Model) -> Sequence[int]:
        return model.chat_tokens(messages, tools or None)

    return generation.builds([prompt], form.n or 1, constrain, given)


def used_tools(form: ChatRequest) -> list[dict[str, Any]]:
    """The tools that may be called."""
    tools = form.tools if form.tools and form.tool_choice != "none" else ()
    return [tool.model_dump(exclude_none=True) for tool in tools]


def as_template_wants(message: Message) -> dict[str, Any]:
    """A message in the words of chat templates: content is text, arguments are objects."""
    content = message.content
    text = content if isinstance(content, str | None) else "".join(part.text for part in content)
    plain: dict[str, Any] = {"role": "system" if message.role == "developer" else message.role, "content": text or ""}
    if message.name:
        plain["name"] = message.name
    if isinstance(message, ToolMessage):
        plain["tool_call_id"] = message.tool_call_id
    if isinstance(message, AssistantMessage) and message.tool_calls:
        plain["tool_calls"] = [
            {
                "id": call.id,
                "type": "function",
                "function": {"name": call.function.name, "arguments": _arguments(call.function.arguments)},
            }
            for call in message.tool_calls
        ]
    return plain


def _arguments(text: str) -> Any:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return text
    return value if isinstance(value, dict) else text


# --- answering --------------------------------------------------------------------------------------------------------


@define
class ChoiceReader:
    """One choice, as it comes: its text, its calls if there are tools, and how it ended."""

    calling: bool
    tools: ToolCallReader = field(factory=ToolCallReader)
    text: list[str] = field(factory=list)
    calls: list[tuple[str, list[str]]] = field(factory=list)
    logprobs: list[dict[str, Any]] = field(factory=list)
    usage: Usage | None = None
    finish_reason: str | None = None

    def read(self, chunk: Chunk, pieces: dict[int, bytes]) -> list[Piece]:
        """What a chunk adds.

        :raises Refusal: the request was cancelled
        """
        added: list[Piece] = [TextPiece(chunk.text)] if chunk.text else []
        if self.calling:
            added = list(self.tools.feed(chunk.text))
        if chunk.finish:
            added += self.tools.end()
            self.usage = chunk.finish.usage
            self.finish_reason = finished(chunk.finish.reason)
            if self.finish_reason == "stop" and self.tools.calls:
                self.finish_reason = "tool_calls"
        for piece in added:
            match piece:
                case TextPiece(text):
                    self.text.append(text)
                case CallBegun(_, name):
                    self.calls.append((name, []))
                case CallPiece(call, arguments):
                    self.calls[call][1].append(arguments)
        self.logprobs += logprobs_form(chunk, pieces)
        return added

    def message(self) -> dict[str, Any]:
        """The whole message."""
        text = "".join(self.text)
        message: dict[str, Any] = {"role": "assistant", "content": text, "refusal": None}
        if self.calls:
            message["content"] = text or None
            message["tool_calls"] = [
                {"id": call_id(), "type": "function", "function": {"name": name, "arguments": "".join(arguments)}}
                for name, arguments in self.calls
            ]
        return message


def take(choices: list[ChoiceReader], i: int, chunk: Chunk, pieces: dict[int, bytes]) -> bool:
    """Read a chunk into its choice; True when all have ended."""
    choices[i].read(chunk, pieces)
    return ended(choices)


def usage_form(choices: Sequence[Any]) -> dict[str, Any]:
    """Tokens of a prompt that several choices share, counted once, and of all choices."""
    used = [choice.usage for choice in choices if choice.usage]
    return usage_of(used[0].prompt_tokens, sum(one.completion_tokens for one in used), used[0].cached_tokens)


def logprobs_form(chunk: Chunk, pieces: dict[int, bytes]) -> list[dict[str, Any]]:
    """Log-probabilities in the form of chat completions."""
    return [
        {
            **_token(pieces[one.token], one.logprob),
            "top_logprobs": [_token(pieces[token], logprob) for token, logprob in one.top],
        }
        for one in chunk.logprobs
    ]


def _token(piece: bytes, logprob: float) -> dict[str, Any]:
    return {"token": piece.decode("utf-8", "replace"), "logprob": max(logprob, -9999.0), "bytes": list(piece)}


async def chat_events(
    running: Running, head: dict[str, Any], n: int, *, calling: bool, usage: bool
) -> AsyncIterator[bytes]:
    """The events of a streamed answer: role first, the finish reason last, then the usage and ``[DONE]``."""
    choices = [ChoiceReader(calling) for _ in range(n)]
    base = {"object": "chat.completion.chunk", **head}

    def one(i: int, delta: dict[str, Any], finish: str | None = None, logprobs: Any = None) -> bytes:
        choice = {"index": i, "delta": delta, "logprobs": logprobs, "finish_reason": finish}
        return event({**base, "choices": [choice], **({"usage": None} if usage else {})})

    yield b"".join(one(i, {"role": "assistant", "content": ""}) for i in range(n))
    while not ended(choices):
        i, chunk, pieces = await running.next()
        added = choices[i].read(chunk, pieces)
        logprobs = {"content": logprobs_form(chunk, pieces), "refusal": None} if chunk.logprobs else None
        out = []
        for piece in added:
            out.append(one(i, _delta(piece), logprobs=logprobs))
            logprobs = None
        if chunk.finish:
            out.append(one(i, {}, choices[i].finish_reason, logprobs))
        elif logprobs:
            out.append(one(i, {"content": ""}, logprobs=logprobs))
        if out:
            yield b"".join(out)
    if usage:
        yield event({**base, "choices": [], "usage": usage_form(choices)})
    yield b"data: [DONE]\n\n"


def _delta(piece: Piece) -> dict[str, Any]:
    match piece:
        case TextPiece(text):
            return {"content": text}
        case CallBegun(call, name):
            function = {"name": name, "arguments": ""}
            return {"tool_calls": [{"index": call, "id": call_id(), "type": "function", "function": function}]}
        case CallPiece(call, arguments):
            return {"tool_calls": [{"index": call, "function": {"arguments": arguments}}]}
