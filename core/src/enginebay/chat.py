"""Turns chat messages into a prompt, with the model's own template. It knows no engine, no tokens and no template language."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from enginebay import template as templates
from enginebay.errors import RequestError, Unsupported


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
    :raises ModelLoadError: the template is malformed, does what a template may not, or goes over a bound
    """
    if template is None:
        raise Unsupported("This model has no chat template.", hint="Use generate with a prompt of your own (--raw).")
    checked = [_message(message, position) for position, message in enumerate(messages)]
    if not checked:
        raise RequestError("messages: expected at least one message, got none.")
    values = {**(special_text or {}), **variables}
    if tools:
        values["tools"] = [dict(tool) for tool in tools]
    return templates.run(template, {**values, "messages": checked, "add_generation_prompt": add_generation_prompt})


def _message(message: Mapping[str, Any], position: int) -> dict[str, Any]:
    if not isinstance(message, Mapping) or not isinstance(message.get("role"), str):
        raise RequestError(f"messages[{position}]: expected an object with a role and content.")
    content = message.get("content")
    if content is not None and not isinstance(content, str):
        raise RequestError(f"messages[{position}].content: expected text, got {type(content).__name__}.")
    return dict(message)
