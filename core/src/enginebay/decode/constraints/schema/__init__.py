"""JSON Schema as a grammar text for the compiler. Knows no vocabulary."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from enginebay.decode.constraints.grammar import Grammar
from enginebay.decode.constraints.limits import Limits
from enginebay.decode.constraints.schema.keywords import KEYWORDS, Keyword, keyword_table
from enginebay.decode.constraints.schema.normalize import Normalizer
from enginebay.decode.constraints.schema.validate import validator
from enginebay.decode.constraints.schema.values import Json, plain

__all__ = ["KEYWORDS", "Keyword", "embedded_schema", "keyword_table", "schema_grammar"]

_WHITESPACE = " |\n[ ]{0,8}"
"""A small model given any whitespace writes line ends until its budget is spent."""

_ESCAPES = 'nrbtf\\"'
"""Those of JSON without ``u`` and ``/``."""


def schema_grammar(schema: Mapping[str, Any] | bool, strict: bool, limits: Limits) -> Grammar:
    """JSON that ``schema`` accepts.

    :raises GrammarError: it is malformed, over a limit, or has a keyword that cannot be enforced, which is named with its place
    :raises InstallError: not strict, and there is no package to check the result with
    """
    document = plain(schema, limits)
    normalizer = Normalizer(document, limits, strict)
    lark = "start: %json " + _text(normalizer, lenient=False)
    if strict:
        return Grammar("json_schema", lark, explain=normalizer.explained)
    lenient = "start: %json " + _text(normalizer, lenient=True)
    return Grammar(
        "json_schema", lark, tuple(normalizer.warnings), fallback=lenient, make_check=lambda: validator(document)
    )


def embedded_schema(document: Json, limits: Limits) -> str:
    """A schema inside another grammar, as the text that follows ``%json`` there."""
    return _text(Normalizer(plain(document, limits), limits, strict=True), lenient=False)


def _text(normalizer: Normalizer, lenient: bool) -> str:
    # With Unicode escapes the library lets one spell a declared property's name as if it were another.
    spelled = not normalizer.open_names
    options = {
        "whitespace_pattern": _WHITESPACE,
        "json_allowed_escapes": _ESCAPES + ("u" if spelled else ""),
        "json_allow_general_unicode_escapes": spelled,
        "lenient": lenient,
    }
    return json.dumps({**normalizer.result, "x-guidance": options})
