"""Every block of the documentation runs, and every error code and configuration key has its heading."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import data_page
import pytest

from enginebay.errors import BY_CODE

ROOT = Path(__file__).parent.parent
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LOCALLY = "--no-deps --no-index --no-build-isolation"
ENVIRONMENT = {"HF_HUB_OFFLINE": "1", "NO_COLOR": "1"}


def blocks(page: Path, *languages: str) -> list[str]:
    return [code for language, code in BLOCK.findall(page.read_text()) if language in languages]


def environment(folder: Path) -> dict[str, str]:
    """A home of its own, where ``mnn`` is configured: readers install one engine, and here are all of them."""
    (folder / "enginebay.toml").write_text('engine = "mnn"\n')
    scripts = str(Path(sys.executable).parent)
    own = {"HOME": str(folder), "XDG_DATA_HOME": str(folder), "XDG_CONFIG_HOME": str(folder)}
    return {**os.environ, **ENVIRONMENT, **own, "PATH": f"{scripts}{os.pathsep}{os.environ['PATH']}"}


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "python")], ids=lambda page: page.name)
def test_python_blocks_run(page: Path, tmp_path: Path) -> None:
    for code in blocks(page, "python"):
        done = subprocess.run(
            [sys.executable, "-c", code],
            cwd=tmp_path,
            env=environment(tmp_path),
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == 0, f"{code}\n{done.stderr}"


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "sh")], ids=lambda page: page.name)
def test_shell_blocks_run(page: Path, tmp_path: Path) -> None:
    """All but installing and testing, which is what runs this."""
    for code in blocks(page, "sh"):
        lines = []
        for line in code.splitlines():
            line = re.sub(r"^pip install \./core\S* .*? && ", "", line)
            if line.startswith("pip install ./enginebay-"):
                line = line.replace("pip install", f"{sys.executable} -m pip install -q {LOCALLY} --target site")
            elif line.startswith(("pip install", "tox")):
                continue
            lines.append(line)
        script = "\n".join(lines)
        variables = {**environment(tmp_path), "PYTHONPATH": str(tmp_path / "site")}
        done = subprocess.run(
            ["bash", "-e", "-c", script], cwd=tmp_path, env=variables, capture_output=True, text=True, timeout=300
        )
        assert done.returncode == 0, f"{script}\n{done.stdout}\n{done.stderr}"


def test_every_error_has_its_heading() -> None:
    headings = re.findall(r"^### (\w+)$", (ROOT / "docs/reference/errors.md").read_text(), re.MULTILINE)
    assert set(headings) == set(BY_CODE)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


DIAGNOSTIC = re.compile(r"/work/|/tmp/eb|issue #?\d", re.IGNORECASE)


def test_the_project_speaks_of_itself_alone() -> None:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    names = listed.stdout.split("\0") if listed.returncode == 0 else []
    for name in filter(None, names):
        path = ROOT / name
        if path.suffix in {".py", ".md", ".toml", ".ini"} and path.exists() and path != Path(__file__):
            found = DIAGNOSTIC.search(path.read_text(encoding="utf-8"))
            assert not found, f"{name}: {found[0] if found else ''}"


def test_the_page_of_values_is_the_code() -> None:
    assert (ROOT / "docs/reference/data.md").read_text() == data_page.page(), (
        "python tests/data_page.py > docs/reference/data.md"
    )
