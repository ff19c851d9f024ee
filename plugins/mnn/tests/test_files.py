"""Folders that are damaged, incomplete or hostile are refused in Python, with a typed error, before MNN reads them."""

from __future__ import annotations

import json
import os
import random
import shutil
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from mnn_mutants import Folder, mutants, read_folder, write_folder

from enginebay.errors import ModelLoadError
from enginebay_mnn.files import check_folder

MUTANTS = 500


@pytest.fixture
def good(models: Path) -> Folder:
    return read_folder(models / "mnn")


@pytest.fixture
def ask() -> Iterator[Callable[[str, Path], str]]:
    """``ask("native" | "checked", folder)``: how loading it in a process of its own ended."""
    if not hasattr(os, "fork"):
        pytest.skip("needs fork")
    script = Path(__file__).with_name("mnn_loads.py")
    with subprocess.Popen(
        [sys.executable, str(script)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as loads:
        assert loads.stdin is not None
        assert loads.stdout is not None

        def ask_it(how: str, path: Path) -> str:
            loads.stdin.write(f"{how} {path}\n")
            loads.stdin.flush()
            return loads.stdout.readline().strip()

        yield ask_it
        loads.stdin.close()


def refuse(folder: Folder, path: Path) -> ModelLoadError:
    write_folder(folder, path)
    with pytest.raises(ModelLoadError) as caught:
        check_folder(path)
    assert caught.value.hint
    assert str(path) in caught.value.message
    return caught.value


def edited(folder: Folder, name: str, **changes: Any) -> Folder:
    """The folder with keys of a JSON file changed, or taken out where the value is ``...``."""
    document = {**json.loads(folder[name]), **changes}
    return {**folder, name: json.dumps({k: v for k, v in document.items() if v is not ...}).encode()}


@pytest.mark.parametrize("name", ["llm.mnn", "llm.mnn.weight", "tokenizer.mtok", "llm_config.json"])
@pytest.mark.parametrize("damage", ["missing", "empty", "half", "random", "zeros", "a folder"])
def test_damaged_file_is_named(good: Folder, tmp_path: Path, name: str, damage: str) -> None:
    data = good.pop(name)
    if damage == "random" and name == "llm.mnn.weight":
        pytest.skip("weights may have any value")
    changed = {"empty": b"", "half": data[: len(data) // 2], "random": random.Random(1).randbytes(len(data))}
    changed["zeros"] = bytes(len(data) - 1)
    if damage in changed:
        good[name] = changed[damage]
    path = tmp_path / "model"
    if damage == "a folder":
        (path / name).mkdir(parents=True)
        for other, content in good.items():
            (path / other).write_bytes(content)
        with pytest.raises(ModelLoadError, match=name):
            check_folder(path)
    else:
        assert name in refuse(good, path).message


def test_path_that_is_no_folder(tmp_path: Path) -> None:
    for path in (tmp_path / "missing", tmp_path / "file.gguf"):
        if path.suffix:
            path.write_bytes(b"GGUF")
        with pytest.raises(ModelLoadError, match="not a folder"):
            check_folder(path)


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("config.json", {"llm_model": "../llm.mnn"}),
        ("config.json", {"llm_weight": "/etc/passwd"}),
        ("config.json", {"llm_weight": "C:\\llm.mnn.weight"}),
        ("config.json", {"tokenizer_file": "sub/tokenizer.mtok"}),
        ("config.json", {"tokenizer_file": ""}),
        ("config.json", {"llm_model": ["llm.mnn"]}),
        ("config.json", {"base_dir": "/tmp/"}),
        ("config.json", {"llm_config": "/tmp/llm_config.json"}),
        ("llm_config.json", {"hidden_size": 0}),
        ("llm_config.json", {"hidden_size": 161}),
        ("llm_config.json", {"hidden_size": "160"}),
        ("llm_config.json", {"hidden_size": ...}),
        ("llm_config.json", {"layer_nums": 1 << 40}),
        ("llm_config.json", {"attention_mask": "glm"}),
        ("llm_config.json", {"attn_scale": "high"}),
        ("llm_config.json", {"is_visual": True}),
        ("llm_config.json", {"ple_embed_file": "x.bin"}),
        ("llm_config.json", {"tie_embeddings": [1 << 40, 0, 0, 16, 64]}),
        ("llm_config.json", {"tie_embeddings": [0, 0, 0, 3, 64]}),
        ("llm_config.json", {"tie_embeddings": ...}),
    ],
)
def test_hostile_configuration(good: Folder, tmp_path: Path, name: str, changes: dict[str, Any]) -> None:
    refuse(edited(good, name, **changes), tmp_path / "model")


def test_link_out_of_the_folder(good: Folder, tmp_path: Path) -> None:
    weights = good.pop("llm.mnn.weight")
    (tmp_path / "elsewhere").write_bytes(weights)
    write_folder(good, tmp_path / "model")
    (tmp_path / "model" / "llm.mnn.weight").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ModelLoadError, match="leads out of the folder"):
        check_folder(tmp_path / "model")


def test_layout_of_the_hub_cache(good: Folder, tmp_path: Path) -> None:
    write_folder(good, tmp_path / "blobs")
    snapshot = tmp_path / "snapshots" / "0123"
    snapshot.mkdir(parents=True)
    for name in good:
        (snapshot / name).symlink_to(Path("../../blobs") / name)
    assert check_folder(snapshot).weights == tmp_path.resolve() / "blobs" / "llm.mnn.weight"


def test_graph_may_not_name_files(good: Folder, tmp_path: Path) -> None:
    """An operation with ``externalPath`` would make MNN open any file: the field is added to one here."""
    data = bytearray(good["llm.mnn"])
    while len(data) % 8:
        data.append(0)
    root = struct.unpack_from("<I", data)[0]
    vtable = root - struct.unpack_from("<i", data, root)[0]
    operations = root + struct.unpack_from("<H", data, vtable + 4 + 2 * 3)[0]
    vector = operations + struct.unpack_from("<I", data, operations)[0]
    entry = len(data)
    path = b"/etc/passwd"
    # A new first operation: a vtable with all eight fields, of which only externalPath is set, its table, and the text.
    data += struct.pack("<10H", 20, 8, *[0] * 7, 4) + bytes(4)
    table = entry + 24
    data += struct.pack("<iI", table - entry, 4) + struct.pack("<I", len(path)) + path + b"\0"
    struct.pack_into("<I", data, vector + 4, table - (vector + 4))
    good["llm.mnn"] = bytes(data)
    assert "names a file" in refuse(good, tmp_path / "model").message


def test_strange_folder_names_load(good: Folder, tmp_path: Path, open_model: Callable[..., Any]) -> None:
    path = tmp_path / 'a "quoted" mödel - 模型\'s'
    write_folder(good, path)
    assert open_model(path=path, sequences=2).encode("a", False)


def test_check_takes_milliseconds(models: Path) -> None:
    check_folder(models / "mnn")
    start = time.perf_counter()
    check_folder(models / "mnn")
    assert time.perf_counter() - start < 1, "a tiny folder took a second; a large one would take minutes"


def test_mutants(good: Folder, tmp_path: Path, ask: Callable[[str, Path], str]) -> None:
    """No mutant does more than fail with a typed error, and the check stops what kills MNN's own loader."""
    killed = survived = 0
    untyped = []
    for number, (label, mutant) in enumerate(mutants(good, MUTANTS, seed=20)):
        path = tmp_path / str(number)
        write_folder(mutant, path)
        native, checked = ask("native", path), ask("checked", path)
        shutil.rmtree(path)
        if native.startswith("died"):
            killed += 1
            survived += not checked.startswith("refused")
        if checked.startswith("failed"):
            untyped.append((label, checked))
    assert untyped == []
    assert killed >= 20, "the mutants are too tame to prove anything"
    assert survived <= 0.05 * killed
    write_folder(good, tmp_path / "good")
    assert ask("checked", tmp_path / "good") == "works"
