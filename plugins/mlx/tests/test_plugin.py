"""What the plugin says of itself, what it refuses, and what it leaves alone in the process."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import enginebay
from enginebay.errors import ConfigError
from enginebay_mlx import plugin


def run(code: str, *arguments: str) -> str:
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_reading_the_plugin_loads_nothing_native() -> None:
    code = "import sys, enginebay_mlx.plugin; print(*sys.modules)"
    assert not {"mlx", "mlx_lm", "numpy", "tokenizers", "transformers"} & set(run(code).split())


def test_without_the_library_health_says_why_and_what_to_do() -> None:
    code = """
import sys
sys.modules["mlx.core"] = None
from enginebay_mlx import plugin
health = plugin.health(None)
print(health.healthy, health.reason, health.hint, sep="|")
"""
    healthy, reason, hint = run(code).strip().split("|")
    assert healthy == "False"
    assert "MLX" in reason
    assert hint == "pip install enginebay-mlx"


def test_loading_and_closing_leaves_the_process_as_it_was(demo: Path) -> None:
    """Memory comes back, the process ends as it should, and the limit on open files, which mlx-lm lowers for good, stays."""
    code = """
import os, resource, sys
from pathlib import Path
from enginebay.data import GenerateRequest, LoadRequest, Sampling
from enginebay.memory import resident_bytes
from enginebay_mlx import plugin
limit = resource.getrlimit(resource.RLIMIT_NOFILE)
sizes, texts = [], set()
for _ in range(15):
    first, second = (plugin.load(LoadRequest(Path(sys.argv[1]), "mlx")) for _ in range(2))
    first.close()
    request = GenerateRequest((51, 458, 459), max_tokens=8, sampling=Sampling(temperature=0))
    texts.add("".join(chunk.text for chunk in plugin.generate(second, request)))
    second.close()
    sizes.append(resident_bytes(os.getpid()))
print(len(texts), sizes[-1] - sizes[4] < 20_000_000, resource.getrlimit(resource.RLIMIT_NOFILE) == limit)
"""
    assert run(code, str(demo)).split() == ["1", "True", "True"]


@pytest.mark.parametrize(
    "options",
    [{"precision": "float64"}, {"step_tokens": 0}, {"step_tokens": -1}, {"step_tokens": 10**9}, {"unknown": 1}],
    ids=str,
)
def test_a_wrong_option_is_refused_by_name(options: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=next(iter(options))):
        enginebay.open("demo", engine="mlx", options=options)


def test_health_of_a_model_is_a_token(demo: Path) -> None:
    with enginebay.open("demo", engine="mlx") as model:
        health = model.health()
        assert health.healthy, health.reason
        assert health.capabilities == plugin.health(None).capabilities
