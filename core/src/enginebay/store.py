"""Finds the file or folder that a model reference means, and its format. It knows no engine by name and reads no model.

A reference is a catalogue name, or a path. A name that is both means the catalogue; ``./name`` is always the path.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable, Sequence
from fnmatch import fnmatch
from pathlib import Path

from attrs import frozen

from enginebay.catalogue import Catalogue
from enginebay.data import CatalogueModel, ModelFormat
from enginebay.errors import ModelLoadError, ModelNotFound, Unsupported
from enginebay.structure import close_match

HUB = "hf:"


@frozen
class Found:
    """A model on disk. ``name`` is what to call it: its catalogue name, or its file's or folder's."""

    path: Path
    format: str
    name: str


def locate(reference: str | Path, catalogue: Catalogue) -> Path | CatalogueModel:
    """The catalogue model or the existing path that a reference means.

    :raises ModelNotFound: it means neither
    :raises Unsupported: it names a model on a hub
    """
    text = os.fspath(reference)
    if isinstance(reference, str) and text.startswith(HUB):
        raise _not_local(text)
    if isinstance(reference, str) and text in catalogue.models:
        return catalogue.models[text]
    path = Path(os.path.expanduser(text))  # Path's own raises for an unknown user
    if text.strip() and os.path.exists(path):  # Path's own raises for a name that is too long
        return path.absolute()
    names = sorted(catalogue.models)
    near = difflib.get_close_matches(text, names, n=1)
    looked = f"no file or folder {path.absolute()!s}" if text.strip() else "an empty name"
    listed = f"the catalogues have {', '.join(names)}" if names else "no catalogue is installed"
    if text in catalogue.quarantined:
        listed += f"; {catalogue.quarantined[text].message}"
    raise ModelNotFound(
        f"There is no model {text!r}: {looked}, and {listed}{close_match(text, names)}",
        hint=f"enginebay run {near[0]}" if near else "Give the path of a model file or folder, or a catalogue's name.",
        reference=text,
        known=names,
    )


def choose_artifact(target: Path | CatalogueModel, formats: Sequence[ModelFormat], reader: str) -> Found:
    """The form of a model that ``reader``, an engine's name, reads. Its first listed format wins in a catalogue.

    :raises ModelLoadError: no form fits, or a path fits more than one
    :raises ModelNotFound: a catalogue names a file that is not there
    """
    if isinstance(target, CatalogueModel):
        return _artifact(target, formats, reader)
    matching = recognise(target, formats)
    if len(matching) > 1:
        raise ModelLoadError(
            f"{target} could be {' or '.join(matching)}, and {reader} reads each.",
            hint="Keep each form of a model in a folder of its own.",
            path=str(target),
            formats=matching,
        )
    if not matching:
        raise ModelLoadError(
            f"{reader} does not read {target}: {_why_not(target, formats)}",
            hint=_inside(target, formats) or "enginebay engines",
            path=str(target),
            engine=reader,
        )
    return Found(target, matching[0], target.stem if target.is_file() else target.name)


def recognise(path: Path, formats: Iterable[ModelFormat]) -> list[str]:
    """The names of the formats that a file or folder has. What a file begins with decides before its name does."""
    formats = list(formats)
    if path.is_dir():
        names = _names(path)
        return [one.name for one in formats if one.folder and not _missing(names, one)]
    head = _head(path, max((len(one.magic) for one in formats), default=0))
    by_magic = [one.name for one in formats if one.magic and head.startswith(one.magic)]
    return by_magic or [one.name for one in formats if one.file and fnmatch(path.name.lower(), one.file.lower())]


def _artifact(model: CatalogueModel, formats: Sequence[ModelFormat], reader: str) -> Found:
    for wanted in formats:
        for artifact in model.artifacts:
            if artifact.format == wanted.name:
                if not artifact.path.exists():
                    raise ModelNotFound(
                        f"The catalogue's {wanted.name} form of {model.name} is missing: {artifact.path}",
                        hint="Install the package of the catalogue again.",
                        reference=model.name,
                    )
                return Found(artifact.path, wanted.name, model.name)
    has = ", ".join(artifact.format for artifact in model.artifacts) or "no form"
    reads = ", ".join(one.name for one in formats) or "no format"
    raise ModelLoadError(
        f"{reader} reads {reads}; {model.name} is there as {has}.",
        hint="enginebay engines",
        engine=reader,
        reference=model.name,
    )


def _not_local(text: str) -> Unsupported:
    owner, _, rest = text.removeprefix(HUB).partition("/")
    name, _, file = rest.partition("/")
    target = f"{owner}/{name}" if owner and name else "OWNER/NAME"
    folder = f"models/{name or 'NAME'}"
    command = " ".join(["hf", "download", target, *([file] if file else []), "--local-dir", folder])
    local = f"{folder}/{file}" if file else folder
    return Unsupported(
        f"{text}: models are loaded from this machine only. Download it, then give {local}",
        hint=command,
        reference=text,
    )


def _names(folder: Path) -> list[str]:
    try:
        return [entry.name for entry in os.scandir(folder)]
    except OSError as error:
        raise ModelLoadError(f"{folder} cannot be read: {error.strerror}", path=str(folder)) from error


def _head(path: Path, length: int) -> bytes:
    if not path.is_file():
        raise ModelLoadError(f"{path} is neither a file nor a folder.", path=str(path))
    try:
        with path.open("rb") as file:
            return file.read(length)
    except OSError as error:
        raise ModelLoadError(f"{path} cannot be read: {error.strerror}", path=str(path)) from error


def _missing(names: Sequence[str], wanted: ModelFormat) -> list[str]:
    return [pattern for pattern in wanted.folder if not any(fnmatch(name, pattern) for name in names)]


def _why_not(path: Path, formats: Sequence[ModelFormat]) -> str:
    if path.is_dir():
        names = _names(path)
        lacks = [f"{one.name} lacks {', '.join(_missing(names, one))}" for one in formats if one.folder]
        return f"as {'; as '.join(lacks)}." if lacks else "it is a folder."
    files = [f"{one.name} ({one.file})" for one in formats if one.file]
    folders = [f"{one.name} (a folder with {', '.join(one.folder)})" for one in formats if one.folder]
    return f"it reads {', '.join(files + folders) or 'no files'}."


def _inside(path: Path, formats: Sequence[ModelFormat]) -> str | None:
    """The one file in a folder that would have been right."""
    if not path.is_dir():
        return None
    fitting = [name for name in _names(path) if any(one.file and fnmatch(name, one.file) for one in formats)]
    return f"enginebay run {path / fitting[0]}" if len(fitting) == 1 else None
