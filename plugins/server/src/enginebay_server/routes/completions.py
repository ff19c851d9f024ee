"""``POST /v1/completions``. It knows no engine."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Sequence
from typing import Any

from attrs import define, field
from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from enginebay.data import Chunk, Usage
from enginebay.model import Model
from enginebay_server import generation
from enginebay_server.events import event
from enginebay_server.forms.completion import Completion, CompletionRequest, prompts_of
from enginebay_server.routes.answers import ended, fingerprint, finished, usage_of
from enginebay_server.routes.documented import STREAMED
from enginebay_server.running import Build, Running
from enginebay_server.service import request_id, service_of

router = APIRouter(tags=["OpenAI"])
USUAL_MAX_TOKENS = 16


@router.post("/v1/completions", response_model=Completion, responses=STREAMED)
async def completions(form: CompletionRequest, request: Request) -> Response:
    """Continue a text."""
    service = service_of(request)
    running, started = await service.begin(request, form.model, _builds(form, service.settings.request_seconds))
    head = {
        "id": f"cmpl-{request_id(request)}",
        "object": "text_completion",
        "created": int(time.time()),
        "model": started[0].model,
        "system_fingerprint": fingerprint(started[0]),
    }
    choices = [_Choice() for _ in started]
    if form.stream:
        usage = bool(form.stream_options and form.stream_options.include_usage)
        return service.stream(running, _events(running, head, choices, form.n or 1, usage=usage))

    def take(i: int, chunk: Chunk, pieces: dict[int, bytes]) -> bool:
        choices[i].read(chunk, pieces)
        return ended(choices)

    await service.collect(request, running, take)
    body = {
        **head,
        "choices": [
            {
                "index": i,
                "text": "".join(choice.text),
                "logprobs": choice.logprobs if form.logprobs is not None else None,
                "finish_reason": choice.finish_reason,
            }
            for i, choice in enumerate(choices)
        ],
        "usage": _usage(choices, form.n or 1),
    }
    return JSONResponse(body)


def _builds(form: CompletionRequest, timeout_seconds: float) -> tuple[Build, ...]:
    def prompt(one: str | list[int]) -> generation.Prompt:
        def tokens(model: Model) -> Sequence[int]:
            return model.prompt_tokens(one)

        return tokens

    given = generation.options(
        form,
        max_tokens=form.max_tokens or USUAL_MAX_TOKENS,
        logprobs=form.logprobs,
        timeout_seconds=timeout_seconds,
    )
    constrain = generation.constraint(form, form.response_format)
    return generation.builds([prompt(one) for one in prompts_of(form.prompt)], form.n or 1, constrain, given)


def no_logprobs() -> dict[str, list[Any]]:
    """The form of log-probabilities, without any."""
    return {"tokens": [], "token_logprobs": [], "top_logprobs": [], "text_offset": []}


@define
class _Choice:
    text: list[str] = field(factory=list)
    logprobs: dict[str, list[Any]] = field(factory=no_logprobs)
    usage: Usage | None = None
    finish_reason: str | None = None
    offset: int = 0

    def read(self, chunk: Chunk, pieces: dict[int, bytes]) -> dict[str, list[Any]] | None:
        """Take a chunk; returns its log-probabilities, if any were asked for."""
        self.text.append(chunk.text)
        if chunk.finish:
            self.usage, self.finish_reason = chunk.finish.usage, finished(chunk.finish.reason)
        if not chunk.logprobs:
            return None
        added = no_logprobs()
        for one in chunk.logprobs:
            token = pieces[one.token].decode("utf-8", "replace")
            added["tokens"].append(token)
            added["token_logprobs"].append(max(one.logprob, -9999.0))
            added["top_logprobs"].append(
                {pieces[other].decode("utf-8", "replace"): max(logprob, -9999.0) for other, logprob in one.top}
            )
            added["text_offset"].append(self.offset)
            self.offset += len(token)
        for name, values in added.items():
            self.logprobs[name] += values
        return added


def _usage(choices: Sequence[_Choice], n: int) -> dict[str, Any]:
    """Each prompt is counted once, each choice as well."""
    used = [choice.usage for choice in choices if choice.usage]
    prompts = used[::n]
    return usage_of(
        sum(one.prompt_tokens for one in prompts),
        sum(one.completion_tokens for one in used),
        sum(one.cached_tokens for one in prompts),
    )


async def _events(
    running: Running, head: dict[str, Any], choices: list[_Choice], n: int, *, usage: bool
) -> AsyncIterator[bytes]:
    extra: dict[str, Any] = {"usage": None} if usage else {}
    while not ended(choices):
        i, chunk, pieces = await running.next()
        logprobs = choices[i].read(chunk, pieces)
        if chunk.text or chunk.finish or logprobs:
            reason = choices[i].finish_reason if chunk.finish else None
            choice = {"index": i, "text": chunk.text, "logprobs": logprobs, "finish_reason": reason}
            yield event({**head, "choices": [choice], **extra})
    if usage:
        yield event({**head, "choices": [], "usage": _usage(choices, n)})
    yield b"data: [DONE]\n\n"
