"""Which models may be asked for by name: configured ones, catalogue models on disk, and those that are loaded."""

from __future__ import annotations

from collections.abc import Sequence

from attrs import evolve, frozen

from enginebay import opening, registry
from enginebay.bay import Bay
from enginebay.catalogue import load_catalogue
from enginebay.config import Config, ModelConfig, wanted
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
    """The configuration of a server without any: each model has an engine and a process, and one is the first.

    :param model: the model to begin with: a name or a path (None: a configured one, ``demo``, or any other)
    :return: the configuration, and the name of the first model
    :raises ModelNotFound: there is none
    """
    config = evolve(config, engine=engine or config.engine, isolation=config.isolation or "process")
    own, models = list(config.models), dict(config.models)
    for name in _catalogue():
        models.setdefault(name, ModelConfig())
    if model is not None and model not in models:
        models[model] = ModelConfig()
    config = evolve(config, models={name: _with_engine(config, name, models[name]) for name in models})
    order = [*own, FIRST_CHOICE, *config.models]
    first = model or next((name for name in order if name in config.models and _usable(config, name)), None)
    if first is None:
        raise ModelNotFound("No model that an installed engine reads was found.", hint="pip install enginebay-demo")
    return config, first


def _with_engine(config: Config, name: str, model: ModelConfig) -> ModelConfig:
    """The model with an engine named: the one that somebody named, else the first by name that can serve it."""
    if wanted(config, name).engine or model.engine:
        return model
    for engine in _engines():
        try:
            opening.resolve(model.reference or name, engine, config)
        except EnginebayError:
            continue
        return evolve(model, engine=engine)
    return model


def _engines() -> Sequence[str]:
    return sorted(registry.engines())


def _usable(config: Config, name: str) -> bool:
    try:
        opening.resolve(name, None, config)
    except EnginebayError:
        return False
    return True

