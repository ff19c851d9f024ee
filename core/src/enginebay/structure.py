"""Turns plain data into attrs classes and back, strictly, with a path in every message. It knows no file and no key.

Nothing is coerced: ``8.9`` is no int and ``True`` is no number; only the keys of a mapping by ints may be digits, as in
JSON. Unknown keys are errors. A constraint is written as an object with its ``kind``.
"""

from __future__ import annotations

import difflib
import types
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin

import attrs
from cattrs import Converter
from cattrs.errors import (
    AttributeValidationNote,
    BaseValidationError,
    ClassValidationError,
    ForbiddenExtraKeysError,
    IterableValidationError,
    IterableValidationNote,
)
from cattrs.gen import make_dict_structure_fn, make_dict_unstructure_fn

from enginebay.data import Choice, Gbnf, JsonObject, JsonSchema, Lark, Regex, Rules
from enginebay.errors import EnginebayError

T = TypeVar("T")
Hook = Callable[[Any, Any], Any]

KINDS: dict[str, type] = {
    "json_schema": JsonSchema,
    "json_object": JsonObject,
    "regex": Regex,
    "gbnf": Gbnf,
    "lark": Lark,
    "choice": Choice,
    "rules": Rules,
}
"""The constraints by the ``kind`` that tags them."""


def structure(value: Any, cls: type[T], *, error: type[EnginebayError], where: str = "") -> T:
    """An instance of ``cls`` from dicts, lists and scalars.

    :raises error: naming every wrong place as a path below ``where``; ``fields["problems"]`` lists path and message
    """
    try:
        return _converter.structure(value, cls)
    except Exception as problem:
        problems = [{"path": path, "message": message} for path, message in _problems(problem, where)]
        text = "; ".join(f"{p['message']} at {p['path']}" if p["path"] else p["message"] for p in problems)
        raise error(text, problems=problems) from None


def unstructure(value: Any) -> Any:
    """What ``structure`` takes: dicts, lists, tuples and scalars, which JSON can hold."""
    return _converter.unstructure(value)


def close_match(name: str, known: Iterator[str] | list[str]) -> str:
    """``"; did you mean NAME?"``, or nothing if no known name is close."""
    close = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean {close[0]}?" if close else ""


# --- messages ---------------------------------------------------------------------------------------------------------


def _problems(error: BaseException, path: str) -> Iterator[tuple[str, str]]:
    """Each failure within ``error`` as (path, message)."""
    if isinstance(error, BaseValidationError):
        for inner in error.exceptions:
            yield from _problems(inner, path + _step(inner, path, error))
    elif isinstance(error, ForbiddenExtraKeysError):
        known = sorted(field.name for field in attrs.fields(error.cl))
        for key in sorted(map(str, error.extra_fields)):
            hint = close_match(key, known) or (f" (known: {', '.join(known)})" if known else " (there are none)")
            yield path, f"unknown key {key}{hint}"
    elif isinstance(error, KeyError):
        yield path, "expected a value, got nothing"
    else:
        yield path, str(error)


def _step(error: BaseException, path: str, parent: BaseException) -> str:
    for note in getattr(error, "__notes__", ()):
        if isinstance(note, AttributeValidationNote | IterableValidationNote):
            name = note.name if isinstance(note, AttributeValidationNote) else note.index
            return f"[{name}]" if isinstance(name, int) else f".{name}" if path else str(name)
    if isinstance(parent, ClassValidationError) and type(error) is ValueError:
        name, colon, message = str(error).partition(": ")  # an attrs validator, which names its attribute
        if colon and name in attrs.fields_dict(parent.cl):
            error.args = (message,)
            return f".{name}" if path else name
    return ""


def type_name(expected: Any) -> str:
    """A type in a reader's words: ``int``, ``'a' or 'b'``, ``list``, ``table``, ``path``."""
    if get_origin(expected) is Literal:
        return " or ".join(repr(value) for value in get_args(expected))
    if _is_union(expected):
        return " or ".join(type_name(one) for one in get_args(expected) if one is not type(None))
    origin = get_origin(expected) or expected
    if attrs.has(origin) or _is(Mapping, dict)(expected):
        return "table"
    if _is(tuple, list, frozenset, set)(expected):
        return "list"
    return {Path: "path", str: "string"}.get(origin, getattr(origin, "__name__", str(origin)))


def _wrong(expected: Any, value: Any) -> TypeError:
    got = "null" if value is None else type_name(type(value))
    if isinstance(value, str) and len(value) < 60:
        got = repr(value)
    return TypeError(f"expected {type_name(expected)}, got {got}")


# --- hooks ------------------------------------------------------------------------------------------------------------


def _is(*kinds: Any) -> Callable[[Any], bool]:
    return lambda cls: (get_origin(cls) or cls) in kinds


def _is_union(cls: Any) -> bool:
    return get_origin(cls) in (Union, types.UnionType)


def _exactly(*kinds: type) -> Hook:
    def check(value: Any, cls: Any) -> Any:
        if type(value) not in kinds:
            raise _wrong(cls, value)
        return value if type(value) is cls or cls is None else cls(value)

    return check


def _path(value: Any, cls: Any) -> Path:
    if not isinstance(value, str | Path) or not str(value):
        raise _wrong(cls, value)
    return Path(value)


def _literal(value: Any, cls: Any) -> Any:
    if not any(value == allowed and type(value) is type(allowed) for allowed in get_args(cls)):
        raise _wrong(cls, value)
    return value


def _each(pairs: list[tuple[Any, Any, Any]], cls: Any) -> list[Any]:
    """Structure (index, value, type) one by one, and note the index on what fails."""
    done: list[Any] = []
    failed: list[Exception] = []
    for index, value, kind in pairs:
        try:
            done.append(_converter.structure(value, kind))
        except Exception as error:
            error.__notes__ = [*getattr(error, "__notes__", ()), IterableValidationNote("", index, kind)]
            failed.append(error)
    if failed:
        raise IterableValidationError("", failed, cls)
    return done


def _sequence(value: Any, cls: Any) -> Any:
    kinds = get_args(cls) or (Any,)
    container = get_origin(cls) or cls
    if not isinstance(value, list | tuple | frozenset | set):
        raise _wrong(cls, value)
    fixed = container is tuple and Ellipsis not in kinds
    if fixed and len(value) != len(kinds):
        raise TypeError(f"expected {len(kinds)} values, got {len(value)}")
    return container(_each([(i, v, kinds[i] if fixed else kinds[0]) for i, v in enumerate(value)], cls))


def _mapping(value: Any, cls: Any) -> dict[Any, Any]:
    key_kind, value_kind = get_args(cls) or (Any, Any)
    if not isinstance(value, Mapping):
        raise _wrong(cls, value)
    keys = {k: int(k) if key_kind is int and isinstance(k, str) and k.isascii() and k.isdigit() else k for k in value}
    names = _each([(str(k), v, key_kind) for k, v in keys.items()], cls)
    return dict(zip(names, _each([(str(k), v, value_kind) for k, v in value.items()], cls), strict=True))


def _union(value: Any, cls: Any) -> Any:
    kinds = [kind for kind in get_args(cls) if kind is not type(None)]
    if value is None and len(kinds) < len(get_args(cls)):
        return None
    if len(kinds) == 1:
        return _converter.structure(value, kinds[0])
    if set(kinds) == set(KINDS.values()):
        return _constraint(value)
    for kind in kinds:
        try:
            return _converter.structure(value, kind)
        except Exception as error:
            if type(value) is (get_origin(kind) or kind):
                raise error from None
    raise _wrong(cls, value)


def _constraint(value: Any) -> Any:
    if type(value) in KINDS.values():
        return value
    if not isinstance(value, Mapping):
        raise TypeError(f"expected table, got {type_name(type(value))}")
    kind = value.get("kind")
    if not isinstance(kind, str) or kind not in KINDS:
        raise ValueError(f"expected a kind of constraint ({', '.join(KINDS)}), got {kind!r}")
    return _converter.structure({key: v for key, v in value.items() if key != "kind"}, KINDS[kind])


def _class(cls: Any, converter: Converter) -> Hook:
    build = make_dict_structure_fn(cls, converter, _cattrs_forbid_extra_keys=True)

    def check(value: Any, _cls: Any) -> Any:
        if isinstance(value, cls):
            return value
        if not isinstance(value, Mapping):
            raise _wrong(cls, value)
        return build(dict(value), cls)

    return check


def _tagged(kind: str, cls: type) -> Callable[[Any], dict[str, Any]]:
    plain: Callable[[Any], dict[str, Any]] = make_dict_unstructure_fn(cls, _converter)
    return lambda value: {"kind": kind, **plain(value)}


_converter = Converter(prefer_attrib_converters=False)
for _kind in (bool, int, str, bytes):
    _converter.register_structure_hook(_kind, _exactly(_kind))
_converter.register_structure_hook(float, _exactly(float, int))
_converter.register_structure_hook(Path, _path)
_converter.register_structure_hook_func(_is(Literal), _literal)
_converter.register_structure_hook_func(_is(tuple, list, frozenset, set), _sequence)
_converter.register_structure_hook_func(_is(Mapping, dict), _mapping)
_converter.register_structure_hook_func(_is_union, _union)
_converter.register_structure_hook_factory(attrs.has, _class)
_converter.register_unstructure_hook(Path, str)
_converter.register_unstructure_hook_func(_is(frozenset, set), sorted)
for _tag, _constraint_class in KINDS.items():
    _converter.register_unstructure_hook(_constraint_class, _tagged(_tag, _constraint_class))
