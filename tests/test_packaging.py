"""What holds across all distributions: versions, layers, sizes, what may not be called, what an engine brings along."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
PROJECTS = sorted([ROOT / "core", *(path.parent for path in ROOT.glob("plugins/*/pyproject.toml"))])
CORE = ROOT / "core/src/enginebay"
SOURCES = sorted(path for project in PROJECTS for path in (project / "src").rglob("*.py"))

LAYERS = [
    {"cli"},
    {"__init__", "aio"},
    {"bay", "moving"},
    {"opening"},
    {"worker"},
    {"selection"},
    {"model", "session", "result", "session_file"},
    {"engine"},
    {"registry", "config"},
    {"catalogue", "store", "entrypoints", "memory"},
    {"decode"},
    {"chat", "tools"},
    {"structure"},
    {"hookspecs", "data", "errors"},
]
"""Arrows point down this list only. ``testing`` may use all of it."""

CONTRACT = ("hookspecs", "data", "errors", "registry", "config", "engine")


def project(folder: Path) -> dict[str, Any]:
    data: dict[str, Any] = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
    return data


def imports(path: Path) -> set[str]:
    """The core modules that a file imports when it is used, inside functions too; typing-only imports do not count."""
    found: set[str] = set()
    tree = ast.parse(path.read_text())
    skipped = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        names: list[str] = []
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        found |= {name.split(".")[1] for name in names if name.startswith("enginebay.")}
    return found


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


def test_arrows_point_down() -> None:
    place = {name: number for number, layer in enumerate(LAYERS) for name in layer}
    for path in sorted(CORE.rglob("*.py")):
        own = path.relative_to(CORE).parts[0].removesuffix(".py")
        if own == "testing":
            continue
        assert own in place, f"{own} has no layer"
        for other in imports(path) - {own}:
            if other in place:
                assert place[other] >= place[own], f"{path.relative_to(CORE)} imports {other}, which is above it"


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


def modules_after(code: str) -> set[str]:
    command = [sys.executable, "-c", f"{code}\nimport sys; print(*sys.modules)"]
    return set(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split())


HEAVY = {"numpy", "llguidance", "jinja2", "llama_cpp", "MNN", "mlx", "mlx_lm", "transformers", "tokenizers", "torch"}


def test_importing_the_core_imports_nothing_heavy() -> None:
    assert not modules_after("import enginebay, enginebay.registry, enginebay.bay, enginebay.aio") & HEAVY


def test_looking_at_what_is_installed_imports_no_engine() -> None:
    loaded = modules_after("from enginebay import registry\nassert registry.engines()")
    assert not loaded & HEAVY
    assert not {name for name in loaded if name.startswith("enginebay_")}


def test_a_plugin_module_is_light() -> None:
    loaded = modules_after("from enginebay import registry\nfor name in registry.engines(): registry.load(name)")
    assert not loaded & HEAVY
