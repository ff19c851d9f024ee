"""``POST /v1/messages`` and its count of tokens: Anthropic's form, over chat completions. It knows no engine."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from enginebay.data import Chunk, Finish
from enginebay.model import Model
from enginebay.tools import CallBegun, CallPiece, Piece, TextPiece
from enginebay_server.events import event
from enginebay_server.forms.messages import CountAnswer, CountRequest, MessageAnswer, MessagesRequest, as_chat
from enginebay_server.routes.answers import call_id
from enginebay_server.routes.chat import ChoiceReader, as_template_wants, chat_builds, used_tools
from enginebay_server.routes.documented import STREAMED
from enginebay_server.running import Running
from enginebay_server.service import request_id, service_of

router = APIRouter(tags=["Anthropic"])
REASONS = {"stop": "end_turn", "length": "max_tokens", "tool_calls": "tool_use"}


@router.post("/v1/messages", response_model=MessageAnswer, responses=STREAMED)
async def messages(form: MessagesRequest, request: Request) -> Response:
    """Answer a conversation."""
    service = service_of(request)
    chat = as_chat(form)
    running, started = await service.begin(request, chat.model, chat_builds(chat, service.settings.request_seconds))
    head = {"id": f"msg-{request_id(request)}", "type": "message", "role": "assistant", "model": started[0].model}
    choice = ChoiceReader(bool(used_tools(chat)))
    if form.stream:
        return service.stream(running, _events(running, head, choice), _error)
    ends: list[Finish] = []

    def take(_choice: int, chunk: Chunk, pieces: dict[int, bytes]) -> bool:
        choice.read(chunk, pieces)
        ends.extend([chunk.finish] if chunk.finish else [])
        return bool(ends)

    await service.collect(request, running, take)
    text = "".join(choice.text)
    content: list[dict[str, Any]] = [{"type": "text", "text": text}] if text or not choice.calls else []
    content += [
        {"type": "tool_use", "id": call_id(), "name": name, "input": _input("".join(arguments))}
        for name, arguments in choice.calls
    ]
    return JSONResponse({**head, "content": content, **_ending(choice, ends[0]), "usage": _usage(ends[0])})


@router.post("/v1/messages/count_tokens", response_model=CountAnswer)
async def count_tokens(form: CountRequest, request: Request) -> Response:
    """How many tokens a conversation has, with the model's own template."""
    chat = as_chat(form)

    def work(model: Model) -> int:
        return len(model.chat_tokens([as_template_wants(one) for one in chat.messages], used_tools(chat) or None))

    return JSONResponse({"input_tokens": await service_of(request).call(request, chat.model, work)})


def _input(arguments: str) -> Any:
    """Arguments as an object; those that were cut off by the limit on length stay text."""
    try:
        return json.loads(arguments)
    except ValueError:
        return {"incomplete": arguments}


def _ending(choice: ChoiceReader, finish: Finish) -> dict[str, Any]:
    reason = REASONS[choice.finish_reason or "stop"]
    return {"stop_reason": "stop_sequence" if finish.stop else reason, "stop_sequence": finish.stop}


def _usage(finish: Finish) -> dict[str, int]:
    cached = finish.usage.cached_tokens
    return {
        "input_tokens": finish.usage.prompt_tokens - cached,
        "output_tokens": finish.usage.completion_tokens,
        "cache_read_input_tokens": cached,
    }


def _error(body: dict[str, Any]) -> bytes:
    return event({"type": "error", **body}, "error")


async def _events(running: Running, head: dict[str, Any], choice: ChoiceReader) -> AsyncIterator[bytes]:
    """Blocks one after the other, each begun and ended; then how it all ended."""
    nothing = {"input_tokens": 0, "output_tokens": 0}
    message = {**head, "content": [], "stop_reason": None, "stop_sequence": None, "usage": nothing}
    yield _event("message_start", message=message)
    blocks = _Blocks()
    finish: Finish | None = None
    while finish is None:
        _, chunk, pieces = await running.next()
        out = b"".join(blocks.add(piece) for piece in choice.read(chunk, pieces))
        finish = chunk.finish
        if finish:
            out += blocks.end() + _event("message_delta", delta=_ending(choice, finish), usage=_usage(finish))
            out += _event("message_stop")
        if out:
            yield out


def _event(kind: str, **fields: Any) -> bytes:
    return event({"type": kind, **fields}, kind)


class _Blocks:
    """The content blocks of a streamed message; at most one is open."""

    def __init__(self) -> None:
        self._index = -1
        self._open: str | None = None

    def add(self, piece: Piece) -> bytes:
        match piece:
            case TextPiece(text):
                begun = b"" if self._open == "text" else self._begin("text", {"type": "text", "text": ""})
                return begun + self._delta({"type": "text_delta", "text": text})
            case CallBegun(_, name):
                return self._begin("tool_use", {"type": "tool_use", "id": call_id(), "name": name, "input": {}})
            case CallPiece(_, arguments):
                return self._delta({"type": "input_json_delta", "partial_json": arguments})

    def end(self) -> bytes:
        was, self._open = self._open, None
        return _event("content_block_stop", index=self._index) if was else b""

    def _begin(self, kind: str, block: dict[str, Any]) -> bytes:
        ended = self.end()
        self._index += 1
        self._open = kind
        return ended + _event("content_block_start", index=self._index, content_block=block)

    def _delta(self, delta: dict[str, Any]) -> bytes:
        return _event("content_block_delta", index=self._index, delta=delta)
