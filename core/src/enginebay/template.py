"""A model's own Jinja template, run with bounds: no way out of the sandbox, no endless loop, no text that fills the memory.

It knows no messages and no tokens. Templates come from model files and are not trusted. Loops and macros count the processor
time that a rendering has taken; operators that can make a large value from small ones look at sizes first.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any, TypeVar

from enginebay.errors import ModelLoadError, RequestError

if TYPE_CHECKING:
    from jinja2 import Template, nodes

Body = TypeVar("Body", bound="nodes.For | nodes.Macro")

MAX_TEMPLATE_CHARACTERS = 256 * 1024
MAX_PROMPT_CHARACTERS = 16 * 1024 * 1024
MAX_RANGE = 100_000
MAX_POWER_BITS = 4_096
CPU_SECONDS = 5.0
"""Processor time, not the clock: a busy machine refuses nothing that an idle one renders."""

_started = threading.local()


class _Refused(Exception):
    """The template called ``raise_exception``."""


class _TooMuch(Exception):
    """The template went over a bound."""


def run(template: str, values: Mapping[str, Any]) -> str:
    """The text that the template makes of ``values``.

    :raises RequestError: the template refuses the values, or fails on them
    :raises ModelLoadError: the template is malformed, does what a template may not, or goes over a bound
    """
    import jinja2

    compiled = _compiled(template)
    _started.cpu_seconds = time.thread_time()
    try:
        return "".join(_bounded(compiled.generate(**values)))
    except _Refused as error:
        raise RequestError(f"The model's chat template refuses these messages: {error}") from error
    except (_TooMuch, MemoryError, OverflowError) as error:
        raise ModelLoadError(f"The model's chat template {error or 'takes too much memory'}.") from error
    except jinja2.exceptions.SecurityError as error:
        raise ModelLoadError(f"The model's chat template does what a template may not: {error}") from error
    except (
        jinja2.TemplateError,
        TypeError,
        ValueError,
        LookupError,
        ArithmeticError,
        RecursionError,
        AttributeError,
    ) as error:
        raise RequestError(
            f"The model's chat template failed on these messages: {type(error).__name__}: {error}"
        ) from error


def _bounded(parts: Iterator[str]) -> Iterator[str]:
    length = 0
    for part in parts:
        length += len(part)
        if length > MAX_PROMPT_CHARACTERS:
            raise _TooMuch(f"wrote more than {MAX_PROMPT_CHARACTERS:,} characters")
        yield part


@lru_cache(maxsize=32)
def _compiled(template: str) -> Template:
    import jinja2
    from jinja2 import nodes
    from jinja2.ext import loopcontrols
    from jinja2.sandbox import ImmutableSandboxedEnvironment
    from jinja2.visitor import NodeTransformer

    if len(template) > MAX_TEMPLATE_CHARACTERS:
        raise ModelLoadError(f"The model's chat template has over {MAX_TEMPLATE_CHARACTERS:,} characters.")

    class Ticking(NodeTransformer):
        """Puts a look at the clock into each loop and macro, and a look at sizes into ``~``."""

        def visit_For(self, node: nodes.For) -> nodes.For:  # noqa: N802 - the name is jinja's
            return self._ticking(node)

        def visit_Macro(self, node: nodes.Macro) -> nodes.Macro:  # noqa: N802
            return self._ticking(node)

        def visit_Concat(self, node: nodes.Concat) -> nodes.Call:  # noqa: N802
            self.generic_visit(node)
            return self._call("concatenated", node.nodes, node.lineno)

        def _ticking(self, node: Body) -> Body:
            self.generic_visit(node)
            node.body.insert(0, nodes.ExprStmt(self._call("tick", [], node.lineno), lineno=node.lineno))
            return node

        @staticmethod
        def _call(name: str, arguments: list[nodes.Expr], line: int) -> nodes.Call:
            function = nodes.EnvironmentAttribute(name, lineno=line)
            return nodes.Call(function, arguments, [], None, None, lineno=line)

    class Environment(ImmutableSandboxedEnvironment):
        intercepted_binops = frozenset({"+", "*", "**", "%"})

        def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
            return Ticking().visit(super()._parse(source, name, filename))  # type: ignore[no-any-return]

        def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
            _check_size(operator, left, right)
            return super().call_binop(context, operator, left, right)

        @staticmethod
        def tick() -> None:
            if time.thread_time() - _started.cpu_seconds > CPU_SECONDS:
                raise _TooMuch(f"takes more than {CPU_SECONDS:g} seconds")

        @staticmethod
        def concatenated(*values: Any) -> str:
            return "".join(_bounded(str(value) for value in values))

    environment = Environment(trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols])
    environment.filters["tojson"] = _to_json
    environment.globals["raise_exception"] = _refuse
    environment.globals["strftime_now"] = _today
    environment.globals["range"] = _few
    try:
        return environment.from_string(template)
    except (jinja2.TemplateError, RecursionError) as error:
        raise ModelLoadError(f"The model's chat template is malformed: {error}") from error


def _check_size(operator: str, left: Any, right: Any) -> None:
    """Refuse an operation whose result would be far larger than its parts."""
    size = 0
    match operator:
        case "+" if isinstance(left, str | list | tuple) and isinstance(right, str | list | tuple):
            size = len(left) + len(right)
        case "*" if isinstance(right, int) and isinstance(left, str | list | tuple):
            size = len(left) * right
        case "*" if isinstance(left, int) and isinstance(right, str | list | tuple):
            size = len(right) * left
        case "%" if isinstance(left, str):
            digits = "".join(character if character.isdigit() else " " for character in left).split()
            size = max((int(number[:9]) for number in digits), default=0)
        case "**" if isinstance(left, int) and isinstance(right, int) and left.bit_length() * right > MAX_POWER_BITS:
            raise _TooMuch("raises a number to too high a power")
    if size > MAX_PROMPT_CHARACTERS:
        raise _TooMuch(f"builds a value of more than {MAX_PROMPT_CHARACTERS:,} parts")


def _refuse(message: str) -> None:
    raise _Refused(message)


def _to_json(value: Any, indent: int | None = None, **_: Any) -> str:
    return json.dumps(value, ensure_ascii=False, indent=indent)


def _few(*bounds: int) -> range:
    numbers = range(*bounds)
    if len(numbers) > MAX_RANGE:
        raise _TooMuch(f"counts to more than {MAX_RANGE:,}")
    return numbers


def _today(form: str) -> str:
    from datetime import datetime

    return datetime.now().astimezone().strftime(form)
