"""``enginebay check``: the conformance kit against an engine, through pytest. It knows no clause."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from enginebay import registry

_TEST = """\
from enginebay.testing import EngineConformance


class Test{name}(EngineConformance):
    engine = {engine!r}
    model = {model!r}
"""


@click.command("check", context_settings={"ignore_unknown_options": True})
@click.argument("engine")
@click.argument("pytest_arguments", nargs=-1, type=click.UNPROCESSED)
@click.option("-m", "--model", help="The model to check with; otherwise the one of its catalogue.")
def command(engine: str, model: str | None, pytest_arguments: tuple[str, ...]) -> None:
    """Run the conformance kit against an engine.

    What follows is handed to pytest: enginebay check echo -k stop
    """
    from enginebay import registry

    require_testing("check")
    plugin = registry.load(engine)
    reference = model or _own_model(plugin)
    if Path(reference).exists():
        reference = str(Path(reference).absolute())
    with tempfile.TemporaryDirectory(prefix="enginebay-check-") as folder:
        test = Path(folder, "test_engine.py")
        test.write_text(_TEST.format(name=engine.title(), engine=engine, model=reference), "utf-8")
        settings = Path(folder, "pytest.ini")
        settings.write_text("[pytest]\n", "utf-8")
        options = ["-c", str(settings), "--rootdir", folder, "-p", "no:cacheprovider", "--import-mode=importlib"]
        status = subprocess.run([sys.executable, "-m", "pytest", *options, str(test), *pytest_arguments], check=False)
    raise click.exceptions.Exit(0 if status.returncode == 0 else 1)


def require_testing(what: str) -> None:
    """Say what to install where the kit cannot be imported."""
    if find_spec("pytest") is None:
        from enginebay.errors import InstallError

        raise InstallError(f"enginebay {what} needs the conformance kit.", hint="pip install 'enginebay[testing]'")


def _own_model(plugin: registry.Plugin) -> str:
    from enginebay.catalogue import load_catalogue

    formats = {form.name for form in plugin.info.formats}
    models = load_catalogue().models.values()
    names = [model.name for model in models if formats & {artifact.format for artifact in model.artifacts}]
    if plugin.info.name in names:
        return plugin.info.name
    if len(names) == 1:
        return names[0]
    which = f"one of {', '.join(names)}" if names else "a path"
    raise click.UsageError(f"Say which model to check {plugin.info.name} with: --model {which}.")
