"""For operators: whether the server lives, whether it is ready, its numbers, and its description. It knows no engine."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response
from fastapi.responses import HTMLResponse, JSONResponse, PlainTextResponse
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from enginebay_server.errors import Refusal
from enginebay_server.forms.other import Alive, Ready
from enginebay_server.page import shown
from enginebay_server.service import service_of

router = APIRouter(tags=["Operation"])


@router.get("/health", response_model=Alive)
async def health() -> Response:
    """Whether the server lives. It needs no key."""
    return JSONResponse({"status": "ok"})


@router.get("/ready", response_model=Ready)
async def ready(request: Request) -> Response:
    """Whether a request to the current model would be served now."""
    status = service_of(request).bay.status()
    current = next((model for model in status.models if model.current), None)
    if current is None or current.state not in ("ready", "busy"):
        state = current.state if current else "not loaded"
        raise Refusal(503, "model_loading", f"The current model is {state}.", headers={"Retry-After": "2"})
    return JSONResponse({"status": "ready", "model": current.name})


@router.get("/metrics", response_class=PlainTextResponse)
async def metrics(request: Request) -> Response:
    """The server's numbers, for Prometheus."""
    numbers = service_of(request).metrics
    return Response(generate_latest(numbers.registry), media_type=CONTENT_TYPE_LATEST)


@router.get("/docs", response_class=HTMLResponse)
async def docs() -> Response:
    """This description, to be read."""
    return shown("description")


@router.get("/", response_class=HTMLResponse)
async def chat_page() -> Response:
    """A page to chat, to switch engines, and to see what runs."""
    return shown("chat")
