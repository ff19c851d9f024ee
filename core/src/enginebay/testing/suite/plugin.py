"""Clauses on a plugin as it is found: what reading it costs, what it declares, how it loads. Nothing is generated."""

from __future__ import annotations

import inspect
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import get_args

import attrs
import pytest

from enginebay import registry
from enginebay.data import CONTRACT_VERSION, Capability, ModelFormat
from enginebay.errors import ModelLoadError
from enginebay.hookspecs import PROJECT, EngineHooks, OptionalHooks
from enginebay.model import Model
from enginebay.testing import damage
from enginebay.testing.base import Subject, refused, usable

_READ = "import sys; from enginebay import registry; registry.load(sys.argv[1])"
_NATIVE = """
import sysconfig
own = {sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib")}
site = sysconfig.get_path("purelib")
for module in list(sys.modules.values()):
    file = getattr(module, "__file__", None) or ""
    if file.endswith((".so", ".pyd", ".dylib")) and (file.startswith(site) or not any(file.startswith(p) for p in own)):
        print(module.__name__)
"""


class PluginClauses(Subject):
    """Reading, describing, probing and loading."""

    def test_e01_reading_loads_nothing_native(self) -> None:
        """E01 Reading the plugin imports no native module, numpy included.

        Look at the imports at the top of the plugin module: heavy ones belong inside ``load``.
        """
        loaded = _python(_READ + "\n" + _NATIVE, self.engine).stdout.split()
        assert not loaded, f"reading the plugin {self.engine} imported {', '.join(loaded)}"

    def test_e02_reading_is_silent(self) -> None:
        """E02 Reading the plugin prints nothing.

        Look for prints, warnings and logging set-up when the module is imported.
        """
        done = _python(_READ, self.engine)
        assert (done.stdout, done.stderr) == ("", "")

    def test_e03_description(self) -> None:
        """E03 The plugin describes itself: name, summary, contract, formats, and options that all have defaults.

        Look at ``EngineInfo``; the options class is a frozen attrs class.
        """
        info = registry.load(self.engine).info
        assert info.name == self.engine
        assert info.summary
        assert info.contract[0] <= CONTRACT_VERSION <= info.contract[1]
        assert info.formats
        assert all(isinstance(form, ModelFormat) and (form.file or form.folder) for form in info.formats)
        assert attrs.has(info.options), f"{info.options} is no attrs class"
        assert all(option.default is not attrs.NOTHING for option in attrs.fields(info.options)), (
            "an option has no default"
        )
        with pytest.raises(attrs.exceptions.FrozenInstanceError):
            setattr(info.options(), self.engine, 1)

    def test_e04_hooks(self, opened: Model) -> None:
        """E04 Every hook is there with the contract's parameters, and those of declared capabilities too.

        Look for a missing ``@hookimpl``, a misspelt name, or a capability that no hook stands behind.
        """
        module = self.plan().plugin.module
        hooks = dict(_specifications(EngineHooks))
        optional = dict(_specifications(OptionalHooks))
        hooks |= {name: optional[name] for name in optional if name in opened.info.capabilities}
        for name, specification in hooks.items():
            implementation = getattr(module, name, None)
            assert callable(implementation), f"the hook {name} is missing"
            assert hasattr(implementation, f"{PROJECT}_impl"), f"{name} is not marked with @hookimpl"
            expected = [parameter for parameter in inspect.signature(specification).parameters if parameter != "self"]
            assert list(inspect.signature(implementation).parameters) == expected, f"parameters of {name}"

    def test_e05_health_of_the_engine(self) -> None:
        """E05 Without a model, health says that the engine runs here, on which library and devices, with what.

        Look at the reason that it gives. Health must not raise, also where the library is absent.
        """
        health = registry.health(registry.load(self.engine))
        assert health.healthy, f"{self.engine} does not run here: {health.reason}; {health.hint}"
        assert health.library
        assert health.version
        assert health.capabilities <= set(get_args(Capability))

    def test_e06_health_of_a_model(self, opened: Model) -> None:
        """E06 With a model, healthy means that a token was just produced; a closed model is not healthy.

        Look at whether health generates a token, or only remembers that loading went well.
        """
        assert opened.health().healthy, opened.health().reason
        assert opened.health().capabilities == opened.info.capabilities
        assert opened.info.capabilities <= registry.health(registry.load(self.engine)).capabilities
        with self.open() as closed:
            closed.close()
            health = self.within(closed.health)
        assert not health.healthy
        assert health.reason

    def test_e07_missing_path(self, tmp_path: Path) -> None:
        """E07 A path that leads nowhere is a model_load_error that names the path.

        Look at the check before anything native opens the path.
        """
        self._damaged(damage.missing, tmp_path)

    def test_e08_empty_file(self, tmp_path: Path) -> None:
        """E08 An empty file or folder is a model_load_error that names the path.

        Look at the check of the size and the first bytes.
        """
        self._damaged(damage.empty, tmp_path)

    def test_e09_cut_file(self, tmp_path: Path) -> None:
        """E09 A model whose largest file was cut in half is a model_load_error that names the path.

        Look at the check that what the header promises lies inside the file.
        """
        self._damaged(damage.cut, tmp_path)

    def test_e10_random_bytes(self, tmp_path: Path) -> None:
        """E10 Random bytes in place of a model file are a model_load_error that names the path.

        Look at the check of the format before native code parses it.
        """
        self._damaged(damage.scrambled, tmp_path)

    def test_e11_another_kind(self, tmp_path: Path) -> None:
        """E11 A folder in place of a model file, or a file in place of a folder, is a model_load_error.

        Look at what the plugin assumes of the path.
        """
        self._damaged(damage.another_kind, tmp_path)

    def test_e12_failed_loads_leave_nothing(self, tmp_path: Path) -> None:
        """E12 A load that failed leaves no thread behind, and a good one works after it.

        Look at what ``load`` started before it failed.
        """
        with self.open() as model:
            usable(model)
        bad = damage.empty(self.plan().request.path, tmp_path)
        before = threading.active_count()
        for _ in range(3):
            with refused(ModelLoadError):
                self.within(lambda: self.load_path(bad))
        self.settles(lambda: threading.active_count() <= before, "failed loads left threads running")
        with self.open() as model:
            usable(model)

    def test_e13_info(self, opened: Model) -> None:
        """E13 A loaded model says what it is, and has the context and the sequences that were asked for.

        Look at how ``ModelInfo`` is filled, and at the rounding of the context's length.
        """
        info = opened.info
        assert (info.engine, info.path, info.format) == (
            self.engine,
            self.plan().request.path,
            self.plan().request.format,
        )
        assert info.capabilities <= set(get_args(Capability))
        assert info.sequences >= 1
        assert info.end_tokens
        assert {*info.end_tokens, *info.prefix_tokens} <= set(range(info.vocabulary_tokens))
        assert len(info.vocabulary_fingerprint) >= 16
        with self.open(context_tokens=96, sequences=2) as asked:
            assert asked.info.context_tokens == 96
            assert asked.info.sequences in ((1, 2) if info.sequences == 1 else (2,))
            assert asked.info.vocabulary_fingerprint == info.vocabulary_fingerprint

    def _damaged(self, harm: Callable[[Path, Path], Path], folder: Path) -> None:
        path = harm(self.plan().request.path, folder)
        with refused(ModelLoadError) as caught:
            self.within(lambda: self.load_path(path)).close()
        assert path.name in str(caught.value), "the message does not name what could not be loaded"


def _python(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        check=True,
        text=True,
        capture_output=True,
        timeout=120,
        env={**os.environ, "PYTHONWARNINGS": "always"},
    )


def _specifications(protocol: type) -> list[tuple[str, Callable[..., object]]]:
    return [(name, value) for name, value in vars(protocol).items() if hasattr(value, f"{PROJECT}_spec")]
