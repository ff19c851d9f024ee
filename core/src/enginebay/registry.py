"""Which engines are installed, which of them fit the contract, and which run here. It names no engine.

Listing reads package metadata only. A plugin that fails to import is quarantined: it has a reason, and harms no other.
"""

from __future__ import annotations

import logging
from typing import Any

import attrs
from attrs import frozen

from enginebay.data import CONTRACT_VERSION, EngineInfo, Health
from enginebay.entrypoints import ENGINES, OBSERVERS, Entry, installed, load_all, only
from enginebay.errors import ContractError, EnginebayError, UnknownEngine
from enginebay.hookspecs import PROJECT, EngineHooks, OptionalHooks
from enginebay.structure import close_match

_log = logging.getLogger(__name__)


@frozen
class Plugin:
    """An engine's module, checked against the contract, and what it says of itself."""

    module: Any
    info: EngineInfo
    distribution: str
    version: str


@frozen
class Survey:
    """What is known of one installed engine. A quarantined one has no ``plugin``, and its ``health`` has the reason."""

    name: str
    distribution: str
    version: str
    health: Health
    plugin: Plugin | None = None


def engines() -> dict[str, tuple[Entry, ...]]:
    """The installed engines by name, from metadata; more than one entry where distributions claim the same name."""
    return installed(ENGINES)


def load(name: str, because: str = "") -> Plugin:
    """Import one engine's plugin and check it; no native library is loaded.

    :param because: who asks for it, for the message
    :raises UnknownEngine: it is not installed
    :raises EngineUnavailable: it cannot be imported
    :raises ContractError: it does not fit the contract, or two distributions claim the name
    """
    known = engines()
    if name not in known:
        listed = f"installed: {', '.join(known)}" if known else "none is installed"
        who = f", which {because} names" if because else ""
        raise UnknownEngine(
            f"There is no engine {name!r}{who} ({listed}){close_match(name, list(known))}",
            hint="enginebay engines",
            engine=name,
            installed=list(known),
        )
    entry = only(known[name])
    module = entry.load()
    return Plugin(module, _checked(module, entry), entry.distribution, entry.version)


def observers() -> list[object]:
    """Every observer plugin that can be imported; the others are logged."""
    loaded, quarantined = load_all(OBSERVERS)
    for error in quarantined.values():
        _log.warning("An observer is left out. %s", error.message)
    return list(loaded.values())


def survey() -> list[Survey]:
    """Every installed engine, and whether it runs here. Never raises."""
    return [_surveyed(name, entries) for name, entries in engines().items()]


def health(plugin: Plugin) -> Health:
    """Whether an engine runs here. Never raises."""
    try:
        answer = plugin.module.health(None)
    except Exception as error:
        return Health(False, plugin.info.name, reason=f"its health check failed: {type(error).__name__}: {error}")
    if not isinstance(answer, Health):
        return Health(False, plugin.info.name, reason=f"its health check returned {type(answer).__name__}")
    return answer


# --- the contract -----------------------------------------------------------------------------------------------------


def _checked(module: Any, entry: Entry) -> EngineInfo:
    who = f"{entry.name} ({entry.distribution} {entry.version})"
    info = getattr(module, "engine", None)
    if not isinstance(info, EngineInfo):
        raise ContractError(f"{who} has no attribute engine of type EngineInfo.", engine=entry.name)
    if info.name != entry.name:
        raise ContractError(f"{who} calls itself {info.name!r}: the entry point and EngineInfo.name must be the same.")
    low, high = info.contract
    if not low <= CONTRACT_VERSION <= high:
        raise ContractError(
            f"{who} was written for contract {low} to {high}; this core has contract {CONTRACT_VERSION}.",
            hint=f"pip install --upgrade {entry.distribution} enginebay",
            engine=entry.name,
        )
    try:
        attrs.resolve_types(info.options)
    except Exception as error:
        raise ContractError(f"{who} has options that are no attrs class: {error}", engine=entry.name) from error
    required = _hooks(EngineHooks)
    marked = {name for name in dir(module) if hasattr(getattr(module, name), f"{PROJECT}_impl")}
    for name in sorted(marked - required - _hooks(OptionalHooks)):
        near = close_match(name, sorted(required | _hooks(OptionalHooks)))
        raise ContractError(f"{who} implements {name}, which is no hook{near}", engine=entry.name, hook=name)
    for name in sorted(required - marked):
        fault = "does not mark it with @hookimpl" if hasattr(module, name) else "does not have it"
        raise ContractError(f"{who} lacks the hook {name}: the module {fault}.", engine=entry.name, hook=name)
    return info


def _hooks(specification: type) -> set[str]:
    return {name for name, value in vars(specification).items() if hasattr(value, f"{PROJECT}_spec")}


def _surveyed(name: str, entries: tuple[Entry, ...]) -> Survey:
    first = entries[0]
    try:
        plugin = load(name)
    except EnginebayError as error:
        broken = Health(False, name, reason=error.message, hint=error.hint)
        return Survey(name, first.distribution, first.version, broken)
    return Survey(name, first.distribution, first.version, health(plugin), plugin)
