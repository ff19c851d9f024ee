"""One small core for local language-model engines: the same weights, the same tokens, on every engine.

    import enginebay

    with enginebay.open("demo") as model:
        print(model.generate("Once upon a time", max_tokens=40).text)

Importing this loads no engine and no native library.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from enginebay.bay import Bay
    from enginebay.config import Config, load_config
    from enginebay.data import (
        Choice,
        Chunk,
        Constraint,
        Gbnf,
        GenerateRequest,
        Health,
        Isolation,
        JsonObject,
        JsonSchema,
        Lark,
        ModelInfo,
        Regex,
        Rules,
        Sampling,
    )
    from enginebay.engine import Stream
    from enginebay.errors import EnginebayError
    from enginebay.hookspecs import hookimpl
    from enginebay.model import Model
    from enginebay.result import Result
    from enginebay.session import Session

__version__ = "0.1.0"
__all__ = [
    "Bay",
    "Choice",
    "Chunk",
    "Config",
    "Constraint",
    "EnginebayError",
    "Gbnf",
    "GenerateRequest",
    "Health",
    "Isolation",
    "JsonObject",
    "JsonSchema",
    "Lark",
    "Model",
    "ModelInfo",
    "Regex",
    "Result",
    "Rules",
    "Sampling",
    "Session",
    "Stream",
    "hookimpl",
    "load_config",
    "load_session",
    "open",
]

_MODULES = {
    "Bay": "bay",
    "Config": "config",
    "load_config": "config",
    "Stream": "engine",
    "EnginebayError": "errors",
    "hookimpl": "hookspecs",
    "Model": "model",
    "Result": "result",
    "Session": "session",
}


def open(  # noqa: A001 - the name that the field uses
    reference: str | Path,
    *,
    engine: str | None = None,
    config: Config | str | Path | None = None,
    isolation: Isolation | None = None,
    context_tokens: int | None = None,
    sequences: int | None = None,
    options: Mapping[str, Any] | Any = None,
) -> Model:
    """Open a model: a path, a catalogue name such as ``demo``, or a name of the configuration's.

    :param engine: which engine; otherwise the environment, the configuration, or the only one that can serve it
    :param isolation: ``inline``, or ``process`` for a worker of its own; otherwise what the engine recommends
    :param context_tokens: per sequence; otherwise the model's own, at most 8,192
    :param sequences: how many are decoded together; otherwise the engine's choice
    :param options: the engine's own options
    :raises EnginebayError: with what failed, on what, and what to do
    """
    from enginebay import opening

    plan = opening.resolve(
        reference,
        engine,
        config,
        isolation=isolation,
        context_tokens=context_tokens,
        sequences=sequences,
        options=options,
    )
    return opening.load(plan)


def load_session(
    path: str | Path, *, engine: str | None = None, model: str | Path | None = None, **options: Any
) -> Session:
    """Continue a saved session: open its model, or ``model``, on ``engine``. Closing the session closes the model."""
    from pathlib import Path

    from enginebay import session_file
    from enginebay.session import Session

    header, native = session_file.read(Path(path))
    opened = open(model or header.reference, engine=engine, **options)
    try:
        return Session.from_header(opened, header, native, owns_model=True)
    except BaseException:
        opened.close()
        raise


def __getattr__(name: str) -> Any:
    """Import what is named when it is first used, so that importing this costs nothing."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"enginebay.{_MODULES.get(name, 'data')}"), name)
    globals()[name] = value
    return value
