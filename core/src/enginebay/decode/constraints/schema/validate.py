"""Decides whether finished text is valid for a schema that was not enforced as a whole. Knows no grammar.

A schema can make a validator run for ever (a pattern that backtracks, references that double), and cannot be interrupted in a
thread. So the check runs in a process of its own, which is ended after a time.
"""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from collections.abc import Callable

from enginebay.decode.constraints.schema.values import Json
from enginebay.errors import InstallError

_SECONDS = 2.0


def validator(document: Json) -> Callable[[str], bool | None]:
    """A function from text to whether it is JSON that ``document`` accepts, formats included; None if it cannot be told.

    :raises InstallError: the package ``jsonschema`` is not installed
    """
    if importlib.util.find_spec("jsonschema") is None:
        raise InstallError(
            "a schema that is not enforced as a whole needs the package 'jsonschema' to check the result",
            hint="pip install jsonschema",
        )

    def valid(text: str) -> bool | None:
        request = json.dumps({"document": document, "text": text})
        command = [sys.executable, "-m", __name__]
        try:
            done = subprocess.run(command, input=request.encode(), capture_output=True, timeout=_SECONDS, check=False)
        except (OSError, subprocess.TimeoutExpired):
            return None
        return {b"valid": True, b"invalid": False}.get(done.stdout)

    return valid


def _is_valid(document: Json, text: str) -> bool:
    """The check itself. References out of the document are not fetched: they fail."""
    import jsonschema
    import referencing

    try:
        value = json.loads(text)
    except ValueError:
        return False
    kind = jsonschema.validators.validator_for(document, default=jsonschema.Draft202012Validator)
    checker = kind(document, format_checker=kind.FORMAT_CHECKER, registry=referencing.Registry())
    return bool(checker.is_valid(value))


if __name__ == "__main__":
    _asked = json.load(sys.stdin)
    sys.stdout.write("valid" if _is_valid(_asked["document"], _asked["text"]) else "invalid")
