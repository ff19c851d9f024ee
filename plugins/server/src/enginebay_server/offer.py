"""Which models may be asked for by name: configured ones, catalogue models on disk, and those that are loaded."""

from __future__ import annotations

from pathlib import Path

from attrs import evolve, frozen

from enginebay import opening, registry
from enginebay.bay import Bay
from enginebay.catalogue import load_catalogue
from enginebay.config import Config, ModelConfig
from enginebay.data import CatalogueModel
from enginebay.errors import EnginebayError, ModelNotFound

FIRST_CHOICE = "demo"


@frozen
class Offered:
    """A model that can be asked for, and what it would be opened with if it is not loaded."""

    name: str
    engine: str
    format: str


class Offer:
    """The models of a bay by name. A request can name no path and no other model."""

    def __init__(self, bay: Bay) -> None:
        self._bay = bay
        self._known = {**_catalogue(), **dict.fromkeys(bay.config.models)}
        self._offered: dict[str, Offered | EnginebayError] = {}

    def names(self) -> list[str]:
        """Every name, those that are loaded first."""
        loaded = [model.name for model in self._bay.status().models]
        return list(dict.fromkeys([*loaded, *self._known]))

    def has(self, name: str) -> bool:
        return name in self._known or any(model.name == name for model in self._bay.status().models)

    def default(self) -> str | None:
        """What is served if nothing is loaded and none is named."""
        names = self.names()
        return names[0] if names else None

    def details(self, name: str) -> Offered | EnginebayError:
        """What a model that is not loaded would be opened with, or why it cannot be."""
        if name not in self._offered:
            try:
                plan = opening.resolve(name, None, self._bay.config)
                self._offered[name] = Offered(plan.name, plan.engine, plan.request.format)
            except EnginebayError as error:
                self._offered[name] = error
        return self._offered[name]


def _catalogue() -> dict[str, CatalogueModel | None]:
    return {
        name: model
        for name, model in load_catalogue().models.items()
        if any(artifact.path.exists() for artifact in model.artifacts)
    }


def effective(config: Config, engine: str | None, model: str | None) -> tuple[Config, str]:
    """The configuration of a server: each model has an engine and a process of its own, and one model is the first.

    :param engine: what serves every model that it reads (None: the configured engine, else the first by name that can)
    :param model: the model to begin with: a name or a path (None: a configured one, ``demo``, or any other)
    :return: the configuration, and the name of the first model
    :raises EnginebayError: no engine, or not the named one, can serve the first model
    """
    usual = engine or config.engine
    own, models = list(config.models), dict(config.models)
    for name in _catalogue():
        models.setdefault(name, ModelConfig())
    if model is not None and model not in models:
        path = Path(model).expanduser()
        model = path.name if path.exists() else model
        models[model] = ModelConfig(reference=str(path.absolute()) if path.exists() else None)
    config = evolve(config, engine=None, isolation=config.isolation or "process")
    engines = {
        name: _engine(config, one.reference or name, engine or one.engine or usual) for name, one in models.items()
    }
    order = [model] if model else [*own, FIRST_CHOICE, *models]
    first = next((name for name in order if model or engines.get(name)), None)
    if first is None:
        raise ModelNotFound("No model that an installed engine reads was found.", hint="pip install enginebay-demo")
    if engine or not engines[first]:
        opening.resolve(models[first].reference or first, engine, config)
    named = {name: evolve(one, engine=engines[name]) for name, one in models.items()}
    return evolve(config, models=named), first


def _engine(config: Config, reference: str, preferred: str | None) -> str | None:
    """The engine that serves a model: the preferred one, else the first by name that can."""
    for engine in [*([preferred] if preferred else []), *sorted(registry.engines())]:
        try:
            opening.resolve(reference, engine, config)
        except EnginebayError:
            continue
        return engine
    return None
