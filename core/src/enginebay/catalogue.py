"""Logical models that plugins list: one name, an artifact for each format. It knows no engine and opens no file."""

from __future__ import annotations

from collections.abc import Iterable

from attrs import field, frozen

from enginebay.data import CatalogueModel
from enginebay.entrypoints import CATALOGUES, load_all
from enginebay.errors import ContractError, EnginebayError


@frozen
class Catalogue:
    """The models of every catalogue by name, and what is wrong with the catalogues that were left out."""

    models: dict[str, CatalogueModel] = field(factory=dict)
    quarantined: dict[str, EnginebayError] = field(factory=dict)


def load_catalogue() -> Catalogue:
    """Read every installed catalogue: an iterable of ``CatalogueModel``, or a function that returns one.

    A catalogue that fails is left out with its reason. A model that two catalogues name is left out of both.
    """
    sources, quarantined = load_all(CATALOGUES)
    owners: dict[str, list[str]] = {}
    models: dict[str, CatalogueModel] = {}
    for source, value in sources.items():
        try:
            for model in _read(value):
                owners.setdefault(model.name, []).append(source)
                models[model.name] = model
        except Exception as error:
            quarantined[source] = ContractError(
                f"The catalogue {source} cannot be read: {type(error).__name__}: {error}", catalogue=source
            )
    for name, claimed in owners.items():
        if len(claimed) > 1:
            del models[name]
            quarantined[name] = ContractError(
                f"The model {name} is listed by the catalogues {' and '.join(claimed)}: one of them must go.",
                catalogues=claimed,
            )
    return Catalogue(models, quarantined)


def _read(value: object) -> list[CatalogueModel]:
    listed = value() if callable(value) else value
    if not isinstance(listed, Iterable):
        raise TypeError(f"expected an iterable of CatalogueModel, got {type(listed).__name__}")
    models = list(listed)
    for model in models:
        if not isinstance(model, CatalogueModel):
            raise TypeError(f"expected CatalogueModel, got {type(model).__name__}")
    return models
