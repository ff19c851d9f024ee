"""Writes a plugin package to begin from: a small engine that passes the kit. It knows no more of it than its folder."""

from __future__ import annotations

import keyword
import re
from pathlib import Path

from enginebay.errors import ConfigError

_FOLDER = Path(__file__).parent / "new_engine"


def write_template(name: str, folder: Path) -> list[Path]:
    """Write the package ``enginebay-NAME`` as a new folder of that name inside ``folder``.

    :param name: the engine's name: lower-case letters and digits, a letter first
    :returns: the files written
    :raises ConfigError: the name is no good, or the new folder is there already
    """
    if not re.fullmatch("[a-z][a-z0-9]{0,39}", name) or keyword.iskeyword(name):
        raise ConfigError(
            f"{name!r} is no name for an engine: it takes lower-case letters and digits, a letter first.",
            hint="enginebay new-engine toy",
        )
    package = folder / f"enginebay-{name}"
    if package.exists():
        raise ConfigError(f"{package} is there already.", hint="Choose another name or another folder.")
    written = []
    for source in sorted(_FOLDER.rglob("*")):
        if source.is_dir() or "__pycache__" in source.parts:
            continue
        target = package / _named(str(source.relative_to(_FOLDER)), name)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(_named(source.read_text(encoding="utf-8"), name), encoding="utf-8")
        written.append(target)
    return written


def _named(text: str, name: str) -> str:
    """Replace the word ``toy`` where it names the engine, and nowhere in the story."""
    if text.startswith("#toy 1\n"):
        return text.replace("#toy 1\n", f"#{name} 1\n", 1)
    return text.replace("toy", name).replace("Toy", name.capitalize())
