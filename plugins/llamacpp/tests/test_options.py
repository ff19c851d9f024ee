"""Options, adapters, memory and health: what a user sets takes effect, or is refused by name."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from llamacpp_samples import Open

from enginebay.data import LoadRequest
from enginebay.decode.protocol import Feed
from enginebay.errors import ConfigError, ModelLoadError, OutOfMemory
from enginebay.structure import structure
from enginebay_llamacpp import plugin
from enginebay_llamacpp.amx import faulty_gcc
from enginebay_llamacpp.check import check_model
from enginebay_llamacpp.options import Adapter, Options
from enginebay_llamacpp.sizes import plan


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"threads": 0}, "threads"),
        ({"threads": -1}, "threads"),
        ({"threads": 10**9}, "threads"),
        ({"batch_threads": 1.5}, "batch_threads"),
        ({"gpu_layers": -5}, "gpu_layers"),
        ({"batch_tokens": 0}, "batch_tokens"),
        ({"batch_tokens": 10**12}, "batch_tokens"),
        ({"mmap": "yes"}, "mmap"),
        ({"cache_type": "q1"}, "cache_type"),
        ({"cache_type": "q8_0", "flash_attention": False}, "cache_type"),
        ({"adapters": [{"path": "x.gguf", "scale": float("nan")}]}, "scale"),
        ({"adapters": [{"scale": 1.0}]}, "path"),
        ({"temperature": 1}, "temperature"),
    ],
)
def test_a_wrong_option_is_refused_by_name(given: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        structure(given, Options, error=ConfigError)


def test_options_come_from_plain_data() -> None:
    given = {"threads": 2, "cache_type": "f16", "adapters": [{"path": "a.gguf", "scale": 0.5}]}
    expected = Options(threads=2, cache_type="f16", adapters=(Adapter(Path("a.gguf"), 0.5),))
    assert structure(given, Options, error=ConfigError) == expected


@pytest.mark.parametrize(
    "options",
    [
        Options(threads=1, batch_threads=2),
        Options(mmap=False),
        Options(mmap=False, mlock=True),
        Options(mmap=True),
        Options(mmap=True, mlock=True),
        Options(batch_tokens=7),
    ],
)
def test_an_option_of_speed_does_not_change_a_logit(open_steps: Open, options: Options) -> None:
    wanted = open_steps().step([Feed(0, [1, 2, 3])])
    np.testing.assert_allclose(open_steps("llama", options).step([Feed(0, [1, 2, 3])]), wanted, atol=2e-4)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("scarce", ["", "available_bytes", "private_limit_bytes"])
def test_weights_are_read_into_memory_while_there_is_enough(
    open_steps: Open, models: Path, monkeypatch: pytest.MonkeyPatch, scarce: str
) -> None:
    from enginebay import memory

    model = models / "llama.gguf"
    needed = plan(check_model(model), LoadRequest(model, "gguf"), Options()).estimate.total_bytes
    for figure in ("available_bytes", "private_limit_bytes"):
        monkeypatch.setattr(memory, figure, lambda figure=figure: needed * 3 // 2 if figure == scarce else needed * 3)
    opened = open_steps()
    assert (model.name in Path("/proc/self/maps").read_text()) is bool(scarce)
    opened.close()


@pytest.mark.parametrize(
    "options", [Options(cache_type="f16"), Options(flash_attention=True), Options(cache_type="q8_0")]
)
def test_a_coarser_cache_changes_logits_a_little(open_steps: Open, options: Options) -> None:
    wanted = open_steps().step([Feed(0, list(range(40, 90)))])
    coarse = open_steps("llama", options).step([Feed(0, list(range(40, 90)))])
    assert 1e-6 < np.abs(coarse - wanted).max() < 1.0


def test_layers_for_a_gpu_that_is_not_there_are_a_warning(open_steps: Open, caplog: pytest.LogCaptureFixture) -> None:
    from enginebay_llamacpp import library

    if library.load().llama_supports_gpu_offload():
        pytest.skip("this build of llama.cpp has GPU support")
    with caplog.at_level(logging.WARNING, "enginebay.llamacpp"):
        model = open_steps("llama", Options(gpu_layers=10))
    assert "gpu_layers=10" in model.notes[0]
    assert "gpu_layers=10" in caplog.text
    assert model.step([Feed(0, [1])]).shape[0] == 1


def test_an_adapter_acts_as_strongly_as_it_is_told(open_steps: Open, models: Path) -> None:
    def logits(scale: float | None) -> Any:
        adapters = () if scale is None else (Adapter(models / "adapter.gguf", scale),)
        return open_steps("llama", Options(adapters=adapters)).step([Feed(0, list(range(40, 60)))])[0].copy()

    plain = logits(None)
    np.testing.assert_allclose(logits(0.0), plain, atol=1e-4)
    slightly, strongly = (np.abs(logits(scale) - plain).max() for scale in (0.05, 1.0))
    assert 0.001 < slightly < strongly


def test_an_adapter_that_does_not_fit_is_a_load_error(open_steps: Open, models: Path) -> None:
    for name, reason in (("misfit", "adapter"), ("llama", "LoRA"), ("absent", "Cannot read")):
        with pytest.raises(ModelLoadError, match=reason):
            open_steps("llama", Options(adapters=(Adapter(models / f"{name}.gguf"),)))
    with pytest.raises(ModelLoadError, match="not a language model"):
        open_steps("adapter")


def test_more_memory_than_there_is_is_refused_with_the_arithmetic(open_steps: Open) -> None:
    with pytest.raises(OutOfMemory, match="16,777,216 tokens = ") as caught:
        open_steps(context_tokens=16_777_216, sequences=256)
    assert caught.value.fields["needed_bytes"] > caught.value.fields["available_bytes"]


def test_an_estimate_is_the_arithmetic_of_the_file(models: Path) -> None:
    request = LoadRequest(models / "llama.gguf", "gguf", Options(), context_tokens=100, sequences=3)
    estimate = plugin.estimate(request)
    per_token = 2 * 1 * (32 + 32) * 4  # layers, heads of keys and values, their sizes, bytes of a float
    assert estimate.cache_bytes == per_token * 100 * 3
    assert 100_000 < estimate.weights_bytes < (models / "llama.gguf").stat().st_size


def test_the_defaults_follow_the_model(open_steps: Open) -> None:
    model = open_steps()
    assert (model.context_tokens, model.sequences) == (128, 8)  # what it was trained on
    assert open_steps(context_tokens=256).notes[0].startswith("The context of 256 tokens is longer than the 128")


def test_health_names_devices_and_capabilities() -> None:
    health = plugin.health(None)
    assert (health.healthy, health.library) == (True, "llama-cpp-python")
    assert health.version
    assert any(device.kind == "cpu" for device in health.devices)
    assert {"seed", "save_session", "embed"} <= health.capabilities


BLOCKED = """
import sys
from importlib.machinery import PathFinder

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name == "llama_cpp":
            raise {error}
sys.meta_path.insert(0, Blocker())
from enginebay_llamacpp import plugin
from enginebay_llamacpp.amx import faulty_gcc
health = plugin.health(None)
print(health.healthy, health.reason, health.hint, sep="|")
"""


@pytest.mark.parametrize(
    ("error", "reason"),
    [("ModuleNotFoundError('no llama_cpp')", "is not installed"), ("RuntimeError('bad .so')", "does not load")],
)
def test_health_without_the_library_says_how_to_get_it(error: str, reason: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", BLOCKED.format(error=error)], capture_output=True, text=True, check=True, timeout=60
    )
    healthy, said, hint = done.stdout.strip().split("|")
    assert healthy == "False"
    assert reason in said
    assert "--extra-index-url https://abetlen.github.io/llama-cpp-python/whl/cpu" in hint


QUIET = """
import sys
from pathlib import Path
from enginebay.data import LoadRequest
from enginebay.decode.protocol import Feed
from enginebay_llamacpp.steps import open_steps
assert "llama_cpp" not in sys.modules and "numpy" not in sys.modules
model = open_steps(LoadRequest(Path(sys.argv[1]), "gguf", context_tokens=256))
model.step([Feed(0, [1])])
try:
    open_steps(LoadRequest(Path(sys.argv[2]), "gguf"))
except Exception as error:
    assert type(error).__name__ == "ModelLoadError", error
model.close()
"""


def test_nothing_is_printed_and_nothing_heavy_is_imported_early(models: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.gguf"
    bad.write_bytes((models / "llama.gguf").read_bytes().replace(b"qwen2", b"qwen9"))
    done = subprocess.run(
        [sys.executable, "-c", QUIET, str(models / "llama.gguf"), str(bad)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env={**os.environ, "GGML_NO_BACKTRACE": ""},
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


PROMPT = """
import sys
from pathlib import Path
from enginebay.data import LoadRequest
from enginebay.decode.protocol import Feed
from enginebay_llamacpp.options import Options
from enginebay_llamacpp.steps import open_steps
model = open_steps(LoadRequest(Path(sys.argv[1]), "gguf", Options()))
print(model.step([Feed(0, list(range(40, 100)))]).shape[0])
"""


def test_a_prompt_for_quantized_weights_does_not_end_the_process(models: Path) -> None:
    """It does where a faulty compiler met a processor with AMX, unless that is seen."""
    done = subprocess.run(
        [sys.executable, "-c", PROMPT, str(models / "quantized.gguf")], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout.strip()) == (0, "1"), done.stderr


@pytest.mark.parametrize(
    ("comment", "faulty"),
    [
        (b"GCC: (Debian 12.2.0-14+deb12u1) 12.2.0", "GCC 12.2"),
        (b"GCC: (GNU) 11.4.1 20230605", "GCC 11.4"),
        (b"GCC: (GNU) 10.3.0", "GCC 10.3"),
        (b"GCC: (Ubuntu 13.3.0-6ubuntu2) 13.3.0", None),
        (b"GCC: (GNU) 14.1.0", None),
        (b"Debian clang version 14.0.6", None),
    ],
)
def test_faulty_compilers_are_known(comment: bytes, faulty: str | None, tmp_path: Path) -> None:
    library = tmp_path / "libggml-cpu.so"
    library.write_bytes(b"\x7fELF" + bytes(100) + comment + b"\0")
    assert faulty_gcc(library) == faulty
