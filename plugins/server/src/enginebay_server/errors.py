"""Errors as HTTP answers, all in one envelope. It knows no endpoint."""

from __future__ import annotations

import math
from typing import Any

from starlette.responses import JSONResponse

from enginebay import errors as tree
from enginebay.errors import EnginebayError

STATUS: dict[type[EnginebayError], int] = {
    tree.EnginebayError: 500,
    tree.ConfigError: 400,
    tree.InstallError: 503,
    tree.RequestError: 400,
    tree.ModelNotFound: 404,
    tree.Cancelled: 409,
    tree.Timeout: 504,
    tree.QueueFull: 429,
    tree.EngineError: 500,
    tree.OutOfMemory: 503,
    tree.EngineCrashed: 503,
}
"""The status of each error; a class that is not listed has that of the class above it."""

TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    408: "timeout_error",
    409: "conflict_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
}
RETRY_SECONDS = 2.0


class Refusal(Exception):
    """An answer that is an error: its status, and the four fields of the envelope."""

    def __init__(
        self, status: int, code: str, message: str, *, param: str | None = None, headers: dict[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.param = param
        self.headers = headers or {}

    @property
    def type(self) -> str:
        """The group of the error, in the words of OpenAI's API."""
        return TYPES.get(self.status, "invalid_request_error" if self.status < 500 else "server_error")

    def body(self) -> dict[str, Any]:
        """The envelope."""
        return {"error": {"message": self.message, "type": self.type, "param": self.param, "code": self.code}}

    def response(self) -> JSONResponse:
        """The whole answer."""
        return JSONResponse(self.body(), self.status, self.headers)


def refusal(error: BaseException) -> Refusal:
    """The answer to an error of the tree, or to anything else: a 500 that tells nothing of the inside."""
    if isinstance(error, Refusal):
        return error
    if not isinstance(error, EnginebayError):
        return Refusal(500, "internal_error", "The server failed at this request. Its log says more.")
    status = next(STATUS[kind] for kind in type(error).__mro__ if kind in STATUS)
    message = f"{error.message} {error.hint}" if error.hint and status < 500 else error.message
    headers = {}
    if status in (429, 503):
        seconds = error.fields.get("retry_after_seconds") or RETRY_SECONDS
        headers["Retry-After"] = str(max(1, math.ceil(seconds)))
    code = "context_length_exceeded" if isinstance(error, tree.ContextOverflow) else error.code
    return Refusal(status, code, message, param=_param(message), headers=headers)


def _param(message: str) -> str | None:
    """The field that a message of the core begins with, as in ``top_p: expected …``."""
    head, colon, _ = message.partition(": ")
    return (
        head if colon and head.replace("_", "").replace("[", "").replace("]", "").replace(".", "").isalnum() else None
    )
