"""What the catalogue ships, the chat template, and that unseen words are unseen. Engines are tested elsewhere."""

from __future__ import annotations

import itertools
import json
import re
import sys
from pathlib import Path
from typing import Any

import attrs
import pytest

from enginebay.chat import render
from enginebay_demo import models

TRAINING = Path(__file__).parent.parent / "training"
sys.path.insert(0, str(TRAINING))

from cases import ADD, WEATHER, answer  # noqa: E402
from generate import cases, correct, documents  # noqa: E402
from words import WORDS  # noqa: E402

PATHS = {artifact.format: artifact.path for artifact in models[0].artifacts}
TEMPLATE = json.loads((PATHS["mlx"] / "tokenizer_config.json").read_text())["chat_template"]


def test_three_artifacts_fit_in_16_megabytes() -> None:
    assert set(PATHS) == {"gguf", "mnn", "mlx"}
    files = [file for path in PATHS.values() for file in ([path] if path.is_file() else path.iterdir())]
    assert len(files) == 11
    assert sum(file.stat().st_size for file in files) <= 16_000_000


def test_the_formats_carry_one_template() -> None:
    assert (TRAINING / "template.jinja").read_text().strip() == TEMPLATE
    assert TEMPLATE.encode() in PATHS["gguf"].read_bytes()
    assert json.loads((PATHS["mnn"] / "llm_config.json").read_text())["jinja"]["chat_template"] == TEMPLATE


def test_template_with_tools_and_system() -> None:
    messages = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hello"}]
    assert render(TEMPLATE, messages, tools=[WEATHER, ADD]) == (
        "<|im_start|>system\nBe kind.\nTools: get_weather(city), add(a, b)<|im_end|>\n"
        "<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\n"
    )
    assert render(TEMPLATE, messages[1:]) == "<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\n"


@pytest.mark.parametrize("arguments", [{"city": "Oslo"}, '{"city": "Oslo"}'])
def test_a_conversation_only_grows(arguments: object) -> None:
    """What the model read and wrote stays a prefix, byte for byte: a tool call comes back as it was generated."""
    call = '<tool_call>{"name": "get_weather", "arguments": {"city": "Oslo"}}</tool_call>'
    asked = [{"role": "user", "content": "How is the weather in Oslo?"}]
    calls = [{"id": "1", "type": "function", "function": {"name": "get_weather", "arguments": arguments}}]
    told: list[dict[str, Any]] = [
        *asked,
        {"role": "assistant", "content": None, "tool_calls": calls},
        {"role": "tool", "content": "sunny"},
    ]
    first = render(TEMPLATE, asked, tools=[WEATHER])
    assert render(TEMPLATE, told, tools=[WEATHER]).startswith(f"{first}{call}<|im_end|>\n<|im_start|>tool\nsunny")


def test_unseen_words_are_not_in_the_training_text() -> None:
    text = "\n".join(
        document.text or "\n".join(message["content"] for message in document.messages or [])
        for document in itertools.islice(documents(2), 10_000)
    )
    words = set(re.findall(r"[^\W\d_]+", text))
    for unseen in (*WORDS["unseen_names"], *WORDS["unseen_cities"]):
        parts = re.findall(r"[^\W\d_]+", unseen)
        assert not words.issuperset(parts) or not re.search(rf"\b{re.escape(unseen)}\b", text), unseen
    assert not {number for number in map(int, re.findall(r"\d+", text)) if number >= 10 and number % 11 == 5}


@pytest.mark.parametrize("unseen", [False, True])
def test_the_checker_accepts_the_answer_and_nothing_else(unseen: bool) -> None:
    drawn = cases(7, unseen, 40)
    assert drawn == cases(7, unseen, 40)
    for case in drawn:
        assert correct(case, answer(case))
        assert not correct(case, answer(case) + " and more")
        assert not correct(attrs.evolve(case, expected={"name": "nobody"}), answer(case))
