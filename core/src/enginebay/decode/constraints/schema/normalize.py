"""Turns a JSON Schema into one that llguidance enforces exactly, or refuses it by keyword and place. Compiles nothing.

What comes out has only keywords that were proven there: references lead to ``$defs`` by plain names, patterns and formats are
whole-string regexes, numbers are those that it is exact for, and properties stand in the order in which they are written.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from enginebay.decode.constraints.limits import Limits
from enginebay.decode.constraints.schema.formats import FORMATS
from enginebay.decode.constraints.schema.keywords import REFUSED
from enginebay.decode.constraints.schema.numbers import (
    LARGEST,
    Multiples,
    exact,
    inward,
    is_number,
    lower_bound,
    upper_bound,
)
from enginebay.decode.constraints.schema.patterns import whole_match
from enginebay.decode.constraints.schema.references import References
from enginebay.decode.constraints.schema.values import Json, Place
from enginebay.errors import GrammarError

_TYPES = ("null", "boolean", "object", "array", "number", "integer", "string")
_NO_OPERATION: dict[str, tuple[Json, ...]] = {
    "uniqueItems": (False,),
    "propertyNames": (True, {}),
    "unevaluatedItems": (True, {}),
    "unevaluatedProperties": (True, {}),
}
_OLDER_DRAFTS = ("2019-09/schema", "draft-07/schema", "draft-06/schema", "draft-04/schema")
_LONGEST_TEXT = 1_000_000
_ESCAPED = frozenset(map(chr, [*range(32), 127])) - frozenset("\b\t\n\f\r")
"""Characters that JSON can only write with a Unicode escape, and those are not allowed: one could spell a property's name."""


class Normalizer:
    """One schema. ``warnings`` names what was dropped, which is nothing as long as ``strict``."""

    def __init__(self, document: Json, limits: Limits, strict: bool) -> None:
        self._limits = limits
        self._strict = strict
        self.warnings: list[str] = []
        self.open_names = False
        """Whether an object has names of its own and takes others as well: then one name must have one spelling only."""
        self._where: dict[str, list[Place]] = {}
        self._multiples = Multiples()
        self._older = isinstance(document, dict) and _older_draft(document)
        self._references = References(document, self._older)
        self._names: dict[Place, str] = {}
        self._waiting: list[tuple[Place, Json]] = []
        root = self._reference_to(Place(), document)
        definitions: dict[str, Json] = {}
        while self._waiting:
            place, schema = self._waiting.pop()
            definitions[self._names[place]] = self._schema(schema, place)
        _check_circles(definitions, {name: place for place, name in self._names.items()})
        self.result: dict[str, Json] = {**root, "$defs": definitions}

    def _reference_to(self, place: Place, schema: Json) -> dict[str, Json]:
        if place not in self._names:
            self._names[place] = f"d{len(self._names)}"
            self._waiting.append((place, schema))
        return {"$ref": f"#/$defs/{self._names[place]}"}

    def _drop(self, place: Place, why: str) -> None:
        """Refuse, or where the caller is not strict, leave it out and say so."""
        message = f"{place}: {why}"
        if self._strict:
            raise GrammarError(message, keyword=place.pointer.rsplit("/", 1)[-1], place=str(place))
        self.warnings.append(message)

    def explained(self, reason: str) -> str:
        """The compiler's reason for refusing ``result``, with the keyword and its places where they can be told."""
        for keyword, (words, why) in _REASONS.items():
            if words in reason and keyword in self._where:
                places = ", ".join(map(str, self._where[keyword][:5]))
                return f"{places}: {why}"
        unsatisfiable = reason.partition("Unsatisfiable schema: ")[2]
        return f"no JSON satisfies the schema: {unsatisfiable.splitlines()[0]}" if unsatisfiable else reason

    # --- schemas ---

    def _schema(self, schema: Json, place: Place) -> Json:
        if isinstance(schema, bool):
            return schema
        if not isinstance(schema, dict):
            raise GrammarError(f"{place}: expected a schema, got {type(schema).__name__}")
        base: dict[str, Json] = {}
        out: dict[str, Json] = {}
        extra: list[Json] = []
        for keyword, value in schema.items():
            here = place / keyword
            if keyword in _REASONS:
                self._where.setdefault(keyword, []).append(here)
            if keyword in REFUSED:
                if not any(value == harmless for harmless in _NO_OPERATION.get(keyword, ())):
                    self._drop(here, f"the keyword {keyword!r} cannot be enforced")
            elif keyword in _APPLICATORS:
                # Where the first of the plain keywords stood, they all go: one set of properties, in one order.
                if base:
                    out.setdefault("", None)
                _APPLICATORS[keyword](self, out, value, here)
            elif keyword in _PLAIN:
                _PLAIN[keyword](self, base, value, here, schema, extra)
        named = any(base.get(keyword) for keyword in ("properties", "required", "patternProperties"))
        if named and (base.get("additionalProperties") is not False or base.get("patternProperties")):
            self.open_names = True
        self._check_counts(base, place)
        if extra:
            kind = {"type": base["type"]} if "type" in base else {}
            out["allOf"] = [*out.get("allOf", []), *({**kind, "pattern": pattern} for pattern in extra)]
        if "" in out:
            return {k: v for key, value in out.items() for k, v in (base.items() if key == "" else [(key, value)])}
        return {**out, **base}

    def _check_counts(self, base: dict[str, Json], place: Place) -> None:
        """See to it that the number of properties is bounded only where the compiler counts them rightly."""
        names = set(base.get("required", ()))
        optional = [
            name for name, schema in base.get("properties", {}).items() if name not in names and schema is not False
        ]
        closed = base.get("additionalProperties") is False and not base.get("patternProperties")
        if "minProperties" in base:
            missing = base["minProperties"] - len(names)
            if missing <= 0:
                del base["minProperties"]
            elif missing > 1 or (optional and not closed):
                # Other names may come twice, and the compiler would count them twice.
                del base["minProperties"]
                self._drop(place / "minProperties", "properties that 'required' does not name cannot be counted")
        if "maxProperties" in base and optional:
            room = base["maxProperties"] - len(names)
            if base["maxProperties"] == 0:
                base["properties"] = {}
            elif closed and room >= len(optional):
                del base["maxProperties"]
            elif not closed or room != 1:
                del base["maxProperties"]
                self._drop(place / "maxProperties", "properties that 'required' does not name cannot be counted")

    # --- keywords that refer to other schemas, in the order in which they stand ---

    def _ref(self, out: dict[str, Json], value: Json, place: Place) -> None:
        target, schema = self._followed(value, place)
        out["$ref"] = self._reference_to(target, schema)["$ref"]

    def _followed(self, reference: Json, place: Place) -> tuple[Place, Json]:
        """Where a reference ends that may lead to references and nothing else."""
        seen: set[Place] = set()
        target, schema = self._references.resolve(reference, place)
        while isinstance(schema, dict) and schema.keys() == {"$ref"}:
            if target in seen:
                raise GrammarError(f"{place}: the reference leads to itself")
            seen.add(target)
            self._limits.check("references that lead to each other", len(seen), self._limits.chain)
            target, schema = self._references.resolve(schema["$ref"], target / "$ref")
        return target, schema

    def _some(self, out: dict[str, Json], value: Json, place: Place) -> None:
        keyword = place.pointer.rsplit("/", 1)[-1]
        if not isinstance(value, list) or not value:
            raise GrammarError(f"{place}: expected a list of at least one schema")
        options: list[Json] = []
        for index, option in enumerate(value):
            at = place / index
            if keyword == "oneOf" and isinstance(option, dict) and option.keys() == {"$ref"}:
                # The compiler sees that two schemas exclude each other only where they stand, not behind a reference.
                at, option = self._followed(option["$ref"], at / "$ref")  # noqa: PLW2901
            options.append(self._schema(option, at))
        out[keyword] = options

    def _enum(self, out: dict[str, Json], value: Json, place: Place) -> None:
        if not isinstance(value, list) or not value:
            raise GrammarError(f"{place}: expected a list of at least one value")
        self._limits.check("values in one 'enum'", len(value), self._limits.enum_values)
        kept = [self._constant(item, place) for index, item in enumerate(value) if self._writable(item, place / index)]
        if kept:
            out["enum"] = kept

    def _const(self, out: dict[str, Json], value: Json, place: Place) -> None:
        if self._writable(value, place):
            out["const"] = self._constant(value, place)

    def _writable(self, value: Json, place: Place) -> bool:
        try:
            self._constant(value, place)
        except GrammarError as error:
            self._drop(place, error.message.removeprefix(f"{place}: "))
            return False
        return True

    def _constant(self, value: Json, place: Place) -> Json:
        match value:
            case str():
                if not _ESCAPED.isdisjoint(value):
                    raise GrammarError(f"{place}: a control character that only '\\u' can write cannot be enforced")
                return value
            case list():
                return [self._constant(item, place) for item in value]
            case dict():
                return {key: self._constant(item, place) for key, item in value.items()}
            case int() | float() if is_number(value):
                return exact(value, place)
            case _:
                return value

    # --- plain keywords ---

    def _type(self, base: dict[str, Json], value: Json, place: Place, *_: Json) -> None:
        names = [value] if isinstance(value, str) else value
        if not isinstance(names, list) or not names:
            raise GrammarError(f"{place}: expected the name of a type or a list of names")
        for name in names:
            if name not in _TYPES:
                raise GrammarError(f"{place}: {str(name)[:100]!r} is not a type of JSON Schema")
        if "number" in names:
            names = [name for name in names if name != "integer"]
        base["type"] = names[0] if len(names) == 1 else list(dict.fromkeys(names))

    def _number(self, base: dict[str, Json], value: Json, place: Place, schema: dict[str, Json], *_: Json) -> None:
        keyword = place.pointer.rsplit("/", 1)[-1]
        if self._older and isinstance(value, bool):  # draft 4
            bound = schema.get("minimum" if keyword == "exclusiveMinimum" else "maximum")
            if not value or bound is None:
                return
            value = bound
        if not is_number(value):
            raise GrammarError(f"{place}: expected a number, got {type(value).__name__}")
        try:
            if keyword == "multipleOf":
                base[keyword] = self._multiples.add(value, place)
            elif "inimum" in keyword:
                bound = lower_bound(value, place)
                if keyword == "exclusiveMinimum" and value >= -LARGEST:
                    bound = inward(bound, 1, place)
                base["minimum"] = max(bound, base.get("minimum", bound))
            else:
                bound = upper_bound(value, place)
                if keyword == "exclusiveMaximum" and value <= LARGEST:
                    bound = inward(bound, -1, place)
                base["maximum"] = min(bound, base.get("maximum", bound))
        except GrammarError as error:
            self._drop(place, error.message.removeprefix(f"{place}: "))

    def _count(self, base: dict[str, Json], value: Json, place: Place, *_: Json) -> None:
        keyword = place.pointer.rsplit("/", 1)[-1]
        if not is_number(value) or value != int(value) or value < 0:
            raise GrammarError(f"{place}: expected a whole number of at least 0")
        most = _LONGEST_TEXT if keyword.endswith("Length") else self._limits.repetitions
        if value > most:
            self._drop(place, f"{int(value):,} is more than {most:,}")
        else:
            base[keyword] = int(value)

    def _pattern(self, base: dict[str, Json], value: Json, place: Place, _: Json, extra: list[Json]) -> None:
        if not isinstance(value, str):
            raise GrammarError(f"{place}: expected a string")
        try:
            self._add_pattern(base, whole_match(value, self._limits), extra)
        except GrammarError as error:
            self._drop(place, error.message)

    def _format(self, base: dict[str, Json], value: Json, place: Place, _: Json, extra: list[Json]) -> None:
        if not isinstance(value, str):
            raise GrammarError(f"{place}: expected a string")
        if value not in FORMATS:
            self._drop(place, f"the format {value[:100]!r} cannot be enforced")
        for regex in FORMATS.get(value, ()):
            self._add_pattern(base, regex, extra)

    def _add_pattern(self, base: dict[str, Json], regex: str, extra: list[Json]) -> None:
        whole = f"^(?:{regex})$"
        if "pattern" in base:
            extra.append(whole)
        else:
            base["pattern"] = whole

    def _items(self, base: dict[str, Json], value: Json, place: Place, schema: dict[str, Json], *_: Json) -> None:
        if isinstance(value, list):
            if not self._older:
                raise GrammarError(f"{place}: a list of schemas is 'prefixItems' in JSON Schema 2020-12")
            base["prefixItems"] = [self._schema(item, place / index) for index, item in enumerate(value)]
            if "additionalItems" in schema:
                base["items"] = self._schema(schema["additionalItems"], place / "additionalItems")
        else:
            base["items"] = self._schema(value, place)

    def _prefix_items(self, base: dict[str, Json], value: Json, place: Place, *_: Json) -> None:
        if self._older:
            raise GrammarError(f"{place}: 'prefixItems' is not a keyword of the version that '$schema' names")
        if not isinstance(value, list) or not value:
            raise GrammarError(f"{place}: expected a list of at least one schema")
        base["prefixItems"] = [self._schema(item, place / index) for index, item in enumerate(value)]

    def _properties(self, base: dict[str, Json], value: Json, place: Place, schema: dict[str, Json], *_: Json) -> None:
        named = self._named(value, place)
        self._limits.check("properties in one object", len(named), self._limits.properties)
        order = _order(named, schema.get("propertyOrder"))
        base["properties"] = {name: self._schema(named[name], place / name) for name in order}

    def _pattern_properties(self, base: dict[str, Json], value: Json, place: Place, *_: Json) -> None:
        out: dict[str, Json] = {}
        for pattern, schema in self._named(value, place).items():
            try:
                regex = f"^(?:{whole_match(pattern, self._limits)})$"
            except GrammarError as error:
                self._drop(place / pattern, error.message)
                continue
            if regex in out:
                raise GrammarError(f"{place / pattern}: a name may match two of the patterns")
            out[regex] = self._schema(schema, place / pattern)
        base["patternProperties"] = out

    def _named(self, value: Json, place: Place) -> dict[str, Json]:
        if not isinstance(value, dict):
            raise GrammarError(f"{place}: expected an object of schemas")
        return value

    def _additional_properties(self, base: dict[str, Json], value: Json, place: Place, *_: Json) -> None:
        base["additionalProperties"] = self._schema(value, place)

    def _required(self, base: dict[str, Json], value: Json, place: Place, *_: Json) -> None:
        if self._older and isinstance(value, bool):
            raise GrammarError(f"{place}: expected a list of names")
        if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
            raise GrammarError(f"{place}: expected a list of names")
        self._limits.check("names in one 'required'", len(value), self._limits.properties)
        base["required"] = list(dict.fromkeys(value))


def _check_circles(definitions: dict[str, Json], places: dict[str, Place]) -> None:
    """Refuse a schema that is part of itself at one and the same place of an instance: nobody can decide it."""
    unsettled = {name: _in_place(schema) for name, schema in definitions.items()}
    needed_by: dict[str, list[str]] = {name: [] for name in unsettled}
    for name, needed in unsettled.items():
        for other in needed:
            needed_by[other].append(name)
    settled = [name for name, needed in unsettled.items() if not needed]
    for name in settled:
        del unsettled[name]
        for other in needed_by[name]:
            unsettled[other].discard(name)
            if not unsettled[other]:
                settled.append(other)
    for name in unsettled:
        raise GrammarError(f"{places[name]}: the schema refers to itself without a property or an item between")


def _in_place(schema: Json) -> set[str]:
    """The definitions that apply to the same value as ``schema``."""
    if not isinstance(schema, dict):
        return set()
    out = {schema["$ref"].rpartition("/")[2]} if "$ref" in schema else set()
    for keyword in ("allOf", "anyOf", "oneOf"):
        for option in schema.get(keyword, ()):
            out |= _in_place(option)
    return out


def _older_draft(document: dict[str, Json]) -> bool:
    identifier = document.get("$schema")
    if identifier is None:
        return False
    text = identifier.rstrip("#") if isinstance(identifier, str) else ""
    if text.endswith("json-schema.org/draft/2020-12/schema"):
        return False
    if "json-schema.org/draft" in text and text.endswith(_OLDER_DRAFTS):
        return True
    raise GrammarError(f"#/$schema: {str(identifier)[:200]!r} is not a version of JSON Schema that is known here")


def _order(named: dict[str, Json], wanted: Json) -> list[str]:
    """Names in the order in which they are written: what ``propertyOrder`` lists, then by their own number, then as declared."""
    listed = [name for name in wanted if isinstance(name, str)] if isinstance(wanted, list) else []
    rank = {name: index for index, name in reversed(list(enumerate(listed)))}

    def key(name: str) -> tuple[int, float]:
        schema = named[name]
        number = schema.get("propertyOrder") if isinstance(schema, dict) else None
        return rank.get(name, len(listed)), float(number or 0) if is_number(number) else math.inf

    return sorted(named, key=key)


_REASONS = {
    "oneOf": ("oneOf", "the alternatives of 'oneOf' do not exclude each other by type or by a required property"),
    "patternProperties": ("patternProperty", "a name may match two of the patterns of 'patternProperties'"),
    "minProperties": ("min/maxProperties", "optional properties cannot be counted"),
    "maxProperties": ("min/maxProperties", "optional properties cannot be counted"),
    "$ref": ("circular references", "a recursive '$ref' with other keywords beside it cannot be enforced"),
}
"""Keywords that the compiler may refuse: words of its message, and what they mean."""

_APPLICATORS: dict[str, Callable[[Normalizer, dict[str, Json], Json, Place], None]] = {
    "$ref": Normalizer._ref,
    "allOf": Normalizer._some,
    "anyOf": Normalizer._some,
    "oneOf": Normalizer._some,
    "enum": Normalizer._enum,
    "const": Normalizer._const,
}
_Plain = Callable[[Normalizer, dict[str, Json], Json, Place, dict[str, Json], list[Json]], None]
_PLAIN: dict[str, _Plain] = {
    "type": Normalizer._type,
    "properties": Normalizer._properties,
    "required": Normalizer._required,
    "additionalProperties": Normalizer._additional_properties,
    "patternProperties": Normalizer._pattern_properties,
    "items": Normalizer._items,
    "prefixItems": Normalizer._prefix_items,
    "pattern": Normalizer._pattern,
    "format": Normalizer._format,
    **dict.fromkeys(("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"), Normalizer._number),
    **dict.fromkeys(
        ("minItems", "maxItems", "minProperties", "maxProperties", "minLength", "maxLength"), Normalizer._count
    ),
}
