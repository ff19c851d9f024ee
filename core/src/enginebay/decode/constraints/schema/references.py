"""Finds what ``$ref`` means inside one schema document. Knows no other document and no other keyword's meaning."""

from __future__ import annotations

from urllib.parse import unquote, urldefrag, urljoin

from enginebay.decode.constraints.schema.values import Json, Place
from enginebay.errors import GrammarError

_HOLDS_VALUES = frozenset({"const", "enum", "default", "examples"})
_HOLDS_NAMED_SCHEMAS = frozenset({"properties", "patternProperties", "$defs", "definitions", "dependentSchemas"})


class References:
    """The anchors and places of a document. Raises GrammarError for what is not in it."""

    def __init__(self, document: Json, older: bool) -> None:
        self._document = document
        self._identifiers = ("$id", "id") if older else ("$id",)
        self._anchors: dict[str, Place] = {}
        self._base = next(iter(self._identified(document)), "")
        self._find_anchors(document, Place())

    def _find_anchors(self, schema: Json, place: Place) -> None:
        if isinstance(schema, list):
            for index, item in enumerate(schema):
                self._find_anchors(item, place / index)
        if not isinstance(schema, dict):
            return
        if place.pointer and not all(name.startswith("#") for name in self._identified(schema)):
            raise GrammarError(f"{place}: a schema with an identifier of its own inside another is not supported")
        for keyword in ("$anchor", "$dynamicAnchor"):
            if isinstance(anchor := schema.get(keyword), str):
                self._anchors[anchor] = place
        for key, item in schema.items():
            if key in _HOLDS_NAMED_SCHEMAS and isinstance(item, dict):
                for name, named in item.items():
                    self._find_anchors(named, place / key / name)
            elif key not in _HOLDS_VALUES:
                self._find_anchors(item, place / key)

    def _identified(self, schema: Json) -> list[str]:
        values = [schema.get(keyword) for keyword in self._identifiers] if isinstance(schema, dict) else []
        return [value for value in values if isinstance(value, str)]

    def resolve(self, reference: Json, place: Place) -> tuple[Place, Json]:
        """The place that ``reference`` names, and the schema there."""
        if not isinstance(reference, str):
            raise GrammarError(f"{place}: expected a string, got {type(reference).__name__}")
        document, fragment = urldefrag(reference)
        if document and urldefrag(urljoin(self._base, reference))[0] != urldefrag(self._base)[0]:
            raise GrammarError(
                f"{place}: {reference[:200]!r} is outside of the document, where nothing is fetched from"
            )
        fragment = unquote(fragment)
        if fragment and not fragment.startswith("/"):
            if fragment not in self._anchors:
                raise GrammarError(f"{place}: there is no anchor {fragment[:200]!r} in the document")
            found = self._anchors[fragment]
        else:
            found = Place(fragment)
        schema = self._at(found.pointer, reference, place)
        if not isinstance(schema, dict | bool):
            raise GrammarError(f"{place}: {reference[:200]!r} does not lead to a schema")
        return found, schema

    def _at(self, pointer: str, reference: str, place: Place) -> Json:
        value = self._document
        for part in pointer.split("/")[1:]:
            key = part.replace("~1", "/").replace("~0", "~")
            if isinstance(value, dict) and key in value:
                value = value[key]
            elif isinstance(value, list) and key.isascii() and key.isdigit() and int(key[:9]) < len(value):
                value = value[int(key[:9])]
            else:
                raise GrammarError(f"{place}: {reference[:200]!r} leads to nothing in this document")
        return value
