"""Model files are hostile: what is wrong with one is said before native code reads it, and the process lives."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import llamacpp_mutants as mutants
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from llamacpp_samples import Open

from enginebay.errors import ModelLoadError
from enginebay_llamacpp.check import check_model


@pytest.mark.parametrize("name", ["llama", "spm", "embed", "bert", "mamba"])
def test_a_good_file_passes(models: Path, name: str) -> None:
    file = check_model(models / f"{name}.gguf")
    assert file.tokens
    assert 0 < file.weights_bytes < (models / f"{name}.gguf").stat().st_size


BAD = {
    "absent": (None, "No such file"),
    "empty": (b"", "it is empty"),
    "short": (b"GGUF", "past the end"),
    "a zip": (b"PK\x03\x04" + bytes(100), "begins with b'PK"),
    "a pickle": (b"\x80\x04\x95" + bytes(100), "begins with b'.x80"),
    "random bytes": (bytes(range(7, 250)) * 40, "not a GGUF file"),
    "version 1": (b"GGUF\x01\0\0\0" + bytes(64), "version 1"),
    "a billion keys": (b"GGUF\x03\0\0\0" + bytes(8) + (10**9).to_bytes(8, "little") + bytes(64), "1,000,000,000 keys"),
    "a billion tensors": (b"GGUF\x03\0\0\0" + (10**9).to_bytes(8, "little") + bytes(64), "1,000,000,000 tensors"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_file_is_a_load_error_that_says_what_to_do(tmp_path: Path, name: str) -> None:
    content, reason = BAD[name]
    path = tmp_path / "model.gguf"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ModelLoadError, match=reason) as caught:
        check_model(path)
    assert str(path) in caught.value.message
    assert caught.value.hint


def test_a_folder_is_not_a_model_but_may_hold_one(models: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelLoadError, match="is a folder") as caught:
        check_model(models)
    assert caught.value.hint == f"Give the file itself: {models / 'adapter.gguf'}"
    with pytest.raises(ModelLoadError, match="is a folder"):
        check_model(tmp_path)


def test_a_truncated_file_is_refused_wherever_it_ends(models: Path, tmp_path: Path) -> None:
    whole = (models / "llama.gguf").read_bytes()
    path = tmp_path / "cut.gguf"
    for end in [*range(5, len(whole), 997), len(whole) - 40]:
        path.write_bytes(whole[:end])
        with pytest.raises(ModelLoadError):
            check_model(path)


DAMAGE = {
    "llama.block_count": (4, 4_000_000, "block_count is 4,000,000"),
    "llama.attention.head_count": (4, 5, "5 heads do not divide a width of 64"),
    "llama.attention.head_count_kv": (4, 3, "3 heads of keys and values do not divide 2"),
    "llama.expert_used_count": (4, 9, "9 of 0 experts"),
    "llama.rope.scaling.type": (8, b"magic", "rope.scaling.type is 'magic'"),
    "llama.attention.layer_norm_rms_epsilon": (6, float("nan"), "epsilon is nan"),
    "tokenizer.ggml.eos_token_id": (4, 10**6, "1,000,000 and there are 265 tokens"),
    "tokenizer.ggml.model": (8, b"none", "no tokenizer"),
    "general.type": (8, b"mmproj", "vision projector"),
    "split.count": (4, 3, "one of 3 parts"),
}


@pytest.mark.parametrize("key", DAMAGE)
def test_numbers_that_do_not_fit_each_other_are_named(models: Path, tmp_path: Path, key: str) -> None:
    kind, value, reason = DAMAGE[key]
    document = mutants.Document((models / "llama.gguf").read_bytes())
    document.keys = [entry for entry in document.keys if entry[0] != key.encode()]
    document.keys.append((key.encode(), kind, value))
    path = tmp_path / "model.gguf"
    path.write_bytes(document.write())
    with pytest.raises(ModelLoadError, match=reason):
        check_model(path)


def test_tokens_are_unique_and_text(models: Path, tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    for wrong, reason in ((b"the", "a token twice"), (b"\xff\xfe", "not UTF-8")):
        document = mutants.Document((models / "llama.gguf").read_bytes())
        tokens = next(value for key, _, value in document.keys if key == b"tokenizer.ggml.tokens")
        tokens[1][5] = wrong
        path.write_bytes(document.write())
        with pytest.raises(ModelLoadError, match=reason):
            check_model(path)


def test_what_only_the_library_can_refuse_is_a_load_error_with_its_words(
    models: Path, tmp_path: Path, open_steps: Open
) -> None:
    from enginebay.data import LoadRequest
    from enginebay_llamacpp.steps import open_steps as open_request

    path = tmp_path / "model.gguf"
    path.write_bytes((models / "llama.gguf").read_bytes().replace(b"qwen2", b"qwen9"))
    with pytest.raises(ModelLoadError, match="unknown pre-tokenizer type: 'qwen9'") as caught:
        open_request(LoadRequest(path, "gguf"))
    assert caught.value.fields["log"]
    assert open_steps().encode("the", False)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_the_reader_raises_nothing_but_load_errors(
    models: Path, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    raw = bytearray((models / "llama.gguf").read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(4, 6_000))
        raw[at : at + 8] = data.draw(st.binary(min_size=8, max_size=8))
    path = tmp_path_factory.getbasetemp() / "damaged.gguf"
    path.write_bytes(raw)
    with contextlib.suppress(ModelLoadError):
        check_model(path)


def test_mutants_do_not_reach_native_code(models: Path, tmp_path: Path) -> None:
    """``ENGINEBAY_MUTANTS=1000`` makes that many of each kind, ``ENGINEBAY_GGUF`` of another file."""
    if sys.platform == "win32":
        pytest.skip("the test forks")
    count = os.environ.get("ENGINEBAY_MUTANTS", "120")
    base = os.environ.get("ENGINEBAY_GGUF", str(models / "llama.gguf"))
    done = subprocess.run(
        [sys.executable, mutants.__file__, base, str(tmp_path), count, count, "1"],
        capture_output=True,
        text=True,
        check=True,
    )
    total: Counter[tuple[str, bool]] = Counter()
    for kind, outcome, stopped, number in json.loads(done.stdout):
        total[outcome, stopped] += number
        sys.stdout.write(f"{kind}: {number} {outcome}, {'stopped by the check' if stopped else 'not stopped'}\n")
    deaths = total["died", True] + total["died", False]
    assert deaths > 0, "mutants that kill nothing prove nothing"
    assert total["died", True] >= 0.95 * deaths
    assert total["untyped", False] == 0
    assert total["fine", False] > 0
