"""What the description of the API says of answers that are common to endpoints. It knows no endpoint."""

from __future__ import annotations

from typing import Any

from enginebay_server.forms.base import ErrorAnswer

ERRORS: dict[int | str, dict[str, Any]] = {
    status: {"model": ErrorAnswer, "description": description}
    for status, description in {
        400: "The request is malformed, or asks for what cannot be done.",
        401: "The key is missing or wrong.",
        403: "The Host or Origin is not allowed.",
        404: "There is no such model, request or path.",
        405: "The path takes other methods; Allow lists them.",
        408: "The request did not arrive in time.",
        409: "The request was cancelled.",
        413: "The body is too large.",
        415: "The body is not JSON.",
        429: "Too many requests wait; Retry-After says when to come back.",
        431: "The headers are too large.",
        500: "The server or the engine failed.",
        503: "The model is not ready, or memory is short; Retry-After says when to come back.",
        504: "The request was not done in the time it had.",
    }.items()
}
"""Statuses that any endpoint may answer."""

_EVENT = {
    "type": "object",
    "properties": {"event": {"type": "string"}, "data": {"type": "string"}},
    "required": ["data"],
}

STREAMED: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The answer; with stream a sequence of server-sent events.",
        "content": {"text/event-stream": {"schema": _EVENT}},
    }
}
