"""Short stories from a small grammar: a hero, a friend, a place, one of twelve plots, an end.

It knows nothing about chat, tokens or held-out words; every choice comes from the given random source.
"""

from __future__ import annotations

import random
import tomllib
from pathlib import Path

_PARTS = tomllib.loads((Path(__file__).parent / "stories.toml").read_text())


def article(word: str) -> str:
    """ "a" or "an", also for a number in digits."""
    return "an" if word[0] in "aeiou8" or word in ("11", "18") else "a"


def story(random_source: random.Random, hero: str | None = None) -> str:
    """A story of eleven sentences or more in one paragraph; ``hero`` (such as "a dragon") replaces the drawn one."""
    choose = random_source.choice
    name, friend_name = choose(_PARTS["names"]), choose(_PARTS["friend_names"])
    place = choose(_PARTS["places"])
    if hero is None:
        kind = choose((*_PARTS["heroes"], "girl", "boy"))
        kind = f"{choose(_PARTS['traits'])} {kind}" if random_source.random() < 0.8 else kind
        hero = f"{article(kind)} {kind}"
    usual = f"Once upon a time there was {hero} named {name} who lived {place}."
    other = f"Once upon a time, {place}, there lived {hero} called {name}."
    rare = (
        f"One day {hero} named {name} was sitting {place}.",
        f"There once was {hero} called {name} who lived {place}.",
    )
    sentences = [choose((usual, usual, usual, other, other, *rare))]
    friend = choose(_PARTS["heroes"])
    friends = (
        f"{name} had a friend, {choose(('an old', 'a big', 'a funny', 'a wise'))} {friend} named {friend_name}.",
        f"Not far away lived {friend_name}, {article(friend)} {friend} who was always "
        f"{choose(('hungry', 'busy', 'cheerful', 'tired'))}.",
    )
    sentences.append(choose(friends))
    values = {"a": name, "b": friend_name}
    values |= {"o": choose(_PARTS["objects"]), "h": choose(_PARTS["hiding"]), "f": choose(_PARTS["foods"])}
    sentences += [choose(step).format(**values) for step in choose(_PARTS["plots"])]
    sentences.append(choose(_PARTS["lessons"]).format(**values))
    return " ".join(sentences)
