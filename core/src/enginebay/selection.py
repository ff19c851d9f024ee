"""Chooses the engine that serves a model: the one that is named, or the only one that can. It favours none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from attrs import frozen

from enginebay import registry
from enginebay.catalogue import Catalogue, load_catalogue
from enginebay.config import Config, Wanted
from enginebay.data import CatalogueModel, EngineInfo
from enginebay.errors import ConfigError, EnginebayError, EngineUnavailable, ModelLoadError
from enginebay.registry import Plugin
from enginebay.store import Found, choose_artifact, locate
from enginebay.structure import structure


@frozen
class Choice:
    """An engine, the file it reads, its checked options, and why it was chosen."""

    plugin: Plugin
    found: Found
    options: Any
    because: str


def choose(wanted: Wanted, config: Config, *, options: Any = None, catalogue: Catalogue | None = None) -> Choice:
    """The engine that serves what is wanted: the one that is named, else the only healthy one that reads it.

    :param options: the engine's options: a mapping over the configured ones, or an instance of its options class
    :raises UnknownEngine: the named engine is not installed
    :raises EngineUnavailable: the named engine is not healthy, or none is named and not exactly one could serve
    :raises ModelNotFound: the reference leads to nothing
    :raises ModelLoadError: the named engine does not read the model
    :raises ConfigError: an option is unknown or wrong
    """
    if wanted.engine:
        plugin = registry.load(wanted.engine, wanted.because)
        target = locate(wanted.reference, catalogue or load_catalogue())
        found = _form(target, plugin, wanted.reference)
        health = registry.health(plugin)
        if not health.healthy:
            raise EngineUnavailable(
                f"{plugin.info.name} cannot run here: {health.reason}", hint=health.hint, engine=plugin.info.name
            )
        because = wanted.because
    else:
        plugin, found = _only_candidate(locate(wanted.reference, catalogue or load_catalogue()), wanted.reference)
        because = "it is the only healthy engine that reads this model"
    return Choice(plugin, found, _options(plugin.info, config, options), because)


def _form(target: Path | CatalogueModel, plugin: Plugin, reference: str | Path) -> Found:
    """The form that a named engine reads; if it reads none, the error names an engine that does."""
    try:
        return choose_artifact(target, plugin.info.formats, plugin.info.name)
    except ModelLoadError as error:
        readers = [name for name in registry.engines() if _reads(name, target)]
        hint = f"enginebay run {reference} --engine {readers[0]}" if readers else error.hint
        raise ModelLoadError(error.message, hint=hint, **error.fields) from None


def _reads(name: str, target: Path | CatalogueModel) -> bool:
    try:
        return bool(choose_artifact(target, registry.load(name).info.formats, name))
    except EnginebayError:
        return False


def _only_candidate(target: Path | CatalogueModel, reference: str | Path) -> tuple[Plugin, Found]:
    candidates: list[tuple[Plugin, Found]] = []
    reasons: dict[str, str] = {}
    hints: list[str] = []
    for name in registry.engines():
        try:
            plugin = registry.load(name)
            found = choose_artifact(target, plugin.info.formats, name)
        except EnginebayError as error:
            reasons[name] = error.message
            continue
        health = registry.health(plugin)
        if health.healthy:
            candidates.append((plugin, found))
            reasons[name] = f"could serve it, from {found.path}"
        else:
            reasons[name] = f"cannot run here: {health.reason}"
            hints += [health.hint] if health.hint else []
    if len(candidates) == 1:
        return candidates[0]
    what = f"Several engines could serve {reference}" if candidates else f"No engine can serve {reference}"
    lines = "".join(f"\n  {name}: {reason}" for name, reason in reasons.items()) or "\n  no engine is installed"
    named = f"enginebay run {reference} --engine {candidates[0][0].info.name}" if candidates else None
    raise EngineUnavailable(
        f"{what}, and none is named:{lines}",
        hint=named or (hints[0] if hints else "enginebay engines"),
        engines=reasons,
    )


def _options(info: EngineInfo, config: Config, given: Any) -> Any:
    if isinstance(given, info.options):
        return given
    where = f"engines.{info.name}"
    try:
        extra: dict[str, Any] = structure(given or {}, dict[str, Any], error=ConfigError, where=where)
        values = {**config.engines.get(info.name, {}), **extra}
        options: Any = structure(values, info.options, error=ConfigError, where=where)
    except ConfigError as error:
        raise ConfigError(error.message, hint="enginebay engines --json", **error.fields) from None
    return options
