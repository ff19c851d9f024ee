"""Which folders are read, which are refused and why, and that the check stops what would kill the loader."""

from __future__ import annotations

import json
import pickle
import random
import shutil
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from mlx_mutants import join, mutate, small, split

from enginebay.data import LoadRequest
from enginebay.errors import ModelLoadError, OutOfMemory
from enginebay_mlx import plugin
from enginebay_mlx.files import check_folder
from enginebay_mlx.library import owner
from enginebay_mlx.sizes import plan
from enginebay_mlx.steps import open_steps
from enginebay_mlx.tokenizer import FolderTokenizer

MUTANTS = 500
LOADER = Path(__file__).parent / "mlx_load.py"
Make = Callable[..., Path]


def edit(folder: Path, name: str, **changes: Any) -> None:
    path = folder / name
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def reweigh(folder: Path, change: Callable[[dict[str, Any], bytes], tuple[Any, bytes]]) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(join(*change(*split(path.read_bytes()))))


def damage(**entry: Any) -> Callable[[Path], None]:
    """Replaces parts of one tensor's entry in the header."""

    def change(header: dict[str, Any], data: bytes) -> tuple[Any, bytes]:
        header["model.norm.weight"] |= entry
        return header, data

    return lambda folder: reweigh(folder, change)


class Boom:
    def __reduce__(self) -> tuple[Any, ...]:
        return (exit, ("a pickle was run",))


BAD: dict[str, tuple[Callable[[Path], object], str]] = {
    "no config": (lambda f: (f / "config.json").unlink(), "no config.json"),
    "empty config": (lambda f: (f / "config.json").write_text(""), "not valid JSON"),
    "config of noise": (lambda f: (f / "config.json").write_bytes(random.Random(1).randbytes(999)), "not UTF-8"),
    "config too deep": (lambda f: (f / "config.json").write_text("[" * 200_000), "not valid JSON"),
    "config is a list": (lambda f: (f / "config.json").write_text("[]"), "not a JSON object"),
    "config with a giant number": (lambda f: (f / "config.json").write_text('{"a": ' + "9" * 9999 + "}"), "not valid"),
    "no layers": (lambda f: edit(f, "config.json", num_hidden_layers=0), "0 layers"),
    "a billion layers": (lambda f: edit(f, "config.json", num_hidden_layers=10**9), "at most 1,024"),
    "more layers than weights": (lambda f: edit(f, "config.json", num_hidden_layers=5), "weights for 4 layers"),
    "heads that do not divide": (lambda f: edit(f, "config.json", num_key_value_heads=3), "5 attention heads"),
    "another width": (lambda f: edit(f, "config.json", hidden_size=192), "shape"),
    "unknown architecture": (lambda f: edit(f, "config.json", model_type="no_such_model"), "architecture"),
    "architecture that is a helper": (lambda f: edit(f, "config.json", model_type="cache"), "architecture"),
    "architecture that is a path": (lambda f: edit(f, "config.json", model_type="../../evil"), "model_type"),
    "code of its own": (lambda f: edit(f, "config.json", model_file="evil.py"), "Python code"),
    "no weights": (lambda f: (f / "model.safetensors").unlink(), "no model.safetensors"),
    "empty weights": (lambda f: (f / "model.safetensors").write_bytes(b""), "0 bytes"),
    "truncated weights": (
        lambda f: (f / "model.safetensors").write_bytes((f / "model.safetensors").read_bytes()[:-5]),
        "bytes of data|outside the file",
    ),
    "weights of noise": (
        lambda f: (f / "model.safetensors").write_bytes(random.Random(2).randbytes(99999)),
        "no safet",
    ),
    "weights that are a pickle": (lambda f: (f / "model.safetensors").write_bytes(pickle.dumps(Boom())), "pickle"),
    "weights that are a zip": (lambda f: (f / "model.safetensors").write_bytes(b"PK\x03\x04" + b"\0" * 99), "zip"),
    "weights that are GGUF": (lambda f: (f / "model.safetensors").write_bytes(b"GGUF" + b"\3" * 99), "GGUF"),
    "a tensor beyond the end": (damage(data_offsets=[0, 1 << 60]), "outside the file"),
    "a tensor over another": (damage(data_offsets=[0, 640]), "overlap"),
    "a shape that does not fit": (damage(shape=[161]), "does not fill"),
    "a negative shape": (damage(shape=[-160]), "impossible shape"),
    "an unknown type": (damage(dtype="F128"), "unknown type"),
    "weights that are not numbers": (
        lambda f: reweigh(f, lambda header, data: (header, b"\xff" * len(data))),
        "not a number",
    ),
    "an index of a missing file": (
        lambda f: (f / "model.safetensors.index.json").write_text('{"weight_map": {"a": "model-9.safetensors"}}'),
        "model-9.safetensors",
    ),
    "weights elsewhere": (
        lambda f: (f / "model.safetensors").rename(f.parent / "x") and (f / "model.safetensors").symlink_to("../x"),
        "out of the folder",
    ),
    "no tokenizer": (lambda f: (f / "tokenizer.json").unlink(), "no tokenizer.json"),
    "empty tokenizer": (lambda f: (f / "tokenizer.json").write_text(""), "tokenizer.json"),
    "tokenizer of noise": (lambda f: (f / "tokenizer.json").write_text("{" * 99), "tokenizer.json"),
    "tokenizer of another model": (lambda f: edit(f, "config.json", vocab_size=500), "768 tokens"),
    "an end token that is none": (lambda f: edit(f, "generation_config.json", eos_token_id=10**6), "end token"),
}


@pytest.mark.parametrize("change", BAD.values(), ids=BAD)
def test_a_bad_folder_is_refused_with_its_reason(copy: Make, change: tuple[Callable[[Path], object], str]) -> None:
    folder = copy()
    change[0](folder)
    with pytest.raises(ModelLoadError, match=change[1]) as caught:
        plugin.load(LoadRequest(folder, "mlx"))
    assert caught.value.hint


@pytest.mark.parametrize("name", ["nothing", "file"])
def test_what_is_no_folder_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(ModelLoadError, match="folder") as caught:
        plugin.load(LoadRequest(tmp_path / name, "mlx"))
    assert caught.value.hint


def convert(folder: Path, dtype: str) -> None:
    def work() -> None:
        import mlx.core as mx

        path = str(folder / "model.safetensors")
        mx.save_safetensors(path, {name: a.astype(getattr(mx, dtype)) for name, a in mx.load(path).items()})

    owner().call(work)


def shard(folder: Path) -> None:
    header, data = split((folder / "model.safetensors").read_bytes())
    header.pop("__metadata__", None)
    places = {name: entry["data_offsets"] for name, entry in header.items()}
    files: dict[str, str] = {}
    for part, names in enumerate((sorted(header)[:9], sorted(header)[9:])):
        body, entries = b"", {}
        for name in names:
            begin, end = places[name]
            entries[name] = header[name] | {"data_offsets": [len(body), len(body) + end - begin]}
            body += data[begin:end]
            files[name] = f"model-{part}.safetensors"
        (folder / f"model-{part}.safetensors").write_bytes(join(entries, body))
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": files}))


def link_from_hub(folder: Path) -> None:
    """The layout of the hub's cache: a snapshot of links into ``blobs``."""
    blobs, snapshot = folder.parent / "blobs", folder.parent / "snapshots" / "abc"
    shutil.copytree(folder, blobs)
    snapshot.mkdir(parents=True)
    for file in blobs.iterdir():
        (snapshot / file.name).symlink_to(f"../../blobs/{file.name}")
    shutil.rmtree(folder)
    folder.symlink_to(snapshot)


def pad_header(folder: Path) -> None:
    """A header of exactly 0x..0280 bytes: the file then begins with the bytes that a pickle begins with."""
    header, data = split((folder / "model.safetensors").read_bytes())
    text = json.dumps(header).encode()
    length = (len(text) | 0xFFFF) + 1 + 0x0280
    (folder / "model.safetensors").write_bytes(length.to_bytes(8, "little") + text.ljust(length) + data)


GOOD: dict[str, Callable[[Path], object]] = {
    "as it is": lambda f: None,
    "bfloat16": lambda f: convert(f, "bfloat16"),
    "float16": lambda f: convert(f, "float16"),
    "two files with an index": shard,
    "links of the hub's cache": link_from_hub,
    "a header length like a pickle": pad_header,
    "other files beside it": lambda f: (f / "pytorch_model.bin").write_bytes(pickle.dumps(Boom())),
    "auto_map that names code": lambda f: (
        edit(f, "config.json", auto_map={"AutoModel": "evil.Model"}),
        edit(f, "tokenizer_config.json", auto_map={"AutoTokenizer": ["evil.Tokenizer", None]}),
        (f / "evil.py").write_text("raise SystemExit('code of a model folder was run')"),
    ),
    "no optional files": lambda f: (
        (f / "generation_config.json").unlink(),
        (f / "tokenizer_config.json").unlink(),
    ),
    "unknown keys": lambda f: edit(f, "config.json", window_size=-1, num_extra_layers=None, some_list=[1, "a"]),
}


@pytest.mark.parametrize("change", GOOD.values(), ids=GOOD)
def test_a_good_folder_is_read(copy: Make, change: Callable[[Path], object]) -> None:
    folder = copy()
    change(folder)
    model = plugin.load(LoadRequest(folder, "mlx"))
    try:
        assert plugin.health(model).healthy
    finally:
        model.close()


@pytest.mark.skipif(not Path("/proc/self/io").exists(), reason="this system does not count what a process reads")
def test_only_the_header_of_the_weights_is_read(copy: Make) -> None:
    """A file of eight gigabytes, sparse."""
    folder = copy()
    header, data = split((folder / "model.safetensors").read_bytes())
    count = 1 << 31
    header["filler"] = {"dtype": "F32", "shape": [2, count // 2], "data_offsets": [len(data), len(data) + 4 * count]}
    path = folder / "model.safetensors"
    path.write_bytes(join(header, data))
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size + 4 * count)
    before = bytes_read()
    checked = check_folder(folder)
    assert bytes_read() - before < 1 << 20
    estimate = plan(checked, LoadRequest(folder, "mlx")).estimate
    assert estimate.weights_bytes == 4 * count + len(data)


def bytes_read() -> int:
    return int(Path("/proc/self/io").read_text().split()[1])


def test_a_model_that_does_not_fit_is_refused_before_it_is_read(copy: Make) -> None:
    checked = check_folder(copy())
    request = LoadRequest(checked.path, "mlx", context_tokens=1 << 24)
    planned = plan(checked, request)
    assert planned.estimate.cache_bytes == (1 << 24) * 2 * 4 * 160 * 4
    with pytest.raises(OutOfMemory, match="cache of one whole context"):
        open_steps(request)


def outcome(folders: list[Path], *arguments: str) -> list[str]:
    """How loading each of them ends, by two processes."""
    command = [sys.executable, str(LOADER), *arguments]

    def run(part: list[Path]) -> list[str]:
        lines = "".join(f"{folder}\n" for folder in part)
        return subprocess.run(command, input=lines, capture_output=True, text=True, check=True).stdout.splitlines()

    middle = len(folders) // 2
    with ThreadPoolExecutor(2) as pool:
        return [end for ends in pool.map(run, (folders[:middle], folders[middle:])) for end in ends]


@pytest.mark.skipif(sys.platform != "linux", reason="the limits on a forked process are those of Linux")
def test_what_kills_the_loader_is_refused_before(tmp_path: Path) -> None:
    """500 damaged folders, each loaded in a process of its own: without the check some take all memory or hang.

    The check refuses all of those, and what it lets through works or is refused with an error of the tree.
    """
    good = small(tmp_path / "good")
    assert outcome([good, good]) == outcome([good, good], "--checked") == ["ok", "ok"]
    folders = [tmp_path / str(number) for number in range(MUTANTS)]
    for number, folder in enumerate(folders):
        mutate(random.Random(number), good, folder)
    passed = [folder for folder in folders if passes(folder)]
    assert MUTANTS * 0.1 < len(passed) < MUTANTS * 0.6
    natively = outcome(folders)
    killed = [folder for folder, end in zip(folders, natively, strict=True) if end.startswith("killed")]
    assert killed
    assert not set(killed) & set(passed)
    checked = outcome(passed, "--checked")
    assert set(checked) <= {"ok", "refused"}
    assert checked.count("ok") > 20


def passes(folder: Path) -> bool:
    try:
        FolderTokenizer(check_folder(folder))
    except ModelLoadError:
        return False
    return True
