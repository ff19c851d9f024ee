"""Answers that are computed another way, to compare an engine's with. Nothing here calls what it judges."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from enginebay.data import TokenLogprob
from enginebay.model import Model

Ranked = Sequence[tuple[int, float]]


def text_of(model: Model, tokens: Sequence[int]) -> str:
    """The text of tokens from their bytes: all at once, end tokens left out."""
    plain = [token for token in tokens if token not in model.info.end_tokens]
    return model.detokenize(plain).decode("utf-8", "replace")


def clear_cut(ranked: Ranked, most: int = 20) -> int:
    """How many of the likeliest tokens to keep, so that the last is likely, and clearly likelier than the next.

    0 where there is no such place.
    """
    likely = sum(logprob > math.log(1e-4) for _, logprob in ranked[:-1])
    gaps = [(ranked[k - 1][1] - ranked[k][1], k) for k in range(2, min(most, likely) + 1)]
    gap, k = max(gaps, default=(0.0, 0))
    return k if gap > 0.01 else 0


def softmax(ranked: Ranked, temperature: float) -> dict[int, float]:
    """Probabilities of these tokens and no others at a temperature, from log-probabilities at temperature 1."""
    weights = {token: math.exp(logprob / temperature) for token, logprob in ranked}
    total = sum(weights.values())
    return {token: weight / total for token, weight in weights.items()}


def unlikely_counts(drawn: Sequence[int], expected: Mapping[int, float]) -> dict[int, tuple[int, float]]:
    """Tokens that were drawn five standard deviations more or less often than expected: (times, expected times)."""
    n, counts = len(drawn), Counter(drawn)
    strange = {token: (counts[token], 0.0) for token in counts if token not in expected}
    for token, p in expected.items():
        if abs(counts[token] - n * p) > 5 * math.sqrt(n * p * (1 - p)) + 1:
            strange[token] = (counts[token], n * p)
    return strange


def penalised(entry: TokenLogprob, before: Sequence[int], frequency: float, presence: float) -> dict[int, float]:
    """Scores of the reported alternatives after frequency and presence penalties over the tokens before."""
    counts = Counter(before)
    return {token: logprob - frequency * counts[token] - presence * (counts[token] > 0) for token, logprob in entry.top}


PERSON_SCHEMA: Mapping[str, Any] = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 8},
        "age": {"type": "integer", "minimum": 0, "maximum": 150},
        "pets": {"type": "array", "items": {"enum": ["cat", "dog"]}, "maxItems": 2},
    },
    "required": ["name", "age", "pets"],
    "additionalProperties": False,
}


def is_person(text: str) -> bool:
    """Whether a text is JSON that ``PERSON_SCHEMA`` describes, checked by hand."""
    value = json.loads(text)
    return (
        isinstance(value, dict)
        and set(value) == {"name", "age", "pets"}
        and isinstance(value["name"], str)
        and len(value["name"]) <= 8
        and type(value["age"]) is int
        and 0 <= value["age"] <= 150
        and isinstance(value["pets"], list)
        and len(value["pets"]) <= 2
        and all(pet in ("cat", "dog") for pet in value["pets"])
    )
