"""Options that commands share, and what they mean to the Python API. It knows no engine."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from enginebay.cli.output import waiting

if TYPE_CHECKING:
    from enginebay.data import Constraint
    from enginebay.model import Model

F = TypeVar("F", bound=Callable[..., Any])
_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


def _all(*decorators: Callable[[F], F]) -> Callable[[F], F]:
    def apply(function: F) -> F:
        for decorator in reversed(decorators):
            function = decorator(function)
        return function

    return apply


def model_options(function: F) -> F:
    """Options of every command that opens a model; ``open_model`` takes them."""
    return _all(
        click.option("-e", "--engine", help="The engine to use."),
        click.option("-c", "--config", type=click.Path(path_type=Path), help="A configuration file."),
        click.option("--isolation", type=click.Choice(["inline", "process"]), help="This process, or a worker."),
        click.option("--context-tokens", type=int, help="Context of a sequence, in tokens."),
        click.option("--option", "options", multiple=True, metavar="KEY=VALUE", help="An option of the engine's own."),
    )(function)


def sampling_options(function: F) -> F:
    """Options of every command that generates; ``request_options`` takes them."""
    return _all(
        click.option("-n", "--max-tokens", type=int, help="How many tokens at most."),
        click.option("-t", "--temperature", type=float, help="0 is greedy."),
        click.option("--top-k", type=int, help="Draw from this many of the likeliest; 0: from all."),
        click.option("--top-p", type=float, help="Draw from the likeliest with this much probability together."),
        click.option("--min-p", type=float, help="Draw from those with this part of the likeliest's probability."),
        click.option("--repeat-penalty", type=float, help="Above 1: repeat less."),
        click.option("--frequency-penalty", type=float, help="Above 0: repeat less, the more often."),
        click.option("--presence-penalty", type=float, help="Above 0: repeat less, however often."),
        click.option("-s", "--seed", type=int, help="The same seed gives the same text."),
        click.option("--stop", multiple=True, metavar="TEXT", help="End before this text."),
        click.option("--json-schema", type=_FILE, help="Answer with JSON that this schema accepts."),
        click.option("--regex", help="The whole answer matches this expression."),
        click.option("--grammar", type=_FILE, help="The answer matches this grammar: GBNF, or Lark if named *.lark."),
        click.option("--choice", metavar="A,B", help="The answer is one of these."),
    )(function)


def open_model(reference: str, options: tuple[str, ...], **settings: Any) -> Model:
    """Open the model that the options describe."""
    import enginebay

    own = dict(_pair(text) for text in options)
    with waiting(f"Loading {reference} …"):
        return enginebay.open(reference, options=own, **settings)


def request_options(
    stop: tuple[str, ...],
    json_schema: Path | None,
    regex: str | None,
    grammar: Path | None,
    choice: str | None,
    **rest: Any,
) -> dict[str, Any]:
    """Keywords for ``Model.generate``: only what was given."""
    given = {name: value for name, value in rest.items() if value is not None}
    asked = [value for value in (json_schema, regex, grammar, choice) if value is not None]
    if len(asked) > 1:
        raise click.UsageError("Give one of --json-schema, --regex, --grammar and --choice.")
    if asked:
        given["constraint"] = _constraint(json_schema, regex, grammar, choice)
    return {**given, "stop": stop} if stop else given


def _constraint(json_schema: Path | None, regex: str | None, grammar: Path | None, choice: str | None) -> Constraint:
    from enginebay.data import Choice, Gbnf, JsonSchema, Lark, Regex

    if regex is not None:
        return Regex(regex)
    if choice is not None:
        return Choice(tuple(choice.split(",")))
    try:
        if grammar:
            text = grammar.read_text("utf-8")
            return Lark(text) if grammar.suffix == ".lark" else Gbnf(text)
        schema = json.loads(json_schema.read_text("utf-8")) if json_schema else {}
    except (OSError, ValueError, RecursionError) as error:
        raise click.UsageError(f"{grammar or json_schema} cannot be read: {error}") from error
    if not isinstance(schema, dict | bool):
        raise click.UsageError(f"{json_schema} is no JSON Schema: expected an object.")
    return JsonSchema(schema)


def _pair(text: str) -> tuple[str, Any]:
    key, equals, value = text.partition("=")
    if not key or not equals:
        raise click.UsageError(f"--option: expected KEY=VALUE, got {text!r}.")
    try:
        return key, json.loads(value)
    except ValueError:
        return key, value
