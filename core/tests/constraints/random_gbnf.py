"""Random GBNF grammars over a small alphabet, with the dialect's corners. Knows neither the front end nor llama.cpp."""

import random

ALPHABET = "ab-\n"
_LITERALS = [
    '"a"',
    '"b"',
    '"ab"',
    '"-"',
    '"\\n"',
    '"\\x61"',
    '"\\u0062"',
    '"\\U00000061b"',
    '""',
    '"a-b"',
    '"\\""',
    '"\n"',
]
_CLASSES = [
    "[ab]",
    "[a-b]",
    "[^a]",
    "[^ab]",
    "[^\\n]",
    "[a-]",
    "[b-a]",
    "[^b-a]",
    "[\\x61-\\x7a]",
    "[--a]",
    "[-a]",
    "[]",
    "[^]",
    "[a\\-b]",
    "[a&&b]",
    "[a~~b]",
    "[.]",
    "[\\[\\]a]",
    "[^\\U00000061-\\U7fffffff]",
]
_COUNTS = ["*", "+", "?", "{2}", "{0}", "{0,1}", "{1,2}", "{2,}", "{0,2}", "{ 1 , 3 }", "{1,3000}"]
_NAMES = ["root", "x", "X", "start", "a-b", "2", "r0", "T"]


def random_gbnf(seed: int) -> str:
    """A grammar whose root is ``root``: not always valid, and not always one that matches anything."""
    draw = random.Random(seed)
    names = ["root", *draw.sample(_NAMES[1:], draw.choice([0, 0, 1, 2, 3]))]
    recursive = draw.random() < 0.6

    def item(depth: int, place: int) -> str:
        kind = draw.random()
        later = names[place + 1 :]
        if kind < 0.35 or (depth > 2 and kind < 0.7):
            text = draw.choice(_LITERALS if draw.random() < 0.3 else _LITERALS[:3])
        elif kind < 0.55:
            text = draw.choice([*_CLASSES, "."] if draw.random() < 0.4 else _CLASSES[:3])
        elif kind < 0.75 and (later or recursive):
            text = draw.choice(names if recursive else later)
        elif depth < 3:
            space = draw.choice(["", " ", "\n", " # no\n"])
            text = f"({space}{alternatives(depth + 1, place)}{space})"
        else:
            text = '"a"'
        while draw.random() < 0.25:
            text += draw.choice(_COUNTS)
        return text

    def sequence(depth: int, place: int) -> str:
        count = draw.choice([0, 1, 1, 2, 2, 3])
        return draw.choice([" ", "  ", "\t"]).join(item(depth, place) for _ in range(count))

    def alternatives(depth: int, place: int) -> str:
        return draw.choice([" | ", "|", " |\n "]).join(
            sequence(depth, place) for _ in range(draw.choice([1, 1, 2, 2, 3]))
        )

    rules = [f"{name} ::= {alternatives(0, place)}" for place, name in enumerate(names)]
    if draw.random() < 0.3:
        rules.reverse()
    return draw.choice(["\n", "\n\n", " # comment\n", "\r\n"]).join(rules) + draw.choice(["", "\n"])


DELIMITED_ALPHABET = "ab-(,)"


def random_delimited_gbnf(seed: int) -> str:
    """A recursive grammar with brackets, separators and space around regular rules, some of which can be lexemes."""
    draw = random.Random(seed)
    regular = [
        "[ab]+",
        "[a-b]{1,3}",
        '"a" "b"?',
        '"a"+ | "b"',
        '"ab"',
        '"a" w',
        '("a" | "b" w)',
        '"b"* "a"',
        "[ab]* w",
        '"a" "-"?',
    ]
    spaces = ['"-"*', '"-"?', '| "-" | "-" "-"', '"-"+', '("-" "-")*', '""']
    brackets = draw.choice(['"(" w', '"("', '"(" x?']), draw.choice(['")"', '")" w', 'w ")"'])
    separator = draw.choice(['","', '"," w', 'w ","', '"-"', "w"])
    inner = draw.choice(["x", "x | root", "y | root", "root", "(x | y) w", "x w y"])
    root = draw.choice(
        [
            f"{brackets[0]} ({inner} ({separator} ({inner}))*)? {brackets[1]} | x",
            f"{brackets[0]} {inner} {brackets[1]} | y",
            f"x | y {brackets[0]} root {brackets[1]}",
            f"x ({separator} ({inner}))? | {brackets[0]} root {brackets[1]}",
        ]
    )
    rules = [
        f"root ::= {root}",
        f"x ::= {draw.choice(regular)}",
        f"y ::= {draw.choice(regular)}",
        f"w ::= {draw.choice(spaces)}",
    ]
    return "\n".join(rules)
