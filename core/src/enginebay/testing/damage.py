"""Damaged copies of a model on disk: missing, empty, cut, random, or of another kind. It knows no format."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from hashlib import shake_128
from pathlib import Path

MOST_BYTES = 1 << 20


def missing(model: Path, folder: Path) -> Path:
    """A path that leads nowhere."""
    return folder / "missing" / model.name


def empty(model: Path, folder: Path) -> Path:
    """An empty file, or an empty folder, of the model's name."""
    path = folder / model.name
    if model.is_dir():
        path.mkdir()
    else:
        path.write_bytes(b"")
    return path


def cut(model: Path, folder: Path) -> Path:
    """The first half of the file, or of the largest file of the folder."""
    return _with_largest(model, folder, lambda whole: _first(whole, min(whole.stat().st_size // 2, MOST_BYTES)))


def scrambled(model: Path, folder: Path) -> Path:
    """Random bytes for the file, or for the largest file of the folder."""
    return _with_largest(model, folder, lambda _whole: shake_128(b"no model").digest(4096))


def another_kind(model: Path, folder: Path) -> Path:
    """A folder of the file's name with a text in it, or a text file of the folder's name."""
    path = folder / model.name
    if model.is_dir():
        path.write_text("This is no model.\n", encoding="utf-8")
    else:
        path.mkdir()
        (path / "readme.txt").write_text("This is no model.\n", encoding="utf-8")
    return path


def _first(path: Path, size: int) -> bytes:
    with path.open("rb") as file:
        return file.read(size)


def _with_largest(model: Path, folder: Path, content: Callable[[Path], bytes]) -> Path:
    path = folder / model.name
    if not model.is_dir():
        path.write_bytes(content(model))
        return path
    largest = max((file for file in model.rglob("*") if file.is_file()), key=lambda file: file.stat().st_size)
    shutil.copytree(model, path, copy_function=lambda source, target: Path(target).symlink_to(Path(source).resolve()))
    damaged = path / largest.relative_to(model)
    damaged.unlink()
    damaged.write_bytes(content(largest))
    return path
