"""What the author of a configuration or a request reads when something is wrong; and that wires lose nothing."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import pytest
from attrs import evolve, field, frozen
from hypothesis import given
from hypothesis import strategies as st

from enginebay import data
from enginebay.data import bounded
from enginebay.errors import ConfigError, RequestError
from enginebay.structure import structure, unstructure


@frozen
class Inner:
    size: float = field(default=1.0, validator=bounded(0, 10))


@frozen
class Options:
    mmap: bool = True
    threads: int | None = field(default=None, validator=bounded(1, 100))
    preset: Literal["exact", "fast"] = "exact"
    lora: tuple[Path, ...] = ()
    batch: int | Literal["auto"] = "auto"
    pair: tuple[int, float] = (0, 0.0)
    names: frozenset[str] = frozenset()
    bias: Mapping[int, float] = field(factory=dict)
    inner: tuple[Inner, ...] = ()


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"mmap": 1}, "expected bool, got int at engines.x.mmap"),
        ({"mmap": None}, "expected bool, got null at engines.x.mmap"),
        ({"mmpa": True}, "unknown key mmpa; did you mean mmap? at engines.x"),
        ({"threads": 8.9}, "expected int, got float at engines.x.threads"),
        ({"threads": 8.0}, "expected int, got float at engines.x.threads"),
        ({"threads": True}, "expected int, got bool at engines.x.threads"),
        ({"threads": "8"}, "expected int, got '8' at engines.x.threads"),
        ({"threads": 0}, "expected 1 to 100, got 0 at engines.x.threads"),
        ({"preset": "slow"}, "expected 'exact' or 'fast', got 'slow' at engines.x.preset"),
        ({"lora": "abc"}, "expected list, got 'abc' at engines.x.lora"),
        ({"lora": ["a", 1]}, "expected path, got int at engines.x.lora[1]"),
        ({"batch": "many"}, "expected int or 'auto', got 'many' at engines.x.batch"),
        ({"pair": [1]}, "expected 2 values, got 1 at engines.x.pair"),
        ({"names": {"a": 1}}, "expected list, got table at engines.x.names"),
        ({"bias": {"x": 1}}, "expected int, got 'x' at engines.x.bias.x"),
        ({"bias": {"1": "high"}}, "expected float, got 'high' at engines.x.bias.1"),
        ({"inner": [{}, {"size": 10.5}]}, "expected 0 to 10, got 10.5 at engines.x.inner[1].size"),
        ({"inner": [3]}, "expected table, got int at engines.x.inner[0]"),
        ([], "expected table, got list at engines.x"),
    ],
)
def test_a_wrong_value_is_named_with_its_path(value: Any, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        structure(value, Options, error=ConfigError, where="engines.x")
    assert caught.value.message == message


def test_all_that_is_wrong_is_said_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        structure({"mmap": 1, "preset": 2, "nonsense": 3}, Options, error=ConfigError)
    assert [problem["path"] for problem in caught.value.fields["problems"]] == ["mmap", "preset", ""]


def test_right_values_keep_their_type() -> None:
    value = {"threads": 8, "lora": ["a/b"], "batch": 3, "pair": [1, 2], "names": ["b", "a"], "bias": {"7": 1}}
    options = structure(value, Options, error=ConfigError)
    assert options == Options(
        threads=8, lora=(Path("a/b"),), batch=3, pair=(1, 2.0), names=frozenset("ab"), bias={7: 1.0}
    )
    assert type(options.pair[1]) is float
    assert type(options.bias[7]) is float


def test_a_missing_value_is_named() -> None:
    with pytest.raises(RequestError, match=r"expected a value, got nothing at request\.prompt"):
        structure({}, data.GenerateRequest, error=RequestError, where="request")


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"kind": "regexp", "pattern": "a"}, r"expected a kind of constraint \(json_schema, .*\), got 'regexp'"),
        ({"pattern": "a"}, "got None at constraint"),
        ({"kind": "regex", "pattern": 1}, "expected string, got int at constraint.pattern"),
        ({"kind": "regex", "pattern": "a", "flags": "i"}, "unknown key flags"),
        ({"kind": "json_schema", "schema": 3}, "expected table or bool, got int at constraint.schema"),
        ("a+", "expected table, got string at constraint"),
    ],
)
def test_a_constraint_is_tagged_by_its_kind(value: Any, message: str) -> None:
    with pytest.raises(RequestError, match=message):
        structure({"prompt": [1], "constraint": value}, data.GenerateRequest, error=RequestError)


# --- round trips ------------------------------------------------------------------------------------------------------

ints = st.integers(0, 1000)
reals = st.floats(0, 1)
texts = st.text(max_size=8)
tokens = st.lists(ints, max_size=4).map(tuple)
schemas = st.booleans() | st.dictionaries(
    texts, st.recursive(st.none() | ints | texts, st.lists, max_leaves=3), max_size=3
)
constraints = (
    st.builds(data.JsonSchema, schemas, st.booleans())
    | st.builds(data.JsonObject)
    | st.builds(data.Regex, texts)
    | st.builds(data.Gbnf, texts)
    | st.builds(data.Lark, texts)
    | st.builds(data.Choice, st.lists(texts, max_size=3).map(tuple))
    | st.builds(data.Rules, texts, st.dictionaries(texts, st.lists(texts, max_size=3).map(tuple), max_size=3))
)
samplings = st.builds(
    data.Sampling,
    temperature=reals,
    top_k=ints,
    top_p=reals,
    logit_bias=st.dictionaries(ints, reals, max_size=3),
    seed=st.none() | st.integers(0, 2**64 - 1),
)
requests = st.builds(
    data.GenerateRequest,
    prompt=tokens,
    max_tokens=st.none() | st.integers(1, 1000),
    sampling=samplings,
    stop=st.lists(st.text(min_size=1, max_size=8), max_size=3).map(tuple),
    constraint=st.none() | constraints,
    logprobs=st.none() | st.integers(0, 100),
    context=st.sampled_from(["error", "shift"]),
    timeout_seconds=st.none() | st.floats(1, 100),
    resume=tokens,
    request_id=texts,
)
finishes = st.builds(
    data.Finish,
    reason=st.sampled_from(["stop", "length", "cancelled", "tool_calls"]),
    usage=st.builds(data.Usage, ints, ints, ints),
    timings=st.builds(data.Timings, reals, reals, reals, reals, reals, reals),
    stop=st.none() | texts,
    constraint=st.none() | st.builds(data.AppliedConstraint, texts, texts, st.lists(texts, max_size=2).map(tuple)),
)
logprobs = st.builds(data.TokenLogprob, ints, reals, st.lists(st.tuples(ints, reals), max_size=3).map(tuple))
chunks = st.builds(data.Chunk, texts, tokens, st.lists(logprobs, max_size=2).map(tuple), st.none() | finishes)
capabilities = st.frozensets(st.sampled_from(["detokenize", "grammar", "seed"]))
infos = st.builds(
    data.ModelInfo,
    engine=texts,
    path=st.just(Path("/models/a b.gguf")),
    format=texts,
    context_tokens=ints,
    sequences=ints,
    vocabulary_tokens=ints,
    vocabulary_fingerprint=texts,
    end_tokens=st.frozensets(ints, max_size=3),
    prefix_tokens=tokens,
    chat_template=st.none() | texts,
    special_text=st.dictionaries(texts, texts, max_size=2),
    capabilities=capabilities,
)
devices = st.builds(data.Device, texts, st.sampled_from(["cpu", "gpu"]), st.none() | ints)
healths = st.builds(
    data.Health, st.booleans(), texts, reason=st.none() | texts, devices=st.tuples(devices), capabilities=capabilities
)


@given(requests | chunks | infos | healths | finishes)
def test_what_crosses_a_wire_comes_back_equal(value: Any) -> None:
    wire = json.loads(json.dumps(unstructure(value)))
    assert structure(wire, type(value), error=RequestError) == value


def test_a_load_request_crosses_without_its_options() -> None:
    request = data.LoadRequest(Path("/m.gguf"), "gguf", options=Options(threads=2), context_tokens=64)
    wire = json.loads(json.dumps(unstructure(request)))
    options = structure(wire.pop("options"), Options, error=RequestError)
    assert evolve(structure(wire, data.LoadRequest, error=RequestError), options=options) == request
