"""Decides whether finished text is valid for a schema that was not enforced as a whole. Knows no grammar."""

from __future__ import annotations

import json
from collections.abc import Callable

from enginebay.decode.constraints.schema.values import Json
from enginebay.errors import InstallError


def validator(document: Json) -> Callable[[str], bool]:
    """A function from text to whether it is JSON that ``document`` accepts, formats included. Fetches nothing.

    :raises InstallError: the package ``jsonschema`` is not installed
    """
    try:
        import jsonschema
        import referencing
        import referencing.jsonschema
    except ImportError:
        raise InstallError(
            "a schema that is not enforced as a whole needs the package 'jsonschema' to check the result",
            hint="pip install jsonschema",
        ) from None
    kind = jsonschema.validators.validator_for(document, default=jsonschema.Draft202012Validator)
    checker = kind(document, format_checker=kind.FORMAT_CHECKER, registry=referencing.Registry())

    def valid(text: str) -> bool:
        try:
            return bool(checker.is_valid(json.loads(text)))
        except (ValueError, RecursionError, referencing.exceptions.Unresolvable):
            return False

    return valid
