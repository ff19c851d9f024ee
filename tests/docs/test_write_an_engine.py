"""What engine authors read is what there is: the tutorial's files, echo's excerpts, every hook and every clause."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest

import enginebay_echo.steps
from enginebay.errors import BY_CODE
from enginebay.hookspecs import PROJECT, EngineHooks, OptionalHooks
from enginebay.testing import write_template
from enginebay.testing.clauses import clauses, reference

DOCS = Path(__file__).parents[2] / "docs"
TUTORIAL = (DOCS / "tutorials/write-an-engine.md").read_text(encoding="utf-8")
HOOKS = (DOCS / "reference/hooks.md").read_text(encoding="utf-8")
SPECIFICATIONS = {
    name: value
    for protocol in (EngineHooks, OptionalHooks)
    for name, value in vars(protocol).items()
    if hasattr(value, f"{PROJECT}_spec")
}


def test_the_tutorial_shows_the_files_that_are_written(tmp_path: Path) -> None:
    shown = dict(re.findall(r"^`(enginebay-toy/\S+)`[^\n]*:\n\n```\w+\n(.*?)^```$", TUTORIAL, re.MULTILINE | re.DOTALL))
    written = {str(path.relative_to(tmp_path)): path.read_text() for path in write_template("toy", tmp_path)}
    code = {name for name in written if not name.endswith(("README.md", "__init__.py"))}
    assert set(shown) == code
    for name in code:
        assert shown[name] == written[name], name


def test_the_tutorial_shows_what_echo_has() -> None:
    own = inspect.getsource(enginebay_echo.steps.EchoModel)
    excerpt = next(block for block in re.findall(r"^```py\n(.*?)^```$", TUTORIAL, re.M | re.S) if "def copy(" in block)
    for method in excerpt.strip("\n").split("\n\n"):
        assert method in own


def test_clauses_that_are_named_say_so() -> None:
    known = {clause.number for clause in clauses()}
    named = set(re.findall(r"\bE\d\d\b", TUTORIAL))
    assert named
    assert named <= known


def test_every_hook_has_a_heading_with_its_arguments() -> None:
    expected = [
        f"{name}({', '.join(p for p in inspect.signature(specification).parameters if p != 'self')})"
        for name, specification in SPECIFICATIONS.items()
    ]
    assert re.findall(r"^### (.*)$", HOOKS, re.MULTILINE) == expected


@pytest.mark.parametrize("name", SPECIFICATIONS)
def test_a_hook_s_section_lists_its_arguments_and_errors(name: str) -> None:
    section = re.search(rf"^### {name}\(.*?(?=^##|\Z)", HOOKS, re.MULTILINE | re.DOTALL)
    assert section
    arguments = [p for p in inspect.signature(SPECIFICATIONS[name]).parameters if p != "self"]
    assert re.findall(r"^- `(\w+)`:", section[0], re.MULTILINE) == arguments
    raised = re.findall(r":raises (\w+):", SPECIFICATIONS[name].__doc__ or "")
    assert re.findall(r"^- raises `(\w+)`", section[0], re.MULTILINE) == raised
    assert set(re.findall(r"\[(\w+)\]\(errors\.md#\1\)", section[0])) <= set(BY_CODE)


def test_the_clauses_page_is_written_from_the_clauses() -> None:
    page = (DOCS / "reference/clauses.md").read_text(encoding="utf-8")
    assert page == reference(), "python -m enginebay.testing.clauses > docs/reference/clauses.md"
