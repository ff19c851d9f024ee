"""Models and engines: what can be asked for, what runs, switching, loading, unloading, cancelling. It knows no engine."""

from __future__ import annotations

import asyncio
from functools import lru_cache
from typing import Any

from attrs import asdict
from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from enginebay import opening, registry
from enginebay.errors import EnginebayError
from enginebay.status import ModelStatus
from enginebay_server.errors import Refusal
from enginebay_server.forms.other import (
    CancelAnswer,
    EngineStatus,
    LoadAnswer,
    LoadRequest,
    ModelCard,
    ModelList,
    SwitchAnswer,
    SwitchRequest,
    UnloadRequest,
)
from enginebay_server.service import Service, service_of

router = APIRouter()


@router.get("/v1/models", response_model=ModelList, tags=["OpenAI"])
async def models(request: Request) -> Response:
    """Every model that can be asked for."""
    service = service_of(request)

    def cards() -> list[dict[str, Any]]:
        return [_card(service, name) for name in service.offer.names()]

    return JSONResponse({"object": "list", "data": await asyncio.to_thread(cards)})


@router.get("/v1/models/{model_id:path}", response_model=ModelCard, tags=["OpenAI"])
async def model(model_id: str, request: Request) -> Response:
    """One of them."""
    service = service_of(request)
    name = service.name(model_id)
    return JSONResponse(await asyncio.to_thread(_card, service, name or model_id))


def _card(service: Service, name: str) -> dict[str, Any]:
    known = [status for status in service.bay.status().models if status.name == name]
    one = next((s for s in known if s.current), None) or next((s for s in known if s.state != "stopped"), None)
    if one:
        about = {"engine": one.engine, "format": one.format, "state": one.state, "context_length": one.context_tokens}
        return _listed(service, name, {**about, "current": one.current, "error": one.error})
    details = service.offer.details(name)
    if isinstance(details, EnginebayError):
        return _listed(service, name, {"state": "unavailable", "current": False, "error": details.message})
    about = {"engine": details.engine, "format": details.format, "state": "stopped"}
    return _listed(service, name, {**about, "current": False})


def _listed(service: Service, name: str, about: dict[str, Any]) -> dict[str, Any]:
    return ModelCard(id=name, created=service.created, **about).model_dump()


@router.get("/v1/engine/status", response_model=EngineStatus, tags=["Engines"])
async def status(request: Request) -> Response:
    """What is served, what is being loaded, and which engines are installed."""
    service = service_of(request)
    now = service.bay.status()
    return JSONResponse(
        {
            "engine": now.engine,
            "model": now.model,
            "loading": now.loading,
            "requests": len(service.registry),
            "models": [_model(one) for one in now.models],
            "engines": await asyncio.to_thread(_engines),
        }
    )


def _model(one: ModelStatus) -> dict[str, Any]:
    about = asdict(one)
    return {
        "model": about.pop("name"),
        "context_length": about.pop("context_tokens"),
        "requests": about.pop("in_flight"),
        **about,
    }


@lru_cache(maxsize=1)
def _engines() -> list[dict[str, Any]]:
    return [
        {
            "name": one.name,
            "version": one.version,
            "healthy": one.health.healthy,
            "reason": one.health.reason,
            "formats": [form.name for form in one.plugin.info.formats] if one.plugin else [],
        }
        for one in registry.survey()
    ]


@router.post("/v1/engine/switch", response_model=SwitchAnswer, tags=["Engines"])
async def switch(form: SwitchRequest, request: Request) -> Response:
    """Make another engine, or another model, the current one. If that fails, nothing has changed."""
    service = service_of(request)
    if form.engine is None and form.model is None:
        raise Refusal(400, "invalid_request", "Name an engine, a model, or both.", param="engine")
    name = service.name(form.model)
    await _check_engine(service, form.engine, name)
    done = await service.work(service.bay.switch, engine=form.engine, model=name, migrate=form.migrate)
    return JSONResponse(done.to_dict())


@router.post("/v1/engine/load", response_model=LoadAnswer, tags=["Engines"])
async def load(form: LoadRequest, request: Request) -> Response:
    """Load a model, beside those that are loaded."""
    service = service_of(request)
    name = service.name(form.model) or form.model
    await _check_engine(service, form.engine, name)
    loaded = await service.work(service.bay.load, name, form.engine, pinned=form.pinned)
    return JSONResponse({"status": "loaded", "model": loaded.name, "engine": loaded.info.engine})


@router.post("/v1/engine/unload", response_model=LoadAnswer, tags=["Engines"])
async def unload(form: UnloadRequest, request: Request) -> Response:
    """Unload a model once its requests are done. Its process ends, so its memory comes back."""
    service = service_of(request)
    name = service.name(form.model) or form.model
    await _check_engine(service, form.engine, name)
    await service.work(service.bay.unload, name, form.engine)
    return JSONResponse({"status": "unloaded", "model": name, "engine": form.engine})


async def _check_engine(service: Service, engine: str | None, model: str | None) -> None:
    """Refuse an engine that is not there, or that cannot serve the model.

    :raises Refusal: 404 or 400
    """
    if engine is None:
        return
    if engine not in registry.engines():
        listed = ", ".join(registry.engines())
        message = f"There is no engine {engine[:80]!r} here. Installed: {listed}."
        raise Refusal(404, "unknown_engine", message, param="engine")
    name = model or service.bay.status().model
    if name:
        try:
            await asyncio.to_thread(opening.resolve, name, engine, service.bay.config)
        except EnginebayError as error:
            raise Refusal(400, error.code, error.message, param="engine") from error


@router.post("/v1/requests/{request_id}/cancel", response_model=CancelAnswer, tags=["Engines"])
async def cancel(request_id: str, request: Request) -> Response:
    """End a running request. The id is the one in ``X-Request-Id``, or the one in its answer."""
    if not service_of(request).registry.cancel(request_id.rpartition("-")[2]):
        raise Refusal(404, "request_not_found", "No request with this id is running.")
    return JSONResponse({"status": "cancelled", "id": request_id})
