"""What the scheduler relies on: masks of any width, end tokens exactly where complete, errors instead of silence."""

import random
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from enginebay.data import Choice, Gbnf, JsonObject, JsonSchema, Lark, Regex
from enginebay.decode.constraints import ConstraintCompiler
from enginebay.decode.protocol import Vocabulary
from enginebay.errors import GenerationError, GrammarError

from .vocabularies import BOS, BYTES, END, END2, TOOL, USER, accepts, byte_compiler, encode

COMPILER = byte_compiler()


@pytest.mark.parametrize("extra", [0, 1, 7, 59, 1000])
def test_mask_has_the_width_of_the_logits(extra):
    matcher = COMPILER.compile(Regex("ab*")).start()
    width = len(BYTES.pieces) + extra
    for step in (None, ord("a"), ord("b")):
        if step is not None:
            matcher.advance(step)
        mask = matcher.allowed(width)
        assert mask.shape == (width,)
        assert mask.dtype == np.bool_
        assert not mask[len(BYTES.pieces) :].any()
    assert set(mask.nonzero()[0]) == {ord("b"), END, END2}


def test_a_mask_belongs_to_the_caller():
    matcher = COMPILER.compile(Choice(("a", "b"))).start()
    first = matcher.allowed(300)
    first[:] = True
    assert set(matcher.allowed(300).nonzero()[0]) == {ord("a"), ord("b")}


def test_special_tokens_are_never_text():
    for constraint in (Regex("(?s:.)*"), JsonObject(), Lark("start: /[^x]+/"), JsonSchema({"type": "string"})):
        matcher = COMPILER.compile(constraint).start()
        if constraint == JsonSchema({"type": "string"}):
            matcher.advance(ord('"'))
        mask = matcher.allowed(len(BYTES.pieces))
        assert not mask[[BOS, TOOL, USER]].any()


def test_end_token_ends_and_nothing_follows():
    matcher = COMPILER.compile(Regex("a?")).start()
    assert matcher.complete
    matcher.advance(ord("a"))
    matcher.advance(END2)
    assert matcher.complete
    assert set(matcher.allowed(len(BYTES.pieces)).nonzero()[0]) == {END, END2}
    matcher.advance(END)
    with pytest.raises(GenerationError, match="after the end"):
        matcher.advance(ord("a"))


def test_a_wildcard_for_tokens_does_not_let_the_output_end_early():
    compiled = COMPILER.compile(Lark('start: "a" <[*]> "b"'))
    matcher = compiled.start()
    matcher.advance(ord("a"))
    mask = matcher.allowed(len(BYTES.pieces))
    assert mask[TOOL]
    assert not mask[[END, END2]].any()
    matcher.advance(TOOL)
    matcher.advance(ord("b"))
    assert matcher.allowed(len(BYTES.pieces))[[END, END2]].all()


def test_what_is_not_allowed_raises():
    with pytest.raises(GenerationError, match="not allowed"):
        COMPILER.compile(Regex("ab")).start().advance(ord("b"))
    with pytest.raises(GenerationError, match="before the constraint was complete"):
        COMPILER.compile(Regex("ab")).start().advance(END)
    for token in (BOS, TOOL):
        with pytest.raises(GenerationError):
            COMPILER.compile(Regex(".*")).start().advance(token)


def test_a_vocabulary_that_cannot_spell_the_text_is_an_error_and_not_silence():
    vocabulary = Vocabulary((b"a", b"b", b"</s>"), frozenset({2}), frozenset({2}), frozenset({2}))
    compiler = ConstraintCompiler(vocabulary, encode)
    with pytest.raises(GrammarError, match="matches no text of this vocabulary"):
        compiler.compile(Regex("c"))
    matcher = compiler.compile(Regex("ac|b")).start()
    matcher.advance(0)
    with pytest.raises(GenerationError):
        matcher.allowed(3)


def test_a_model_without_an_end_token_is_refused():
    with pytest.raises(GrammarError, match="no end token"):
        ConstraintCompiler(Vocabulary((b"a",), frozenset()), encode).compile(Regex("a"))


def test_equal_and_empty_tokens():
    pieces = (b"a", b"a", b"", b"ab", b"</s>")
    vocabulary = Vocabulary(pieces, frozenset({4}), frozenset({4}), frozenset({4}))
    matcher = ConstraintCompiler(vocabulary, encode).compile(Regex("ab?")).start()
    assert matcher.allowed(5).tolist() == [True, True, False, True, False]
    matcher.advance(1)
    assert matcher.complete


def test_matchers_of_one_constraint_do_not_disturb_each_other():
    compiled = COMPILER.compile(Choice(("abc", "abd", "x")))
    one, other = compiled.start(), compiled.start()
    one.advance(ord("a"))
    assert other.allowed(300)[ord("x")]
    other.advance(ord("x"))
    assert one.allowed(300)[ord("b")]
    assert other.complete
    assert not one.complete


OPTIONS = st.lists(st.text(alphabet=st.characters(codec="utf-8"), max_size=6), min_size=1, max_size=8, unique=True)


@settings(max_examples=150, deadline=None)
@given(OPTIONS, st.text(max_size=6))
def test_choice_is_exactly_its_options(options, other):
    compiled = COMPILER.compile(Choice(tuple(options)))
    assert all(accepts(compiled, option) for option in options)
    if other not in options:
        try:
            assert not accepts(compiled, other)
        except UnicodeEncodeError:
            assert not other.isprintable()


_REGEX_PARTS = [
    "a",
    "b",
    "[ab]",
    "[^a]",
    ".",
    "a?",
    "b*",
    "(a|bb)+",
    "(?:ab){1,2}",
    "\\.",
    "é",
    "/",
    "\n",
    "\\n",
    "\\/",
    "#",
    '"',
]


def test_regexes_match_as_a_whole():
    draw = random.Random(11)
    compared = 0
    while compared < 300:
        pattern = "".join(draw.choice(_REGEX_PARTS) for _ in range(draw.randint(1, 4)))
        compiled = COMPILER.compile(Regex(pattern))
        compared += 1
        for _ in range(12):
            text = "".join(draw.choice(["a", "b", "é", "/", "\n", ".", "#", '"']) for _ in range(draw.randint(0, 5)))
            assert accepts(compiled, text) == bool(re.fullmatch(pattern, text)), (pattern, text)


def test_a_token_of_many_bytes_is_allowed_exactly_where_its_bytes_are():
    draw = random.Random(5)
    alphabet = ['"', "{", "}", "[", "]", ":", ",", " ", "\n", "a", "b", "1", "0", ".", "-", "\\", "é", "(", ")", "true"]
    longer = {"".join(draw.choices(alphabet, k=draw.randint(2, 5))).encode() for _ in range(600)} | {
        b"\xa9a",
        b"a\xc3",
        b'"\xc3',
    }
    pieces = (*BYTES.pieces, *sorted(longer))
    compiler = ConstraintCompiler(Vocabulary(pieces, BYTES.end, BYTES.control, BYTES.special), encode)
    constraints = [
        JsonObject(),
        JsonSchema(
            {
                "type": "array",
                "items": {"anyOf": [{"type": "string", "maxLength": 3}, {"type": "number", "maximum": 11}]},
            }
        ),
        Gbnf('root ::= "(" w (root | x) ("," w root)* ")" w | x\nx ::= [ab]+ | "é"\nw ::= " "?'),
        Gbnf('root ::= x root? | "a" root "b"\nx ::= "ab" | [^a]'),
        Regex('("[^"]*",? ?)*|[a-b1.]{2,5}'),
    ]
    checked = 0
    for constraint in constraints:
        compiled = compiler.compile(constraint)
        for _ in range(12):
            prefix: list[int] = []
            matcher = compiled.start()
            for _ in range(draw.randint(0, 8)):
                allowed = [token for token in matcher.allowed(len(pieces)).nonzero()[0] if token not in BYTES.end]
                if not allowed:
                    break
                prefix.append(int(draw.choice(allowed)))
                matcher.advance(prefix[-1])
            mask = matcher.allowed(len(pieces))
            for token in draw.sample(range(len(BYTES.pieces), len(pieces)), 60):
                byte_by_byte = compiled.start()
                for taken in prefix:
                    byte_by_byte.advance(taken)
                possible = True
                for byte in pieces[token]:
                    if not byte_by_byte.allowed(len(pieces))[byte]:
                        possible = False
                        break
                    byte_by_byte.advance(byte)
                assert mask[token] == possible, (constraint, prefix, pieces[token])
                checked += possible
    assert checked > 100
