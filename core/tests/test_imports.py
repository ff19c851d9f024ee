"""What importing costs, and who may import whom."""

from __future__ import annotations

import ast
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from importlib.metadata import entry_points
from pathlib import Path

import pytest

import enginebay

PACKAGE = Path(enginebay.__file__).parent
HEAVY = {
    "numpy", "llguidance", "jinja2", "llama_cpp", "MNN", "mlx", "mlx_lm", "torch", "transformers", "tokenizers",
    "huggingface_hub", "pytest",
}  # fmt: skip
SLOW = {"rich", "asyncio", "importlib.metadata", "cattrs", "logging"}
"""What costs more time to import than all that ``enginebay engines --help`` needs."""

LAYERS = (
    {"cli"},
    {"testing"},
    {"aio"},
    {"bay"},
    {"roster"},
    {"moving"},
    {"opening"},
    {"worker"},
    {"model", "session"},
    {"selection", "engine", "result", "session_file", "memory", "status"},
    {"registry", "config"},
    {"store"},
    {"catalogue"},
    {"entrypoints"},
    {"decode"},
    {"chat", "tools", "template"},
    {"structure", "mailbox"},
    {"hookspecs"},
    {"data"},
    {"errors"},
)
"""The modules of the core from top to bottom. Each imports from its own row and from below."""


def loaded_by(*command: str) -> set[str]:
    """The modules that a fresh interpreter imports."""
    done = subprocess.run([sys.executable, "-X", "importtime", *command], capture_output=True, text=True, check=True)
    lines = [line for line in done.stderr.splitlines() if line.startswith("import time:")]
    return {line.rpartition("|")[2].strip() for line in lines}


def among(names: set[str], loaded: set[str]) -> set[str]:
    return {name for name in loaded if any(name == one or name.startswith(f"{one}.") for one in names)}


def test_importing_the_package_imports_next_to_nothing() -> None:
    assert not among(HEAVY | SLOW, loaded_by("-c", "import enginebay"))


def test_using_the_whole_package_imports_no_heavy_library() -> None:
    everything = "import enginebay; [getattr(enginebay, name) for name in enginebay.__all__]"
    assert not among(HEAVY, loaded_by("-c", everything))


def test_help_of_a_command_is_quick() -> None:
    script = str(Path(sysconfig.get_path("scripts"), "enginebay"))
    loaded = loaded_by(script, "engines", "--help")
    assert "click" in loaded
    assert not among(HEAVY | SLOW, loaded)


@pytest.mark.parametrize("engine", sorted(point.name for point in entry_points(group="enginebay.engines")))
def test_looking_at_an_engine_imports_no_native_library(engine: str) -> None:
    look = f"from enginebay import registry; registry.load({engine!r})"
    assert not among(HEAVY, loaded_by("-c", look))


# --- who may import whom ----------------------------------------------------------------------------------------------


def imports(path: Path) -> Iterator[str]:
    """The package's own modules that a file imports when it runs, whether at once or later."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for block in ast.walk(tree):
        if isinstance(block, ast.If) and isinstance(block.test, ast.Name) and block.test.id == "TYPE_CHECKING":
            block.body = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module == "enginebay":
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("enginebay."):
            yield (node.module or "").split(".")[1]
        elif isinstance(node, ast.Import):
            yield from (name.name.split(".")[1] for name in node.names if name.name.startswith("enginebay."))


def rank(module: str) -> int:
    return next(i for i, row in enumerate(LAYERS) if module in row)


FILES = [
    path for path in sorted(PACKAGE.rglob("*.py")) if path != PACKAGE / "__init__.py" and "template" not in path.parts
]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_imports_point_down(path: Path) -> None:
    own = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    up = {module for module in imports(path) if rank(module) < rank(own)}
    assert not up, f"{own} imports from above: {', '.join(sorted(up))}"
