"""``POST /v1/responses``, without state: OpenAI's newer form, over chat completions. It knows no engine."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from enginebay.data import Chunk, Usage
from enginebay.tools import CallBegun, CallPiece, Piece, TextPiece
from enginebay_server.events import event
from enginebay_server.forms.responses import ResponsesAnswer, ResponsesRequest, as_chat
from enginebay_server.routes.answers import call_id
from enginebay_server.routes.chat import ChoiceReader, chat_builds, used_tools
from enginebay_server.routes.documented import STREAMED
from enginebay_server.running import Running
from enginebay_server.service import request_id, service_of

router = APIRouter(tags=["OpenAI"])


@router.post("/v1/responses", response_model=ResponsesAnswer, responses=STREAMED)
async def responses(form: ResponsesRequest, request: Request) -> Response:
    """Answer a conversation. Nothing is kept of it."""
    service = service_of(request)
    chat = as_chat(form)
    running, started = await service.begin(request, chat.model, chat_builds(chat, service.settings.request_seconds))
    head = {
        "id": f"resp-{request_id(request)}",
        "object": "response",
        "created_at": int(time.time()),
        "model": started[0].model,
        "error": None,
        "instructions": form.instructions,
        "parallel_tool_calls": form.parallel_tool_calls is not False,
        "tool_choice": form.model_dump(include={"tool_choice"})["tool_choice"] or "auto",
        "tools": [tool.model_dump() for tool in form.tools or ()],
        "temperature": form.temperature,
        "top_p": form.top_p,
        "store": False,
    }
    choice = ChoiceReader(bool(used_tools(chat)))
    if form.stream:
        return service.stream(running, _events(running, head, choice), _error)
    output = _Output()

    def take(_choice: int, chunk: Chunk, pieces: dict[int, bytes]) -> bool:
        for piece in choice.read(chunk, pieces):
            list(output.add(piece))
        return chunk.finish is not None

    await service.collect(request, running, take)
    list(output.end(_status(choice)))
    return JSONResponse(_whole(head, output, choice))


def _status(choice: ChoiceReader) -> str:
    return "incomplete" if choice.finish_reason == "length" else "completed"


def _whole(head: dict[str, Any], output: _Output, choice: ChoiceReader) -> dict[str, Any]:
    incomplete = {"reason": "max_output_tokens"} if choice.finish_reason == "length" else None
    ending = {"status": _status(choice), "incomplete_details": incomplete}
    return {**head, **ending, "output": output.items, "usage": _usage(choice.usage)}


def _usage(usage: Usage | None) -> dict[str, Any] | None:
    if usage is None:
        return None
    return {
        "input_tokens": usage.prompt_tokens,
        "output_tokens": usage.completion_tokens,
        "total_tokens": usage.total_tokens,
        "input_tokens_details": {"cached_tokens": usage.cached_tokens},
        "output_tokens_details": {"reasoning_tokens": 0},
    }


def _error(body: dict[str, Any]) -> bytes:
    return event({"type": "error", **body}, "error")


async def _events(running: Running, head: dict[str, Any], choice: ChoiceReader) -> AsyncIterator[bytes]:
    """Items one after the other, each begun and ended; then the whole."""
    number = -1

    def send(kind: str, **fields: Any) -> bytes:
        nonlocal number
        number += 1
        return event({"type": kind, "sequence_number": number, **fields}, kind)

    output = _Output()
    empty = {**head, "status": "in_progress", "incomplete_details": None, "output": [], "usage": None}
    yield send("response.created", response=empty) + send("response.in_progress", response=empty)
    over = False
    while not over:
        _, chunk, pieces = await running.next()
        out = [fields for piece in choice.read(chunk, pieces) for fields in output.add(piece)]
        over = chunk.finish is not None
        if over:
            out += output.end(_status(choice))
        data = b"".join(send(**fields) for fields in out)
        if over:
            data += send(f"response.{_status(choice)}", response=_whole(head, output, choice))
        if data:
            yield data


class _Output:
    """The items of an answer as they grow, and the events that tell of it. At most the last one is open."""

    def __init__(self) -> None:
        self.items: list[dict[str, Any]] = []

    def add(self, piece: Piece) -> Iterator[dict[str, Any]]:
        match piece:
            case TextPiece(text):
                if not self._open("message"):
                    yield from self.end("completed")
                    yield from self._begin({"type": "message", "role": "assistant", "content": []})
                    part = {"type": "output_text", "text": "", "annotations": []}
                    self.items[-1]["content"].append(part)
                    yield {"kind": "response.content_part.added", **self._place(), "part": {**part}}
                self.items[-1]["content"][0]["text"] += text
                yield {"kind": "response.output_text.delta", **self._place(), "delta": text, "logprobs": []}
            case CallBegun(_, name):
                yield from self.end("completed")
                yield from self._begin({"type": "function_call", "call_id": call_id(), "name": name, "arguments": ""})
            case CallPiece(_, arguments):
                self.items[-1]["arguments"] += arguments
                yield {"kind": "response.function_call_arguments.delta", **self._item(), "delta": arguments}

    def end(self, status: str) -> Iterator[dict[str, Any]]:
        """End the open item, if one is."""
        if not self.items or self.items[-1]["status"] != "in_progress":
            return
        item = self.items[-1]
        item["status"] = status
        if item["type"] == "message":
            part = item["content"][0]
            yield {"kind": "response.output_text.done", **self._place(), "text": part["text"], "logprobs": []}
            yield {"kind": "response.content_part.done", **self._place(), "part": part}
        else:
            done = {"name": item["name"], "arguments": item["arguments"]}
            yield {"kind": "response.function_call_arguments.done", **self._item(), **done}
        yield {"kind": "response.output_item.done", "output_index": len(self.items) - 1, "item": item}

    def _open(self, kind: str) -> bool:
        return bool(self.items) and self.items[-1]["type"] == kind and self.items[-1]["status"] == "in_progress"

    def _begin(self, item: dict[str, Any]) -> Iterator[dict[str, Any]]:
        self.items.append({"id": f"item_{len(self.items)}", "status": "in_progress", **item})
        shown = {**self.items[-1], **({"content": []} if item["type"] == "message" else {})}
        yield {"kind": "response.output_item.added", "output_index": len(self.items) - 1, "item": shown}

    def _item(self) -> dict[str, Any]:
        return {"item_id": self.items[-1]["id"], "output_index": len(self.items) - 1}

    def _place(self) -> dict[str, Any]:
        return {**self._item(), "content_index": 0}
