"""Lists the clauses: number, text, and what to look at when one fails. It runs none of them."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator

from attrs import frozen

from enginebay.testing.conformance import EngineConformance


@frozen
class Clause:
    """``number`` is ``E07``, ``text`` what must hold, ``look`` where to look if it does not, ``subject`` its group."""

    number: str
    text: str
    look: str
    subject: str


def clauses() -> Iterator[Clause]:
    """All clauses in the order of their numbers."""
    owners = [kind for kind in EngineConformance.__mro__ if kind.__module__.startswith("enginebay.testing")]
    tests = {name: kind for kind in reversed(owners) for name in vars(kind) if name.startswith("test_e")}
    for name in sorted(tests):
        first, _, rest = inspect.cleandoc(getattr(tests[name], name).__doc__).partition("\n\n")
        number, _, text = " ".join(first.split()).partition(" ")
        subject = inspect.cleandoc(inspect.getmodule(tests[name]).__doc__ or "").splitlines()[0]
        yield Clause(number, text, " ".join(rest.split()), subject)


def reference() -> str:
    """The reference page of all clauses, in Markdown."""
    lines = ["# Conformance clauses", "", HEAD.strip(), ""]
    subject = ""
    for clause in clauses():
        if clause.subject != subject:
            subject = clause.subject
            about = re.match(r"Clauses on ([^:.]*)", subject)
            lines += [f"## {about[1].capitalize() if about else 'The kit itself'}", ""]
        lines += [f"### {clause.number}", "", clause.text, "", f"*If it fails:* {clause.look}", ""]
    return "\n".join(lines).replace("``", "`")


HEAD = """
Every engine keeps these clauses, and `enginebay check ENGINE --model REF` runs them. Each is a test of
`enginebay.testing.EngineConformance`. What an engine declares as a capability must work; what it does not declare must
be refused with `unsupported`. A test class may override a clause only with `@pytest.mark.xfail(reason="...")`.

This page is written from the tests: `python -m enginebay.testing.clauses` prints it.
"""

if __name__ == "__main__":
    print(reference(), end="")  # noqa: T201 - the program's output
