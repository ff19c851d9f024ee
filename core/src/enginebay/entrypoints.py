"""What is installed, from package metadata alone. It imports nothing unasked, and knows no group's meaning."""

from __future__ import annotations

from typing import Any

from attrs import frozen

from enginebay.errors import ContractError, EnginebayError, EngineUnavailable

ENGINES = "enginebay.engines"
OBSERVERS = "enginebay.observers"
CATALOGUES = "enginebay.catalogues"
COMMANDS = "enginebay.commands"


@frozen
class Entry:
    """A name that a distribution registers. ``target`` is the module or object that it stands for."""

    group: str
    name: str
    target: str
    distribution: str
    version: str

    def load(self) -> Any:
        """Import the target.

        :raises EngineUnavailable: it cannot be imported; the cause is chained
        """
        from importlib import metadata  # costs more than the rest of the core

        try:
            return metadata.EntryPoint(self.name, self.target, self.group).load()
        except (Exception, SystemExit) as error:
            raise EngineUnavailable(
                f"{self.name} ({self.distribution} {self.version}) cannot be imported: {type(error).__name__}: {error}",
                hint=f"pip install --force-reinstall {self.distribution}",
                name=self.name,
                distribution=self.distribution,
            ) from error


def installed(group: str) -> dict[str, tuple[Entry, ...]]:
    """The entries of a group by name, sorted; more than one where distributions claim the same name."""
    from importlib import metadata

    found: dict[str, tuple[Entry, ...]] = {}
    for point in sorted(metadata.entry_points(group=group), key=lambda point: point.name):
        distribution, version = (point.dist.name, point.dist.version) if point.dist else ("an unknown package", "")
        entry = Entry(group, point.name, point.value, distribution, version)
        found[point.name] = (*found.get(point.name, ()), entry)
    return found


def only(entries: tuple[Entry, ...]) -> Entry:
    """The one entry of a name.

    :raises ContractError: several distributions claim it
    """
    if len(entries) > 1:
        names = sorted({entry.distribution for entry in entries})
        raise ContractError(
            f"{entries[0].name} is registered in {entries[0].group} by {' and by '.join(names)}: one of them must go.",
            hint=f"pip uninstall {names[-1]}",
            name=entries[0].name,
            distributions=names,
        )
    return entries[0]


def load_all(group: str) -> tuple[dict[str, Any], dict[str, EnginebayError]]:
    """Every object of a group that can be imported, by name, and why the others cannot."""
    loaded: dict[str, Any] = {}
    quarantined: dict[str, EnginebayError] = {}
    for name, entries in installed(group).items():
        try:
            loaded[name] = only(entries).load()
        except EnginebayError as error:
            quarantined[name] = error
    return loaded, quarantined
