"""What is done with each keyword of JSON Schema: ``python -m`` prints the reference page's table. Knows no code that does it."""

from __future__ import annotations

import sys
from typing import Literal

from attrs import frozen

from enginebay.decode.constraints.schema.formats import FORMATS


@frozen
class Keyword:
    """``enforced``: what is accepted satisfies it. ``ignored``: it asserts nothing. ``refused``: a ``grammar_error``.

    ``limits`` says which valid instances are not accepted, or which of its values are refused.
    """

    name: str
    treatment: Literal["enforced", "ignored", "refused"]
    limits: str = ""


_NUMBERS = "Values between -10^15 and 10^15, at most 15 digits and 9 of them decimals."
_LENGTH = "At most 1,000,000."

KEYWORDS: tuple[Keyword, ...] = (
    Keyword("type", "enforced", "An integer is never written as `1.0` or `1e3`."),
    Keyword(
        "enum",
        "enforced",
        "At most 1,000 values; numbers as for `minimum`; no control characters that only `\\u` can write.",
    ),
    Keyword("const", "enforced", "As `enum`. Objects have their properties in the order given."),
    Keyword("properties", "enforced", "At most 500. Written in the order of declaration, or of `propertyOrder`."),
    Keyword("required", "enforced", "What is not in `properties` is written after them."),
    Keyword(
        "additionalProperties",
        "enforced",
        "Written after `properties`. A name may come twice; each time it is checked.",
    ),
    Keyword("patternProperties", "enforced", "No name may match two of the patterns; patterns as for `pattern`."),
    Keyword(
        "minProperties",
        "enforced",
        "At most one more than `required` has, and no optional `properties` unless nothing else is allowed.",
    ),
    Keyword(
        "maxProperties",
        "enforced",
        "Only where all `properties` are required, or for 0 or 1 where nothing else is allowed.",
    ),
    Keyword("items", "enforced", "A list of schemas only with an older `$schema`."),
    Keyword("prefixItems", "enforced"),
    Keyword("additionalItems", "enforced", "Only with an older `$schema`."),
    Keyword("minItems", "enforced", "At most 2,000."),
    Keyword("maxItems", "enforced", "At most 2,000."),
    Keyword("minLength", "enforced", _LENGTH),
    Keyword("maxLength", "enforced", _LENGTH),
    Keyword(
        "pattern",
        "enforced",
        "No look-around, word boundaries, back references or flags; `^` and `$` only at the ends of an alternative. "
        "Where libraries differ (`\\d`, `\\w`, `\\s`, `.`, `$`), the narrower meaning.",
    ),
    Keyword(
        "format", "enforced", "A part of each: " + ", ".join(f"`{name}`" for name in FORMATS) + ". Others are refused."
    ),
    Keyword("minimum", "enforced", _NUMBERS + " A bound beyond that which excludes nothing inside becomes ±10^15."),
    Keyword("maximum", "enforced", "As `minimum`. With a bound, numbers have no exponent."),
    Keyword(
        "exclusiveMinimum",
        "enforced",
        "As `minimum`. Numbers less than 10^-9 inside (more above 10^6) are left out too.",
    ),
    Keyword("exclusiveMaximum", "enforced", "As `exclusiveMinimum`."),
    Keyword(
        "multipleOf",
        "enforced",
        "All in a schema together: a least common multiple of at most 10,000 steps. Written without exponent, "
        "with as many decimals as the multiple has, or none.",
    ),
    Keyword("allOf", "enforced", "Parts that cannot be joined are refused."),
    Keyword("anyOf", "enforced"),
    Keyword(
        "oneOf",
        "enforced",
        "Only alternatives that exclude each other by type, or by a required property with `const`, `enum` or a type.",
    ),
    Keyword(
        "$ref", "enforced", "Inside the document. No recursion through a reference that has other keywords beside it."
    ),
    Keyword("$defs", "ignored", "What `$ref` leads to."),
    Keyword("definitions", "ignored", "What `$ref` leads to."),
    Keyword("$anchor", "ignored", "What `$ref` leads to."),
    Keyword("$dynamicAnchor", "ignored", "What `$ref` leads to."),
    Keyword("$id", "ignored", "At the root; anywhere else it is refused."),
    Keyword("$schema", "ignored", "2020-12, 2019-09, draft 7, 6 and 4; others are refused."),
    Keyword("$vocabulary", "ignored"),
    Keyword("$comment", "ignored"),
    Keyword("title", "ignored"),
    Keyword("description", "ignored"),
    Keyword("default", "ignored"),
    Keyword("examples", "ignored"),
    Keyword("deprecated", "ignored"),
    Keyword("readOnly", "ignored"),
    Keyword("writeOnly", "ignored"),
    Keyword("contentEncoding", "ignored"),
    Keyword("contentMediaType", "ignored"),
    Keyword("contentSchema", "ignored"),
    Keyword(
        "propertyOrder",
        "ignored",
        "A list of names, or a number in each property: the order in which they are written.",
    ),
    Keyword("uniqueItems", "refused", "Allowed: `false`."),
    Keyword("contains", "refused"),
    Keyword("minContains", "refused"),
    Keyword("maxContains", "refused"),
    Keyword("propertyNames", "refused", "Allowed: `true` and `{}`."),
    Keyword("unevaluatedItems", "refused", "Allowed: `true` and `{}`."),
    Keyword("unevaluatedProperties", "refused", "Allowed: `true` and `{}`."),
    Keyword("dependentRequired", "refused"),
    Keyword("dependentSchemas", "refused"),
    Keyword("dependencies", "refused"),
    Keyword("not", "refused"),
    Keyword("if", "refused"),
    Keyword("then", "refused"),
    Keyword("else", "refused"),
    Keyword("$dynamicRef", "refused"),
    Keyword("$recursiveRef", "refused"),
)

REFUSED = frozenset(keyword.name for keyword in KEYWORDS if keyword.treatment == "refused")


def keyword_table() -> str:
    """The table of the reference page, in Markdown."""
    lines = ["| Keyword | | Limits |", "|---|---|---|"]
    lines += [f"| `{keyword.name}` | {keyword.treatment} | {keyword.limits} |" for keyword in KEYWORDS]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.stdout.write(keyword_table())
