"""What a bay says of itself: values for people and servers. It knows no model."""

from __future__ import annotations

from typing import Any, Literal

from attrs import frozen


@frozen
class Switched:
    """What a switch did. ``to_dict`` gives it as ``status``, ``from``, ``to`` and ``loaded_model``."""

    previous: str | None
    engine: str
    loaded_model: str
    status: Literal["switched"] = "switched"
    moved_requests: int = 0

    def to_dict(self) -> dict[str, Any]:
        return {"status": self.status, "from": self.previous, "to": self.engine, "loaded_model": self.loaded_model}


@frozen
class ModelStatus:
    """One model of a bay, as it is now."""

    name: str
    engine: str
    format: str
    state: str
    current: bool
    pinned: bool
    context_tokens: int | None
    in_flight: int
    pid: int | None = None
    memory_bytes: int | None = None
    restarts: int = 0
    error: str | None = None


@frozen
class BayStatus:
    """The whole bay: the current model, what is being loaded, and every model that is known."""

    engine: str | None
    model: str | None
    loading: str | None
    models: tuple[ModelStatus, ...]
