"""A new engine's package, as it is written: it installs, and passes the kit."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from enginebay.errors import ConfigError
from enginebay.testing import write_template
from enginebay.testing.clauses import clauses


def run(*command: str, folder: Path, site: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(site), "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    return subprocess.run(command, check=False, capture_output=True, text=True, cwd=folder, env=environment)


@pytest.mark.parametrize(("name", "some", "passed"), [("toy", "e", len(list(clauses()))), ("parrot2", "e18", 1)])
def test_it_installs_and_passes_the_kit(tmp_path: Path, name: str, some: str, passed: int) -> None:
    site = tmp_path / "site"
    files = write_template(name, tmp_path)
    package = tmp_path / f"enginebay-{name}"
    assert package / "pyproject.toml" in files
    where = ["--no-index", "--no-deps", "--no-build-isolation", "--target", str(site)]
    done = run(sys.executable, "-m", "pip", "install", *where, f"./enginebay-{name}", folder=tmp_path, site=site)
    assert done.returncode == 0, done.stdout + done.stderr
    enginebay = "from enginebay.cli.main import main; main()"
    checked = run(sys.executable, "-c", enginebay, "check", name, "-k", f"test_{some}", folder=tmp_path, site=site)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert f"{passed} passed" in checked.stdout, checked.stdout
    own = run(sys.executable, "-m", "pytest", "-q", "-k", "e21", "tests", folder=package, site=site)
    assert own.returncode == 0, own.stdout + own.stderr
    assert "1 passed" in own.stdout


def test_its_code_is_short(tmp_path: Path) -> None:
    files = write_template("toy", tmp_path)
    lines = [
        line for file in files if file.suffix == ".py" and "src" in file.parts for line in file.read_text().splitlines()
    ]
    assert len([line for line in lines if line.strip()]) < 100


@pytest.mark.parametrize("name", ["", "Toy", "my-engine", "2fast", "class", "a" * 50, "../up"])
def test_a_bad_name_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="no name for an engine"):
        write_template(name, tmp_path)
    assert not list(tmp_path.iterdir())


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    write_template("toy", tmp_path)
    (tmp_path / "enginebay-toy" / "README.md").write_text("mine")
    with pytest.raises(ConfigError, match="is there already"):
        write_template("toy", tmp_path)
    assert (tmp_path / "enginebay-toy" / "README.md").read_text() == "mine"
