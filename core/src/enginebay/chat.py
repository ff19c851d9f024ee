"""Turns messages into a prompt with the model's own template, in a sandbox. It knows no engine and no tokens."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from enginebay.errors import ModelLoadError, RequestError, Unsupported

if TYPE_CHECKING:
    from jinja2 import Template

MAX_TEMPLATE_CHARACTERS = 256 * 1024
MAX_PROMPT_CHARACTERS = 16 * 1024 * 1024
MAX_RANGE = 100_000


class _Refused(Exception):
    """The template called ``raise_exception``."""


def render(
    template: str | None,
    messages: Sequence[Mapping[str, Any]],
    *,
    tools: Sequence[Mapping[str, Any]] | None = None,
    special_text: Mapping[str, str] | None = None,
    add_generation_prompt: bool = True,
    **variables: Any,
) -> str:
    """The prompt text for ``messages``.

    :param template: the model's Jinja template; it comes from a file and is not trusted
    :param special_text: ``bos_token``, ``eos_token`` and the like
    :raises Unsupported: the model has no template
    :raises RequestError: the template refuses these messages
    :raises ModelLoadError: the template is malformed or does what a template may not
    """
    if template is None:
        raise Unsupported("This model has no chat template.", hint="Use generate with a prompt of your own (--raw).")
    import jinja2

    checked = [_message(message, position) for position, message in enumerate(messages)]
    if not checked:
        raise RequestError("messages: expected at least one message, got none.")
    values = {**(special_text or {}), **variables}
    if tools:
        values["tools"] = [dict(tool) for tool in tools]
    parts, length = [], 0
    try:
        stream = _compiled(template).generate(messages=checked, add_generation_prompt=add_generation_prompt, **values)
        for part in stream:
            length += len(part)
            if length > MAX_PROMPT_CHARACTERS:
                raise RequestError(f"The chat template wrote more than {MAX_PROMPT_CHARACTERS:,} characters.")
            parts.append(part)
    except _Refused as error:
        raise RequestError(f"The model's chat template refuses these messages: {error}") from error
    except jinja2.exceptions.SecurityError as error:
        raise ModelLoadError(f"The model's chat template does what a template may not: {error}") from error
    except (
        jinja2.TemplateError,
        TypeError,
        ValueError,
        KeyError,
        ArithmeticError,
        RecursionError,
        AttributeError,
    ) as error:
        raise RequestError(
            f"The model's chat template failed on these messages: {type(error).__name__}: {error}"
        ) from error
    return "".join(parts)


def _message(message: Mapping[str, Any], position: int) -> dict[str, Any]:
    if not isinstance(message, Mapping) or not isinstance(message.get("role"), str):
        raise RequestError(f"messages[{position}]: expected an object with a role and content.")
    content = message.get("content")
    if content is not None and not isinstance(content, str):
        raise RequestError(f"messages[{position}].content: expected text, got {type(content).__name__}.")
    return dict(message)


@lru_cache(maxsize=32)
def _compiled(template: str) -> Template:
    import jinja2
    from jinja2.ext import loopcontrols
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    if len(template) > MAX_TEMPLATE_CHARACTERS:
        raise ModelLoadError(f"The model's chat template has over {MAX_TEMPLATE_CHARACTERS:,} characters.")

    def refuse(message: str) -> None:
        raise _Refused(message)

    def to_json(value: Any, indent: int | None = None, **_: Any) -> str:
        return json.dumps(value, ensure_ascii=False, indent=indent)

    def few(*bounds: int) -> range:
        numbers = range(*bounds)
        if len(numbers) > MAX_RANGE:
            raise ValueError(f"range of more than {MAX_RANGE:,}")
        return numbers

    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols])
    environment.filters["tojson"] = to_json
    environment.globals["raise_exception"] = refuse
    environment.globals["strftime_now"] = _today
    environment.globals["range"] = few
    try:
        return environment.from_string(template)
    except jinja2.TemplateError as error:
        raise ModelLoadError(f"The model's chat template is malformed: {error}") from error


def _today(form: str) -> str:
    from datetime import datetime

    return datetime.now().astimezone().strftime(form)
