"""The kit proves itself: each clause catches the engine that breaks it, and lets the same engine pass unbroken."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from enginebay.testing import EngineConformance
from enginebay.testing.clauses import clauses

MUTANTS = Path(__file__).parent / "mutants"
TESTS = {name[5:8]: name for name in dir(EngineConformance) if name.startswith("test_e")}
BROKEN = sorted(set(TESTS) - {"e00"})
SUBCLASS = """
class Test{clause}(EngineConformance):
    engine = "{engine}"
    model = "echo"
    patience_seconds = {patience}
"""


def outcomes(folder: Path, module: str, arguments: list[str]) -> dict[str, str]:
    """Run a test module with the mutants installed: what became of each test, by its class and name."""
    meta = folder / "kit_mutants-0.dist-info"
    meta.mkdir()
    (meta / "METADATA").write_text("Metadata-Version: 2.1\nName: kit-mutants\nVersion: 0\n")
    targets = {clause: f"mutants:{clause}" for clause in [*BROKEN, "modest", "secretive"]}
    targets |= {"e01": "mutant_e01", "e02": "mutant_e02", "unmutated": "unmutated"}
    lines = "".join(f"{name} = {target}\n" for name, target in targets.items())
    (meta / "entry_points.txt").write_text(f"[enginebay.engines]\n{lines}")
    test, report = folder / "test_mutants.py", folder / "report.xml"
    test.write_text("from enginebay.testing import EngineConformance\n" + module)
    (folder / "pytest.ini").write_text("[pytest]\n")
    options = ["-c", str(folder / "pytest.ini"), "--rootdir", str(folder), "-p", "no:cacheprovider", "-q"]
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            *options,
            f"--junitxml={report}",
            *(a.replace("FILE", str(test)) for a in arguments),
        ],
        check=False,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), str(MUTANTS)])},
    )
    assert report.exists(), done.stdout + done.stderr
    found = {}
    for case in ElementTree.parse(report).iter("testcase"):
        result = next((child.tag for child in case), "passed")
        found[f"{case.get('classname', '').rpartition('.')[2]}::{case.get('name')}"] = result
    return found


@pytest.fixture(scope="module")
def caught(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Each mutant's test of the clause that it breaks."""
    module = "".join(SUBCLASS.format(clause=clause.upper(), engine=clause, patience=2) for clause in BROKEN)
    wanted = [f"FILE::Test{clause.upper()}::{TESTS[clause]}" for clause in BROKEN]
    return outcomes(tmp_path_factory.mktemp("mutants"), module, wanted)


@pytest.mark.parametrize("clause", BROKEN)
def test_each_clause_catches_its_mutant(caught: dict[str, str], clause: str) -> None:
    assert caught[f"Test{clause.upper()}::{TESTS[clause]}"] == "failure"


def test_the_unmutated_engine_passes(tmp_path: Path) -> None:
    found = outcomes(tmp_path, SUBCLASS.format(clause="All", engine="unmutated", patience=60), ["FILE"])
    assert set(found.values()) == {"passed"}, found
    assert len(found) == len(TESTS)


def test_undeclared_capabilities_must_be_refused(tmp_path: Path) -> None:
    """An engine that declares nothing and refuses all of it passes; one that does it all the same fails."""
    (tmp_path / "modest").mkdir()
    modest = outcomes(
        tmp_path / "modest", SUBCLASS.format(clause="All", engine="modest", patience=60), ["FILE", "-k", "not e01"]
    )
    assert set(modest.values()) == {"passed", "skipped"}, modest
    (tmp_path / "secretive").mkdir()
    secretive = outcomes(
        tmp_path / "secretive",
        SUBCLASS.format(clause="All", engine="secretive", patience=60),
        ["FILE", "-k", "e32 or e48 or e5 or e6"],
    )
    failed = {name.partition("::test_")[2][:3] for name, outcome in secretive.items() if outcome == "failure"}
    assert failed == {"e32", "e48", "e57", "e58", "e59", "e60", "e61", "e63", "e64", "e65"}


def test_overriding_a_clause_needs_a_reason(tmp_path: Path) -> None:
    module = "import pytest\n"
    overrides = {
        "Bare": "    def test_e21_max_tokens(self): pass\n",
        "NoReason": "    @pytest.mark.xfail\n    def test_e21_max_tokens(self): assert 0\n",
        "Removed": "    test_e21_max_tokens = None\n",
        "Skipped": "    @pytest.mark.skip(reason='no')\n    def test_e21_max_tokens(self): pass\n",
        "Allowed": "    @pytest.mark.xfail(reason='one token more')\n    def test_e21_max_tokens(self): assert 0\n",
    }
    for name, body in overrides.items():
        module += SUBCLASS.format(clause=name, engine="unmutated", patience=60) + body
    found = outcomes(tmp_path, module, [f"FILE::Test{name}::test_e00_overrides" for name in overrides])
    verdicts = {name: found[f"Test{name}::test_e00_overrides"] for name in overrides}
    assert verdicts == {name: "passed" if name == "Allowed" else "failure" for name in overrides}


def test_clauses_are_numbered_without_gaps() -> None:
    assert [clause.number for clause in clauses()] == [f"E{i:02}" for i in range(len(TESTS))]
    for clause in clauses():
        assert clause.text.endswith("."), clause
        assert clause.look.startswith("Look "), clause
