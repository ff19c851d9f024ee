"""``enginebay new-engine``: writes a plugin package that works as written. It knows nothing of what is in it."""

from __future__ import annotations

import click

from enginebay.cli.check import require_testing


@click.command("new-engine")
@click.argument("name")
def command(name: str) -> None:
    """Write a plugin package for an engine of your own, in a new folder."""
    require_testing("new-engine")
    from pathlib import Path

    from enginebay.testing.template import write_template

    write_template(name, Path.cwd())
    folder = f"enginebay-{name}"
    click.echo(f"Wrote {folder}. Now:\n  pip install -e ./{folder}\n  enginebay check {name}", err=True)
