"""The same weights give the same tokens on every engine, and the tokens of a reference that is not ours."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from engines import ENGINES, PROMPTS

import enginebay
from enginebay.catalogue import load_catalogue

pytestmark = pytest.mark.skipif(len(ENGINES) < 2, reason="parity needs two engines")
Models = dict[str, enginebay.Model]


def folder_of(form: str) -> Path:
    artifacts = load_catalogue().models["demo"].artifacts
    return next(artifact.path for artifact in artifacts if artifact.format == form)


@pytest.mark.parametrize("prompt", PROMPTS)
def test_tokenization_is_the_same(models: Models, prompt: str) -> None:
    for special in (True, False):
        ids = {name: model.tokenize(prompt, special=special) for name, model in models.items()}
        assert len({tuple(value) for value in ids.values()}) == 1, ids
        for model in models.values():
            assert model.detokenize(ids[model.info.engine]) == prompt.encode()


@pytest.mark.parametrize("prompt", PROMPTS)
def test_greedy_tokens_are_the_same(models: Models, prompt: str) -> None:
    results = {name: model.generate(prompt, max_tokens=200, temperature=0) for name, model in models.items()}
    assert len({result.tokens for result in results.values()}) == 1, results


@pytest.mark.parametrize("prompt", PROMPTS)
def test_seeded_samples_are_the_same(models: Models, prompt: str) -> None:
    results = {name: m.generate(prompt, max_tokens=100, temperature=0.8, seed=7) for name, m in models.items()}
    assert len({result.tokens for result in results.values()}) == 1, results


def test_eight_at_a_time_are_as_alone(models: Models) -> None:
    jobs = [(prompt, seed) for seed, prompt in enumerate(PROMPTS[:8])]

    def run(model: enginebay.Model, prompt: str, seed: int) -> tuple[int, ...]:
        return model.generate(prompt, max_tokens=60, temperature=0.8, seed=seed).tokens

    seen = set()
    for model in models.values():
        alone = tuple(run(model, prompt, seed) for prompt, seed in jobs)
        with ThreadPoolExecutor(8) as pool:
            together = tuple(pool.map(lambda job, model=model: run(model, *job), jobs))
        assert together == alone
        seen.add(alone)
    assert len(seen) == 1


def test_constrained_tokens_are_the_same(models: Models) -> None:
    schema = enginebay.JsonSchema(
        {
            "type": "object",
            "properties": {"name": {"type": "string", "maxLength": 12}, "age": {"type": "integer", "minimum": 0}},
            "required": ["name", "age"],
            "additionalProperties": False,
        }
    )
    for constraint in (schema, enginebay.Regex("[a-f]{3}-[0-9]{2,5}"), enginebay.Choice(("yes", "no", "perhaps"))):
        results = {
            name: model.generate("Mia is 7. As JSON:", max_tokens=60, temperature=0, constraint=constraint)
            for name, model in models.items()
        }
        assert len({result.tokens for result in results.values()}) == 1, results
        assert {result.finish_reason for result in results.values()} == {"stop"}


def test_greedy_tokens_equal_the_reference(models: Models) -> None:
    """Transformers, in float32 on the same weights: 20 prompts, 64 tokens."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    folder = folder_of("mlx")
    reference = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    model = next(iter(models.values()))
    names = ("Ben", "Ida", "Noor", "Otto", "Pia", "Quinn", "Rosa", "Sam", "Uma")
    prompts = [*PROMPTS, *(f"Once upon a time there was a child named {name}." for name in names)]
    assert len(prompts) == 20
    for prompt in prompts:
        ids = model.tokenize(prompt)
        with torch.no_grad():
            output = reference.generate(
                torch.tensor([ids]), attention_mask=torch.ones(1, len(ids)), max_new_tokens=64, do_sample=False
            )[0]
        expected = tuple(output[len(ids) :].tolist())
        for name, engine in models.items():
            assert engine.generate(ids, max_tokens=64, temperature=0).tokens == expected, (name, prompt)
