"""Random constraints mean the same on every engine: identical greedy output, valid wherever it ends with ``stop``."""

from __future__ import annotations

import importlib
import json
import os
import random
import re
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from engines import ENGINES

import enginebay
from enginebay.errors import GrammarError

sys.path.insert(0, str(Path(__file__).parent.parent / "core/tests"))
random_schema = importlib.import_module("constraints.random_schema").random_schema
random_gbnf = importlib.import_module("constraints.random_gbnf").random_gbnf

COUNT = int(os.environ.get("ENGINEBAY_TEST_CONSTRAINTS", "40"))
"""How many schemas; of regexes two fifths and of grammars one fifth of that. 500 in a long run."""
Models = dict[str, enginebay.Model]


def random_regex(seed: int) -> str:
    draw = random.Random(seed)

    def part(depth: int) -> str:
        match draw.randrange(6 if depth < 3 else 3):
            case 0:
                return draw.choice(["a", "the ", "Mia", "7", "é", "x-y", "\\."])
            case 1:
                return draw.choice(["[a-z]", "[0-9]", "[^\\n]", "\\d", "\\w", "[A-F0-9]"])
            case 2:
                return part(depth + 1) + draw.choice(["{1,4}", "{2}", "?", "{0,3}"]) if depth < 3 else "b"
            case 3:
                return "(" + "|".join(part(depth + 1) for _ in range(draw.randint(2, 3))) + ")"
            case _:
                return "".join(part(depth + 1) for _ in range(draw.randint(1, 3)))

    pattern = part(0)
    while re.search(r"[}?][{?]", pattern):
        pattern = re.sub(r"([}?])[{?][0-9,]*}?", r"\1", pattern)
    return pattern


def same_on_all(models: Models, constraint: Any, prompt: str) -> enginebay.Result | None:
    """The result that all engines give; None if all refuse the constraint."""

    def one(model: enginebay.Model) -> Any:
        try:
            return model.generate(prompt, max_tokens=48, temperature=0, constraint=constraint)
        except GrammarError as error:
            return error.message

    with ThreadPoolExecutor(len(models)) as pool:
        results = list(pool.map(one, models.values()))
    if isinstance(results[0], str):
        assert len(set(results)) == 1, results
        return None
    assert len({result.tokens for result in results}) == 1, (constraint, results)
    assert all(result.constraint for result in results)
    return results[0]


@pytest.mark.skipif(len(ENGINES) < 2, reason="parity needs two engines")
def test_schemas(models: Models) -> None:
    complete = 0
    for seed in range(COUNT):
        schema = random_schema(random.Random(seed))
        result = same_on_all(models, enginebay.JsonSchema(schema), "As JSON: ")
        if result and result.finish_reason == "stop":
            complete += 1
            jsonschema.Draft202012Validator(schema).validate(json.loads(result.text))
    assert complete > COUNT // 8


@pytest.mark.skipif(len(ENGINES) < 2, reason="parity needs two engines")
def test_regexes(models: Models) -> None:
    complete = 0
    for seed in range(COUNT * 2 // 5):
        pattern = random_regex(seed)
        result = same_on_all(models, enginebay.Regex(pattern), "Once upon a time")
        if result and result.finish_reason == "stop":
            complete += 1
            assert re.fullmatch(pattern, result.text), (pattern, result.text)
    assert complete > COUNT // 10


@pytest.mark.skipif(len(ENGINES) < 2, reason="parity needs two engines")
def test_grammars(models: Models) -> None:
    for seed in range(max(8, COUNT // 5)):
        same_on_all(models, enginebay.Gbnf(random_gbnf(seed)), "Once upon a time")
