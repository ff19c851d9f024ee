"""Writes the reference page of the contract's values from the code: ``python tests/data_page.py > docs/reference/data.md``."""

from __future__ import annotations

import inspect

import attrs

from enginebay import data, result

HEAD = """# Data

The values that cross the contract. All are frozen attrs classes in `enginebay.data`, except `Result`, which is what an application gets
back. This page is generated from the code.
"""


def section(cls: type) -> str:
    lines = [f"## {cls.__name__}", "", inspect.cleandoc(cls.__doc__ or "").replace("``", "`"), ""]
    fields = attrs.fields(cls)
    if fields:
        lines += ["| field | type | default |", "|---|---|---|"]
    for field in fields:
        default = "required" if field.default is attrs.NOTHING else f"`{shown(field.default)}`"
        kind = str(cls.__annotations__[field.name]).replace("|", "\\|")
        lines.append(f"| `{field.name}` | `{kind}` | {default} |")
    return "\n".join(lines).rstrip() + "\n"


def shown(default: object) -> str:
    if isinstance(default, attrs.Factory):  # type: ignore[arg-type]
        made = default.factory()  # type: ignore[attr-defined]
        return f"{type(made).__name__}()" if attrs.has(type(made)) else repr(made)
    return repr(default)


def page() -> str:
    classes = [
        cls
        for cls in vars(data).values()
        if inspect.isclass(cls) and attrs.has(cls) and cls.__module__ == data.__name__
    ]
    return "\n".join([HEAD, *map(section, [*classes, result.Result])])


if __name__ == "__main__":
    print(page(), end="")
