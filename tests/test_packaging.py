"""What holds across all distributions: versions, layers, sizes, what may not be called, what an engine brings along."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
PROJECTS = sorted([ROOT / "core", *(path.parent for path in ROOT.glob("plugins/*/pyproject.toml"))])
CORE = ROOT / "core/src/enginebay"
SOURCES = sorted(path for project in PROJECTS for path in (project / "src").rglob("*.py"))

CONTRACT = ("hookspecs", "data", "errors", "registry", "config", "engine")


def project(folder: Path) -> dict[str, Any]:
    data: dict[str, Any] = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
    return data


def test_versions_are_in_lockstep() -> None:
    versions = {folder.name: project(folder)["version"] for folder in PROJECTS}
    assert len(set(versions.values())) == 1, versions
    version = versions["core"]
    assert f'__version__ = "{version}"' in (CORE / "__init__.py").read_text()
    for folder in PROJECTS:
        for dependency in project(folder)["dependencies"]:
            if re.match(r"enginebay(\W|-)", dependency):
                assert dependency.split(";")[0].strip().endswith(f"=={version}"), (folder.name, dependency)


@pytest.mark.parametrize("folder", PROJECTS, ids=lambda folder: folder.name)
def test_each_distribution_is_typed_and_licensed(folder: Path) -> None:
    assert list(folder.glob("src/*/py.typed"))
    assert (folder / "LICENSE").read_text() == (ROOT / "LICENSE").read_text()
    assert project(folder)["requires-python"] == ">=3.11,<3.14"


def test_the_contract_layer_is_small_and_needs_little() -> None:
    lines = 0
    for name in CONTRACT:
        text = (CORE / f"{name}.py").read_text()
        lines += sum(bool(line.strip()) for line in text.splitlines())
        outside = {
            alias.split(".")[0]
            for node in ast.walk(ast.parse(text))
            for alias in (
                [node.module]
                if isinstance(node, ast.ImportFrom) and node.module
                else [a.name for a in node.names]
                if isinstance(node, ast.Import)
                else []
            )
        }
        assert outside <= {"attrs", "cattrs", "pluggy", "enginebay", "numpy"} | set(sys.stdlib_module_names), name
    assert lines < 1000, f"the contract layer has {lines} lines, blank ones not counted"


FORBIDDEN_MODULES = {"pickle", "marshal", "shelve", "dill", "diskcache", "telnetlib"}
FORBIDDEN_CALLS = {"eval", "exec", "torch.load", "yaml.load", "os.system", "os.popen"}


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_dangerous_is_called(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            assert not {alias.name.split(".")[0] for alias in node.names} & FORBIDDEN_MODULES
        elif isinstance(node, ast.ImportFrom):
            assert (node.module or "").split(".")[0] not in FORBIDDEN_MODULES
        elif isinstance(node, ast.Call):
            assert ast.unparse(node.func) not in FORBIDDEN_CALLS
            assert not any(k.arg == "shell" and ast.unparse(k.value) != "False" for k in node.keywords)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_says_what_it_is(path: Path) -> None:
    text = path.read_text()
    if text.strip():
        assert ast.get_docstring(ast.parse(text)), path


def test_no_engine_needs_another() -> None:
    libraries = {"llamacpp": "llama-cpp-python", "mnn": "mnn", "mlx": "mlx"}
    for folder in PROJECTS:
        names = {re.split(r"[\[<>=~;! ]", dependency)[0].lower() for dependency in project(folder)["dependencies"]}
        for engine, library in libraries.items():
            if folder.name != engine:
                assert library not in names, folder.name
                assert f"enginebay-{engine}" not in names, folder.name
