"""From a model reference to an open model: which engine, which file, which options, and where it runs. It names no engine."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from attrs import evolve, frozen

from enginebay import registry
from enginebay.config import Config, load_config, wanted
from enginebay.data import Isolation, LoadRequest, MemoryEstimate
from enginebay.engine import Engine
from enginebay.errors import ConfigError, EngineCrashed, OutOfMemory
from enginebay.model import Model
from enginebay.selection import choose

log = logging.getLogger(__name__)


@frozen
class Plan:
    """All that is needed to open a model. ``name`` is what people call it, ``because`` who chose the engine."""

    reference: str
    name: str
    engine: str
    plugin: registry.Plugin
    request: LoadRequest
    isolation: Isolation
    because: str = ""
    min_context_tokens: int | None = None
    memory_bytes: int | None = None


def resolve(
    reference: str | Path,
    engine: str | None = None,
    config: Config | str | Path | None = None,
    *,
    isolation: Isolation | None = None,
    context_tokens: int | None = None,
    sequences: int | None = None,
    options: Mapping[str, Any] | Any = None,
) -> Plan:
    """Decide how a model is opened; loads nothing.

    :param reference: a path, a catalogue name, or a name of the configuration's
    :param config: a configuration or the path of one (None: the one that is found)
    :param options: the engine's own options, as a mapping or an instance of its options class
    :raises ConfigError: the configuration or an option is wrong, or the engine is unknown
    :raises ModelNotFound: the reference leads to nothing
    :raises EngineUnavailable: no engine can serve it, with each one's reason
    """
    settings = config if isinstance(config, Config) else load_config(config)
    want = wanted(
        settings, reference, engine=engine, isolation=isolation, context_tokens=context_tokens, sequences=sequences
    )
    choice = choose(want, settings, options=options)
    limits = {"queue_requests": want.queue_requests, "cache_bytes": want.cache_bytes}
    request = LoadRequest(
        path=choice.found.path,
        format=choice.found.format,
        options=choice.options,
        context_tokens=want.context_tokens,
        sequences=want.sequences,
        **{name: value for name, value in limits.items() if value is not None},
    )
    info = choice.plugin.info
    name = str(reference) if str(reference) in settings.models else choice.found.name
    return Plan(
        str(reference),
        name,
        info.name,
        choice.plugin,
        request,
        want.isolation or info.isolation,
        choice.because,
        want.min_context_tokens,
        want.memory_bytes,
    )


def load(plan: Plan) -> Model:
    """Open the model: in this process, or in a worker of its own.

    Where ``min_context_tokens`` is configured, a load that ends for lack of memory is tried once more with that context.
    """
    plugin: object = plan.plugin.module
    if plan.isolation == "process":
        from enginebay.worker.remote import RemotePlugin
        from enginebay.worker.supervisor import Supervision

        plugin = RemotePlugin(plugin, plan.plugin.info, Supervision(memory_bytes=plan.memory_bytes))
    elif plan.memory_bytes is not None:
        raise ConfigError(
            f"memory_bytes bounds a process of its own, and {plan.name} is to run in this one.",
            hint='Add isolation = "process", or leave memory_bytes out.',
        )
    engine = Engine(plugin, plan.plugin.info, registry.observers())
    try:
        return Model(engine, engine.load(plan.request), plan.name)
    except (OutOfMemory, EngineCrashed) as error:
        least = plan.min_context_tokens
        if least is None or (isinstance(error, EngineCrashed) and error.fields.get("signal") != "SIGKILL"):
            raise
        log.warning("%s; trying once more with a context of %d tokens", error.message, least)
        return Model(engine, engine.load(evolve(plan.request, context_tokens=least)), plan.name)


def estimate(plan: Plan) -> MemoryEstimate | None:
    """What loading would take; None if the engine does not say."""
    return Engine(plan.plugin.module, plan.plugin.info).estimate(plan.request)
