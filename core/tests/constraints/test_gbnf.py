"""GBNF means here what it means in llama.cpp."""

from collections.abc import Callable

import pytest

from enginebay.data import Gbnf, Lark, Rules
from enginebay.decode.constraints import Limits
from enginebay.decode.constraints.gbnf import gbnf_grammar
from enginebay.errors import GrammarError

from .oracle import Oracle
from .random_gbnf import ALPHABET, DELIMITED_ALPHABET, random_delimited_gbnf, random_gbnf
from .vocabularies import BYTES, TOOL, USER, accepts, byte_compiler, encode, follow

LENGTH = 4


def accepted(follows: dict[str, str]) -> set[str]:
    return {text for text, next_chars in follows.items() if "$" in next_chars}


def differences(make: Callable[[int], str], alphabet: str, length: int, wanted: int) -> tuple[int, int]:
    """Compare ``wanted`` grammars that both sides accept. How many texts were accepted, and how many grammars refused."""
    oracle = Oracle()
    compiler = byte_compiler(cache_entries=1)
    compared = refused = texts = seed = 0
    while compared < wanted:
        seed += 1
        source = make(seed)
        theirs = oracle.follow(source, alphabet, length)
        if theirs == "died":  # llama.cpp does not see every left recursion
            continue
        try:
            ours = follow(compiler.compile(Gbnf(source)), alphabet, length)
        except GrammarError as refusal:
            ours, reason = None, str(refusal)
        if ours is None:
            matches_nothing = theirs is not None and "matches no text" in reason and not accepted(theirs)
            assert theirs is None or matches_nothing, f"seed {seed}: only we refuse {source!r}: {reason}"
            refused += 1
            continue
        assert theirs is not None, f"seed {seed}: only llama.cpp refuses {source!r}"
        assert accepted(ours) == accepted(theirs), f"seed {seed}: {source!r}"
        for text, chars in ours.items():
            assert set(chars) <= set(theirs[text]), f"seed {seed}: after {text!r} in {source!r}"
        compared += 1
        texts += len(accepted(ours))
    oracle.close()
    return texts, refused


def test_a_thousand_random_grammars_accept_what_llama_cpp_accepts():
    pytest.importorskip("llama_cpp")
    texts, refused = differences(random_gbnf, ALPHABET, LENGTH, 1_000)
    assert texts > 10_000
    assert refused > 500


def test_rules_that_become_terminals_accept_what_llama_cpp_accepts():
    pytest.importorskip("llama_cpp")
    quick = 0
    for seed in range(60):
        try:
            quick += "R" in gbnf_grammar(random_delimited_gbnf(seed), BYTES, encode, Limits()).lark
        except GrammarError:
            continue
    assert quick > 20, "the test would compare nothing but plain forms"
    texts, _ = differences(random_delimited_gbnf, DELIMITED_ALPHABET, LENGTH + 1, 400)
    assert texts > 4_000


def test_plain_and_quick_forms_agree():
    for seed in range(200):
        make = random_gbnf if seed % 2 else random_delimited_gbnf
        try:
            forms = [gbnf_grammar(make(seed), BYTES, encode, Limits(), plain=plain).lark for plain in (True, False)]
        except GrammarError:
            continue
        plain, quick = (follow(byte_compiler().compile(Lark(form)), DELIMITED_ALPHABET, LENGTH) for form in forms)
        assert accepted(plain) == accepted(quick), make(seed)


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


def test_a_token_that_could_be_text_is_refused_and_special_ones_are_exact():
    for source in ['root ::= <[97]> | "a" "b"', 'root ::= !<think>* "end"', "root ::= (<[98]> | !<[99]>)+"]:
        with pytest.raises(GrammarError, match="can also be"):
            byte_compiler().compile(Gbnf(source))
    thinking = Gbnf("root ::= <think> thought <[258]> .*\nthought ::= !<[258]>*")
    compiled = byte_compiler().compile(thinking)
    assert accepts(compiled, [USER, *"any é".encode(), USER, TOOL, *b"text"])
    assert accepts(compiled, [USER, TOOL])
    assert not accepts(compiled, [USER, *b"a"])
    assert not accepts(compiled, [USER, TOOL, TOOL])
    only_token = byte_compiler().compile(Gbnf('root ::= "a" <[98]> "b"'))
    assert accepts(only_token, b"abb")


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
