"""From a constraint of the contract to a compiled one: front end, deadline, cache. Knows no sampling and no scheduling."""

from __future__ import annotations

import json
import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import TypeVar

from attrs import evolve

from enginebay.data import AppliedConstraint, Choice, Constraint, Gbnf, JsonObject, JsonSchema, Lark, Regex, Rules
from enginebay.decode.constraints.choice import choice_grammar
from enginebay.decode.constraints.gbnf import gbnf_grammar, rules_grammar
from enginebay.decode.constraints.grammar import Grammar
from enginebay.decode.constraints.lark import lark_grammar
from enginebay.decode.constraints.limits import Limits
from enginebay.decode.constraints.matcher import Compiled
from enginebay.decode.constraints.native import COMPILER, Library
from enginebay.decode.constraints.regex import regex_grammar
from enginebay.decode.constraints.schema import schema_grammar
from enginebay.decode.constraints.schema.values import plain
from enginebay.decode.protocol import Vocabulary
from enginebay.errors import EnginebayError, GenerationError, GrammarError

T = TypeVar("T")

_STACK_BYTES = 256 * 1024 * 1024
_COMPILING_AT_ONCE = 4
_stack_size_lock = threading.Lock()


class ConstraintCompiler:
    """Compiles constraints for one loaded model; thread-safe.

    :param vocabulary: the model's tokens
    :param encode: token ids of plain text; their bytes, joined, are the text
    :param limits: bounds on what is compiled
    """

    def __init__(
        self, vocabulary: Vocabulary, encode: Callable[[str], list[int]], limits: Limits | None = None
    ) -> None:
        self._vocabulary = vocabulary
        self._limits = limits or Limits()
        self._encode = encode
        self._end = tuple(sorted(vocabulary.end))
        self._library = Library(vocabulary, encode)
        self._cache: OrderedDict[str, Compiled] = OrderedDict()
        self._lock = threading.Lock()
        self._slots = threading.BoundedSemaphore(_COMPILING_AT_ONCE)

    def compile(self, constraint: Constraint) -> Compiled:
        """Compile a constraint, or take it from the cache.

        :raises GrammarError: it is malformed, over a limit, took too long, or has a part that cannot be enforced
        """
        key = _key(constraint, self._limits)
        with self._lock:
            if key in self._cache:
                self._cache.move_to_end(key)
                return self._cache[key]
        self._library.prepare()  # once a model, and not the constraint's fault
        compiled = self._within_deadline(lambda: self._compile(constraint))
        with self._lock:
            self._cache[key] = compiled
            while len(self._cache) > self._limits.cache_entries:
                self._cache.popitem(last=False)
        return compiled

    def _compile(self, constraint: Constraint) -> Compiled:
        grammar = self._grammar(constraint)
        warnings = grammar.warnings
        try:
            template = self._library.compile(grammar.lark)
        except GrammarError as error:
            reason = grammar.explain(error.message) if grammar.explain else error.message
            if grammar.fallback is None:
                raise GrammarError(reason) from None
            template = self._library.compile(grammar.fallback)
            if grammar.make_check:
                warnings = (*warnings, f"a part was dropped: {reason}")
        check = grammar.make_check() if grammar.make_check and warnings else None
        applied = AppliedConstraint(grammar.kind, COMPILER, warnings)
        compiled = Compiled(applied, template, len(self._vocabulary.pieces), self._end, check)
        try:
            compiled.start().allowed(len(self._vocabulary.pieces))
        except GenerationError as error:
            raise GrammarError(f"the constraint matches no text of this vocabulary: {error.message}") from None
        return compiled

    def _grammar(self, constraint: Constraint) -> Grammar:
        limits = self._limits
        match constraint:
            case JsonSchema(schema, strict):
                return schema_grammar(schema, strict, limits)
            case JsonObject():
                return evolve(schema_grammar({"type": "object"}, True, limits), kind="json_object")
            case Regex(pattern):
                return regex_grammar(pattern, limits)
            case Gbnf(source):
                return gbnf_grammar(source, self._vocabulary, self._encode, limits)
            case Rules(root, rules):
                return rules_grammar(root, rules, self._vocabulary, self._encode, limits)
            case Lark(source):
                return lark_grammar(source, self._vocabulary, limits)
            case Choice(options):
                return choice_grammar(options, limits)

    def _within_deadline(self, work: Callable[[], T]) -> T:
        """Run ``work`` in a thread with a large stack: deep grammars recurse deeply in native code."""
        seconds = self._limits.deadline_seconds
        results: list[T] = []
        failures: list[BaseException] = []

        def run() -> None:
            try:
                results.append(work())
            except BaseException as error:
                failures.append(error)
            finally:
                self._slots.release()

        late = GrammarError(f"the constraint took more than {seconds:g} seconds to compile", hint="Make it simpler.")
        if not self._slots.acquire(timeout=seconds):
            raise late
        with _stack_size_lock:
            previous = threading.stack_size(_STACK_BYTES)
            try:
                thread = threading.Thread(target=run, name="enginebay-constraint", daemon=True)
                thread.start()
            except RuntimeError:
                self._slots.release()
                raise
            finally:
                threading.stack_size(previous)
        thread.join(seconds)
        if thread.is_alive():
            raise late
        if results:
            return results[0]
        error = failures[0]
        if isinstance(error, EnginebayError):
            raise error
        raise GrammarError(f"the constraint cannot be compiled: {type(error).__name__}: {error}") from error


def _key(constraint: Constraint, limits: Limits) -> str:
    """What the constraint says, with the order of its parts, as a text."""
    kind = type(constraint).__name__
    match constraint:
        case JsonSchema(schema, strict):
            return f"{kind} {strict} {json.dumps(plain(schema, limits))}"
        case Rules(root, rules):
            return f"{kind} {root!r} {list(rules.items())!r}"
        case _:
            return repr(constraint)
