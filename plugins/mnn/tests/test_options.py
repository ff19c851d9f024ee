"""Options, and the engine's description of itself."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from enginebay.errors import ConfigError
from enginebay_mnn.options import Options
from enginebay_mnn.plugin import engine, health


@pytest.mark.parametrize(
    "options",
    [{"threads": 0}, {"threads": -1}, {"threads": 10**9}, {"preset": "best"}, {"threads": "2"}, {"gpu_layers": 1}],
)
def test_impossible_options_are_refused_with_their_name(options: dict[str, Any]) -> None:
    import enginebay

    with pytest.raises(ConfigError, match=next(iter(options))):
        enginebay.open("demo", engine="mnn", options=options)


def test_none_is_allowed() -> None:
    assert Options(threads=None).preset == "exact"


def test_health_names_library_and_device() -> None:
    found = health(None)
    assert found.healthy
    assert found.library == "MNN"
    assert found.version
    assert [device.kind for device in found.devices] == ["cpu"]
    assert "grammar" in found.capabilities


def test_health_without_mnn_says_why() -> None:
    """In a process where the library cannot be found."""
    script = """
import sys, importlib.metadata as metadata
class Hide:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("MNN", "_mnncengine"):
            raise ImportError("libgomp.so.1: cannot open shared object file")
sys.meta_path.insert(0, Hide())
from enginebay_mnn.plugin import health
found = health(None)
assert not found.healthy and "libgomp" in found.reason and "pip install" in found.hint, found
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)


def test_plugin_module_imports_nothing_heavy() -> None:
    script = (
        "import sys, enginebay_mnn.plugin\nassert not {'numpy', 'MNN', '_mnncengine', 'tokenizers'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)
    assert engine.isolation == "process"
