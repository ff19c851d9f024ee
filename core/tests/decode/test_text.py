"""Streamed text is the whole text, cut at the first stop string, however it falls into tokens."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from enginebay.decode.protocol import Vocabulary
from enginebay.decode.text import TextStream


def obvious(pieces: list[bytes], stops: list[str]) -> tuple[str, str | None]:
    """The text and the stop string that matched, from the text as a whole."""
    whole = b"".join(pieces).decode("utf-8", "replace")
    for end in range(len(whole) + 1):
        for stop in sorted(stops, key=len, reverse=True):
            if whole[:end].endswith(stop):
                return whole[: end - len(stop)], stop
    return whole, None


def streamed(pieces: list[bytes], stops: list[str]) -> tuple[list[str], str | None]:
    stream = TextStream(Vocabulary(tuple(pieces), frozenset()), stops)
    deltas = [stream.push(token) for token in range(len(pieces))]
    deltas.append(stream.finish())
    assert stream.finish() == ""
    return deltas, stream.stopped


# Few letters make overlaps likely; the characters have bytes in common, so that wrong joins decode to something.
letters = st.text(st.sampled_from("ab\u00e9\u00ea\u20ac\U0001f600\ufffd"), max_size=24)
fragments = st.lists(st.sampled_from([b"a", b"\xc3", b"\xa9", b"\xe2\x82", b"\xf0", b"\xff"])).map(b"".join)
raw = st.one_of(letters.map(str.encode), fragments)
stop_strings = st.lists(st.text(st.sampled_from("ab\u00e9\u20ac\ufffd"), min_size=1, max_size=5), max_size=4)


@given(raw, st.lists(st.integers(1, 4), min_size=30, max_size=100), stop_strings)
@example(b"abcd", [1] * 30, ["bcd", "c"])
@example(b"aab", [1] * 30, ["ab", "aab", "b"])
@example("ab\ufffd".encode()[:-1], [2] * 30, ["b\ufffd"])
@example(b"aaab", [2] * 30, ["aab"])
@example(b"aababa", [2] * 30, ["aaba"])
@example(b"aababb", [2] * 30, ["aabb"])
def test_deltas_join_to_the_whole_text_cut_at_the_first_stop(data: bytes, sizes: list[int], stops: list[str]) -> None:
    pieces = []
    for size in sizes:
        pieces.append(data[:size])
        data = data[size:]
    pieces.append(data)
    deltas, stopped = streamed(pieces, stops)
    assert ("".join(deltas), stopped) == obvious(pieces, stops)


@given(letters, st.integers(1, 3))
def test_without_stop_strings_a_character_is_given_as_soon_as_it_is_whole(text: str, size: int) -> None:
    data = text.encode()
    pieces = [data[i : i + size] for i in range(0, len(data), size)]
    deltas, _ = streamed(pieces, [])
    for i in range(1, len(pieces) + 1):
        assert "".join(deltas[:i]) == b"".join(pieces[:i]).decode("utf-8", "ignore")


@pytest.mark.parametrize(
    ("pieces", "stops", "expected"),
    [
        (["Hi", " E", "x"], ["END"], ["Hi", " ", "Ex", ""]),
        (["Hi E", "N", "D more"], ["END"], ["Hi ", "", "", ""]),
        (["x", "\n\nUs", "er"], ["\nUser:"], ["x", "\n", "", "\nUser"]),
    ],
)
def test_only_what_may_begin_a_stop_string_is_held_back(
    pieces: list[str], stops: list[str], expected: list[str]
) -> None:
    deltas, _ = streamed([piece.encode() for piece in pieces], stops)
    assert deltas == expected


def test_control_tokens_give_no_text_and_do_not_break_a_character() -> None:
    vocabulary = Vocabulary((b"\xe2\x82", b"<|end|>", b"\xac"), frozenset({1}), control=frozenset({1}))
    stream = TextStream(vocabulary, [])
    assert [stream.push(token) for token in (0, 1, 2)] == ["", "", "\u20ac"]


def test_nothing_follows_a_stop_string() -> None:
    vocabulary = Vocabulary((b"one. two", b"three"), frozenset())
    stream = TextStream(vocabulary, ["."])
    assert (stream.push(0), stream.push(1), stream.finish(), stream.stopped) == ("one", "", "", ".")
