"""Distributions that exist for one test: real metadata and real modules on the path."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

Install = Callable[..., Path]

ENGINE_SOURCE = """
from enginebay.data import EngineInfo, Health, ModelFormat
from enginebay.hookspecs import hookimpl

engine = EngineInfo(name={name!r}, summary="for a test", formats=(ModelFormat({format!r}, file="*.{format}"),){more})

@hookimpl
def load(request): ...
@hookimpl
def generate(model, request): ...
@hookimpl
def tokenize(model, text, special): ...
@hookimpl
def grammar(model, constraint): ...
@hookimpl
def health(model):
    return Health({healthy}, library={name!r}, reason={reason!r}, hint={hint!r})
"""


def _engine_source(
    name: str,
    *,
    format: str = "brick",  # noqa: A002
    healthy: bool = True,
    reason: str | None = None,
    hint: str | None = None,
    more: str = "",
) -> str:
    """The text of an engine's module that fits the contract and does nothing."""
    return ENGINE_SOURCE.format(name=name, format=format, healthy=healthy, reason=reason, hint=hint, more=more)


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of packages, in front of the path of this process and of those that it starts."""
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.setenv("PYTHONPATH", str(folder))
    yield folder
    for name, module in list(sys.modules.items()):
        if (getattr(module, "__file__", None) or "").startswith(str(folder)):
            del sys.modules[name]


@pytest.fixture
def install(site: Path) -> Install:
    """``install(distribution, {group: {name: target}}, {module: source}, version="1.0")``."""

    def write(
        distribution: str,
        entry_points: Mapping[str, Mapping[str, str]],
        modules: Mapping[str, str] | None = None,
        version: str = "1.0",
    ) -> Path:
        info = site / f"{distribution.replace('-', '_')}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n")
        groups = (
            f"[{group}]\n" + "".join(f"{name} = {target}\n" for name, target in names.items())
            for group, names in entry_points.items()
        )
        (info / "entry_points.txt").write_text("\n".join(groups))
        for name, source in (modules or {}).items():
            (site / f"{name}.py").write_text(source)
        return site

    return write


@pytest.fixture
def engine_source() -> Callable[..., str]:
    """``engine_source(name)``: the text of an engine's module."""
    return _engine_source


@pytest.fixture
def install_engine(install: Install) -> Callable[..., str]:
    """``install_engine(name, **_engine_source's keywords)``; ``source`` replaces the module's text."""

    def write(name: str, *, source: str | None = None, distribution: str | None = None, **fields: object) -> str:
        module = f"engine_of_{(distribution or name).replace('-', '_')}"
        text = _engine_source(name, **fields) if source is None else source  # type: ignore[arg-type]
        install(distribution or f"enginebay-{name}", {"enginebay.engines": {name: module}}, {module: text})
        return module

    return write
