"""The ASGI application: endpoints, middleware and error answers put together. It opens no port and no model."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response

from enginebay.bay import Bay
from enginebay.errors import EnginebayError
from enginebay_server.errors import Refusal, refusal
from enginebay_server.events import ClientGoneError
from enginebay_server.guard import Bodied, Guarded, Observed
from enginebay_server.routes import chat, completions, engine, health, messages, responses, texts
from enginebay_server.routes.documented import ERRORS
from enginebay_server.service import Service
from enginebay_server.settings import Settings

MAX_MESSAGE = 1000


def app(bay: Bay, settings: Settings | None = None) -> FastAPI:
    """The application over a bay, to be served or mounted. The bay stays the caller's: it is not closed here."""
    settings = settings or Settings()
    application = FastAPI(
        title="Enginebay", version="0.1.0", docs_url=None, redoc_url=None, responses=ERRORS, redirect_slashes=False
    )
    service = application.state.service = Service(bay, settings)
    for module in (chat, completions, responses, messages, texts, engine, health):
        application.include_router(module.router)
    application.add_middleware(Bodied, settings=settings)
    application.add_middleware(Guarded, settings=settings)
    application.add_middleware(Observed, metrics=service.metrics)
    for kind, answer in {
        RequestValidationError: _invalid,
        HTTPException: _http,
        Refusal: _refused,
        EnginebayError: _refused,
        ValidationError: _invalid,
        ClientGoneError: _gone,
    }.items():
        application.add_exception_handler(kind, answer)
    application.openapi = lambda: _description(application)  # type: ignore[method-assign]
    return application


def _description(application: FastAPI) -> dict[str, Any]:
    """FastAPI's description, without its own form of refusals: here they are 400, in the envelope."""
    if application.openapi_schema is None:
        description = FastAPI.openapi(application)
        for methods in description["paths"].values():
            for operation in methods.values():
                operation["responses"].pop("422", None)
        for name in ("HTTPValidationError", "ValidationError"):
            description["components"]["schemas"].pop(name, None)
    return application.openapi_schema or {}


async def _refused(_request: Request, error: Exception) -> JSONResponse:
    return refusal(error).response()


async def _gone(_request: Request, _error: Exception) -> Response:
    return Response(status_code=499)


async def _http(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    codes = {404: "not_found", 405: "method_not_allowed", 400: "invalid_json"}
    messages = {404: "There is no such path.", 405: "The path does not take this method.", 400: "The body is not JSON."}
    status = error.status_code
    message = messages.get(status, str(error.detail))
    headers = dict(error.headers or {})
    return Refusal(status, codes.get(status, "invalid_request"), message, headers=headers).response()


async def _invalid(_request: Request, error: Exception) -> JSONResponse:
    """The first problems that the types found, with their place."""
    assert isinstance(error, RequestValidationError | ValidationError)
    problems = [_problem(one) for one in error.errors()[:3]]
    text = "; ".join(f"{where}: {what}" if where else what for where, what in problems)[:MAX_MESSAGE]
    return Refusal(400, "invalid_request", text, param=problems[0][0] or None).response()


def _problem(one: Any) -> tuple[str, str]:
    parts = [part for part in one["loc"] if part not in ("body", "query", "path")]
    where = ".".join(str(part) for part in parts)[:200]
    message = str(one["msg"]).removeprefix("Value error, ")
    return where, "unknown field" if one["type"] == "extra_forbidden" else message
