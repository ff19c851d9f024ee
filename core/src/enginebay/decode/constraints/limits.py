"""How large a constraint may be, and the refusal that names the limit. Knows no kind of constraint."""

from __future__ import annotations

from attrs import frozen

from enginebay.errors import GrammarError


@frozen
class Limits:
    """Bounds that are checked before anything native sees a constraint.

    ``deadline_seconds`` bounds one compilation, ``cache_entries`` how many compiled constraints are kept. ``nesting`` bounds
    groups in a regex or grammar, ``schema_depth`` and ``schema_nodes`` the JSON of a schema, ``chain`` how many rules or
    ``$ref`` in a row may lead to each other.
    """

    source_bytes: int = 256 * 1024
    nesting: int = 100
    rules: int = 2_000
    repetitions: int = 2_000
    chain: int = 500
    choices: int = 10_000
    schema_depth: int = 64
    schema_nodes: int = 10_000
    enum_values: int = 1_000
    properties: int = 500
    deadline_seconds: float = 2.0
    cache_entries: int = 64

    def check(self, what: str, value: int, limit: int) -> None:
        """Refuse ``value`` above ``limit``. Raises GrammarError, which says what was counted."""
        if value > limit:
            raise GrammarError(f"the constraint has {value:,} {what}; at most {limit:,} are allowed")

    def check_source(self, source: str) -> None:
        """Refuse a text longer than ``source_bytes``, or with half of a surrogate pair."""
        try:
            size = len(source.encode())
        except UnicodeEncodeError as error:
            raise GrammarError(f"the constraint has half of a surrogate pair at character {error.start}") from None
        self.check("bytes", size, self.source_bytes)


REQUEST_LIMITS = Limits(source_bytes=64 * 1024, schema_depth=32, choices=1_000)
"""For constraints that come over a network."""
