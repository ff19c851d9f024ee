"""The reference page has the tables that the code prints, and its examples compile."""

import re
from pathlib import Path

import attrs

import enginebay.data
from enginebay.decode.constraints import REQUEST_LIMITS, Limits
from enginebay.decode.constraints.schema import keyword_table

from .vocabularies import byte_compiler

PAGE = (Path(__file__).parents[3] / "docs/reference/constraints.md").read_text()


def limits_table() -> str:
    rows = [
        f"| `{name}` | {getattr(Limits(), name):,} | {getattr(REQUEST_LIMITS, name):,} |"
        for name in attrs.fields_dict(Limits)
    ]
    return "\n".join(["| Limit | | Requests |", "|---|---|---|", *rows]) + "\n"


def test_the_tables_are_those_of_the_code():
    assert keyword_table() in PAGE, "python -m enginebay.decode.constraints.schema.keywords"
    assert limits_table() in PAGE, limits_table()


def test_the_examples_compile():
    [block] = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    imports, examples = block.split("\n\n")
    scope: dict = {}
    exec(imports, scope)
    kinds = set()
    for line in examples.strip().splitlines():
        constraint = eval(line, scope)
        byte_compiler().compile(constraint)
        kinds.add(type(constraint))
    assert kinds == set(enginebay.data.Constraint.__args__) - {enginebay.data.JsonObject}
