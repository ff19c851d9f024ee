"""The one tree of errors, grouped by who must act. It knows nothing of engines; it is imported by everything.

EnginebayError
├── ConfigError            the configuration's author     config_error
│   └── UnknownEngine                                     unknown_engine
├── InstallError           the person who installs        install_error
│   └── EngineUnavailable                                 engine_unavailable
├── RequestError           the caller of a request        invalid_request
│   ├── ModelNotFound                                     model_not_found
│   ├── ContextOverflow                                   context_overflow
│   ├── GrammarError                                      grammar_error
│   ├── Unsupported                                       unsupported
│   ├── SessionError                                      session_error
│   ├── Cancelled                                         cancelled
│   ├── Timeout                                           timeout
│   └── QueueFull                                         queue_full
├── EngineError            the engine                     engine_error
│   ├── ModelLoadError                                    model_load_error
│   ├── GenerationError                                   generation_error
│   ├── OutOfMemory                                       out_of_memory
│   └── EngineCrashed                                     engine_crashed
└── ContractError          the plugin's author            contract_error
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar


class EnginebayError(Exception):
    """Something failed. ``message`` says what and on what; ``hint`` says what to do; ``fields`` holds the parts.

    ``code`` is stable and belongs to the class. Field values are JSON values, so that an error crosses a wire.
    """

    code: ClassVar[str] = "error"

    def __init__(self, message: str, *, hint: str | None = None, **fields: Any) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.fields: dict[str, Any] = fields

    def __str__(self) -> str:
        return f"{self.message}\n{self.hint}" if self.hint else self.message

    def __reduce__(self) -> tuple[Any, ...]:
        return (_rebuild, (type(self), self.message, self.hint, self.fields))

    def to_dict(self) -> dict[str, Any]:
        """The error as a JSON object: ``code``, ``message``, ``hint``, ``fields``."""
        return {"code": self.code, "message": self.message, "hint": self.hint, "fields": self.fields}

    @staticmethod
    def from_dict(data: Mapping[str, Any]) -> EnginebayError:
        """The error that ``to_dict`` described; an unknown code gives the base class."""
        kind = BY_CODE.get(str(data.get("code")), EnginebayError)
        return _rebuild(kind, str(data.get("message", "")), data.get("hint"), dict(data.get("fields") or {}))


def _rebuild(kind: type[EnginebayError], message: str, hint: str | None, fields: dict[str, Any]) -> EnginebayError:
    return kind(message, hint=hint, **fields)


class ConfigError(EnginebayError):
    """A configuration file, environment variable or option has a wrong key, type or value."""

    code = "config_error"


class UnknownEngine(ConfigError):
    """An engine was named that is not installed."""

    code = "unknown_engine"


class InstallError(EnginebayError):
    """A package that is needed is absent or does not fit."""

    code = "install_error"


class EngineUnavailable(InstallError):
    """An engine is installed and cannot run here, or no engine can serve what was asked."""

    code = "engine_unavailable"


class RequestError(EnginebayError):
    """A request has a wrong field; the same request will fail again."""

    code = "invalid_request"


class ModelNotFound(RequestError):
    """A model reference leads to nothing."""

    code = "model_not_found"


class ContextOverflow(RequestError):
    """The prompt, or the prompt and what was generated, does not fit the model's context."""

    code = "context_overflow"


class GrammarError(RequestError):
    """A constraint is malformed, or asks for something that cannot be enforced."""

    code = "grammar_error"


class Unsupported(RequestError):
    """The engine, or this model, cannot do what was asked; nothing was done instead."""

    code = "unsupported"


class SessionError(RequestError):
    """A session file is damaged, or belongs to a model with another vocabulary."""

    code = "session_error"


class Cancelled(RequestError):
    """The request ended because somebody asked for that before it began."""

    code = "cancelled"


class Timeout(RequestError):
    """The request did not finish in the time that it was given."""

    code = "timeout"


class QueueFull(RequestError):
    """Too many requests wait already; try again after ``retry_after_seconds``."""

    code = "queue_full"


class EngineError(EnginebayError):
    """An engine failed at something that it should be able to do."""

    code = "engine_error"


class ModelLoadError(EngineError):
    """A model file is missing a part, is damaged, or is of a kind that the engine does not read."""

    code = "model_load_error"


class GenerationError(EngineError):
    """The engine failed while generating."""

    code = "generation_error"


class OutOfMemory(EngineError):
    """Memory did not suffice for the model, its cache or a step."""

    code = "out_of_memory"


class EngineCrashed(EngineError):
    """The engine's process ended, or stopped answering."""

    code = "engine_crashed"


class ContractError(EnginebayError):
    """A plugin does not keep the contract: its author must act."""

    code = "contract_error"


def _tree(kind: type[EnginebayError]) -> Iterator[type[EnginebayError]]:
    yield kind
    for child in kind.__subclasses__():
        yield from _tree(child)


BY_CODE: dict[str, type[EnginebayError]] = {kind.code: kind for kind in _tree(EnginebayError)}
"""Every class of the tree by its code."""
