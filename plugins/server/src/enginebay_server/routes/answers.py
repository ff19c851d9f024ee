"""Parts of answers that several forms of the API share. It knows no form whole."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import Any, Protocol

from enginebay_server.errors import Refusal
from enginebay_server.forms.base import Usage as UsageForm
from enginebay_server.running import Started


class Ending(Protocol):
    """A choice that knows how it ended, once it has."""

    finish_reason: str | None


def ended(choices: Sequence[Ending]) -> bool:
    """Whether all have."""
    return all(choice.finish_reason for choice in choices)


def finished(reason: str) -> str:
    """The reason in OpenAI's words.

    :raises Refusal: it was cancelled, which is no success
    """
    if reason == "cancelled":
        raise Refusal(409, "cancelled", "The request was cancelled before it was complete.")
    return reason


def fingerprint(started: Started) -> str:
    """What stands for OpenAI's ``system_fingerprint``: the engine."""
    return f"fp_{started.engine}"


def call_id() -> str:
    """A fresh id for a tool call."""
    return f"call_{secrets.token_hex(12)}"


def usage_of(prompt: int, completion: int, cached: int) -> dict[str, Any]:
    """Numbers of tokens in OpenAI's form."""
    return UsageForm(
        prompt_tokens=prompt,
        completion_tokens=completion,
        total_tokens=prompt + completion,
        prompt_tokens_details=UsageForm.Details(cached_tokens=cached),
    ).model_dump()
