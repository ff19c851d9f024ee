"""GBNF means here what it means in llama.cpp."""

import pytest

from enginebay.data import Gbnf, Rules
from enginebay.errors import GrammarError

from .oracle import Oracle
from .random_gbnf import ALPHABET, random_gbnf
from .vocabularies import BYTES, TOOL, USER, accepts, byte_compiler, follow

LENGTH = 4


def accepted(follows: dict[str, str]) -> set[str]:
    return {text for text, next_chars in follows.items() if "$" in next_chars}


def test_a_thousand_random_grammars_accept_what_llama_cpp_accepts():
    pytest.importorskip("llama_cpp")
    oracle = Oracle()
    compiler = byte_compiler(cache_entries=1)
    compared = refused = texts = seed = 0
    while compared < 1_000:
        seed += 1
        source = random_gbnf(seed)
        theirs = oracle.follow(source, ALPHABET, LENGTH)
        if theirs == "died":  # llama.cpp does not see every left recursion
            continue
        try:
            ours = follow(compiler.compile(Gbnf(source)), ALPHABET, LENGTH)
        except GrammarError as error:
            matches_nothing = theirs is not None and "matches no text" in str(error) and not accepted(theirs)
            assert theirs is None or matches_nothing, f"seed {seed}: only we refuse {source!r}: {error}"
            refused += 1
            continue
        assert theirs is not None, f"seed {seed}: only llama.cpp refuses {source!r}"
        assert accepted(ours) == accepted(theirs), f"seed {seed}: {source!r}"
        for text, chars in ours.items():
            assert set(chars) <= set(theirs[text]), f"seed {seed}: after {text!r} in {source!r}"
        compared += 1
        texts += len(accepted(ours))
    oracle.close()
    assert texts > 10_000
    assert refused > 500


@pytest.mark.parametrize(
    ("source", "good", "bad"),
    [
        ('root ::= "a.b"', ["a.b"], ["axb"]),
        ("root ::= [a&&b]{2}", ["ab", "&a", "&&"], ["a"]),
        ("root ::= [--a]", ["a", "-", "A"], ["b"]),
        ("root ::= .", ["\n", "é", "😀"], ["", "ab"]),
        ('root ::= "\\u00e9" [\\U0001F600-\\U0001F64F]', ["é😀"], ["é", "ée"]),
        ('root ::= "é"+ | [^é]', ["éé", "è", "x"], ["éx"]),
        ('root ::= Root\nRoot ::= start\nstart ::= "x"', ["x"], ["X", ""]),
        ('root ::= a-b | ab\na-b ::= "1"\nab ::= "2"', ["1", "2"], ["12"]),
        ('root ::= "x" # note " [\n', ["x"], []),
        ('root ::= ("a"\n | "b"\n)\n', ["a", "b"], ["ab"]),
        ('root ::= "a" |\n "b"', ["a", "b"], []),
        ('root ::= "ab"{2}', ["abab"], ["abb", "ab"]),
        ("root ::= [a-c]{2,}", ["ab", "abcabc"], ["a"]),
        ("root ::= [^\\n\\x20]*", ["", "ab"], ["a b", "\n"]),
        ("root ::= [\\x5d\\]\\[-]+", ["][-"], ["a"]),
        ('root ::= "(" root ")" | ""', ["", "(())"], ["(()"]),
        ('root ::= "a" (("b" | "c") root)?', ["a", "abaca"], ["ab"]),
    ],
)
def test_dialect(source, good, bad):
    compiled = byte_compiler().compile(Gbnf(source))
    assert [text for text in good if not accepts(compiled, text)] == []
    assert [text for text in bad if accepts(compiled, text)] == []
    assert compiled.applied.kind == "gbnf"


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("", "no rule 'root'"),
        ('x ::= "a"', "no rule 'root'"),
        ("root ::= y", "no rule 'y', which line 1, column 10 names"),
        ('root ::= root "a" | "b"', "left-recursive: root → root"),
        ('root ::= a\na ::= b | "x"\nb ::= | a "y"', "left-recursive"),
        ('root ::= "a"**', "left-recursive"),
        ('root ::= "a" )', "line 1, column 14: expected the end of the line"),
        ('root ::= ("a"', "expected ')'"),
        ('root ::= "a\\q"', "line 1, column 12: unknown escape"),
        ('root ::= "\\x4"', "2 hexadecimal digits"),
        ('root ::= "a"{3,2}', "maximum 2 below its minimum 3"),
        ('root ::= "a"{2001}', "more than 2,000"),
        ('root ::= ("a" "b"{0,1000}){3}', "more than 2,000"),
        ('root ::= * "a"', "something to repeat"),
        ("root ::= <nothing-like-this>", "not one token"),
        ("root ::= <[9999]>", "not in the vocabulary"),
        ("root ::= <[257]>", "ends generation"),
        ("root ::= [b-a]", "matches no text"),
    ],
)
def test_refusals_say_what_and_where(source, words):
    with pytest.raises(GrammarError) as caught:
        byte_compiler().compile(Gbnf(source))
    assert words in str(caught.value)


def test_tokens_are_named_by_id_or_text_and_are_nothing_else():
    compiled = byte_compiler().compile(Gbnf("root ::= <think> !<think>*"))
    assert accepts(compiled, [USER, *b"hm", TOOL])
    assert not accepts(compiled, [USER, USER])
    compiled = byte_compiler().compile(Gbnf("root ::= <[258]> [a-z]+ | [^x]*"))
    assert accepts(compiled, [TOOL, *b"ab"])
    assert accepts(compiled, b"<|tool|>")
    assert not accepts(compiled, [*b"a", TOOL])
    assert not compiled.start().allowed(len(BYTES.pieces))[USER]


def test_rules_with_alternatives():
    rules = Rules("answer", {"answer": ("yes-no", '"maybe" yes-no?'), "yes-no": ('"yes"', '"no"', '(\n"n"\n)')})
    compiled = byte_compiler().compile(rules)
    assert all(accepts(compiled, text) for text in ["yes", "n", "maybeno", "maybe"])
    assert not accepts(compiled, "yesno")
    assert compiled.applied.kind == "rules"
    for broken in [
        Rules("answer", {"answer": ('"a"\nanswer ::= "b"',)}),
        Rules("answer", {"answer": ("missing",)}),
        Rules("other", {"answer": ('"a"',)}),
        Rules("answer", {"answer": ()}),
        Rules("an swer", {"an swer": ('"a"',)}),
        Rules("answer", {"answer": ('"a" ::=',)}),
    ]:
        with pytest.raises(GrammarError):
            byte_compiler().compile(broken)
