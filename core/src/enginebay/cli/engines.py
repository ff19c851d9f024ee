"""``enginebay engines``: what is installed, and whether it runs here. It knows no engine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from enginebay.cli.output import Output

if TYPE_CHECKING:
    from rich.table import Table

    from enginebay.data import EngineInfo
    from enginebay.registry import Survey


@click.command("engines")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON list.")
def command(as_json: bool) -> None:
    """Show each installed engine: its version, whether it runs here, and what it can do."""
    from enginebay.catalogue import load_catalogue
    from enginebay.registry import survey

    out = Output()
    found = survey()
    for error in load_catalogue().quarantined.values():
        click.echo(f"warning: {error.message}", err=True)
    if as_json:
        out.json([_row(one) for one in found])
    elif not found:
        click.echo("No engine is installed. Their packages are named enginebay-ENGINE.", err=True)
    elif out.terminal:
        out.render(_table(found))
    else:
        for one in found:
            out.write(f"{one.name} {one.version}: {_state(one)}\n")
            for label, value in _details(one):
                out.write(f"  {label}: {value}\n")


def _row(one: Survey) -> dict[str, Any]:
    from enginebay.structure import unstructure

    info = one.plugin.info if one.plugin else None
    return {
        "name": one.name,
        "version": one.version,
        "distribution": one.distribution,
        "summary": info.summary if info else None,
        "formats": [form.name for form in info.formats] if info else [],
        "isolation": info.isolation if info else None,
        "options": _options(info) if info else {},
        "health": unstructure(one.health),
    }


def _options(info: EngineInfo) -> dict[str, str]:
    """Each option of the engine's own, and the type that it takes."""
    import attrs

    from enginebay.structure import type_name

    return {name: type_name(field.type) for name, field in attrs.fields_dict(info.options).items()}


def _state(one: Survey) -> str:
    if not one.plugin:
        return "quarantined"
    return "healthy" if one.health.healthy else "not healthy"


def _details(one: Survey) -> list[tuple[str, str]]:
    health, info = one.health, one.plugin.info if one.plugin else None
    library = f"{health.library} {health.version}" if health.version else ""
    lines = [
        ("what", info.summary if info else ""),
        ("library", library),
        ("reason", health.reason or ""),
        ("hint", health.hint or ""),
        ("formats", ", ".join(form.name for form in info.formats) if info else ""),
        ("devices", ", ".join(device.name for device in health.devices)),
        ("options", ", ".join(_options(info)) if info else ""),
        ("can", ", ".join(sorted(health.capabilities))),
    ]
    return [(label, value) for label, value in lines if value]


def _table(found: list[Survey]) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False)
    for heading in ("engine", "version", "state", ""):
        table.add_column(heading, no_wrap=heading != "")
    for one in found:
        details = Text()
        for label, value in _details(one):
            details.append(f"{label} ", "bold").append(f"{value}\n")
        table.add_row(one.name, one.version, Text(_state(one), "green" if one.health.healthy else "red"), details)
    return table
