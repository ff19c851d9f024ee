"""The reference of configuration and command line says what there is: every key, every option, and no other."""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import attrs
import click
import pytest

from enginebay.config import VARIABLES, ConfigKeys, ModelConfig, load_config, wanted
from enginebay.errors import ConfigError
from enginebay.selection import choose

REFERENCE = Path(__file__).parents[2] / "docs/reference"
CONFIGURATION = (REFERENCE / "configuration.md").read_text(encoding="utf-8")
COMMAND_LINE = (REFERENCE / "command-line.md").read_text(encoding="utf-8")
COMMANDS = ("run", "chat", "engines", "tokenize", "check", "new-engine")


def blocks(page: str, kind: str) -> list[str]:
    return re.findall(rf"^```{kind}\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)


def test_every_key_has_its_heading_and_no_other() -> None:
    keys = {*attrs.fields_dict(ConfigKeys), *attrs.fields_dict(ModelConfig)}
    assert set(re.findall(r"^### `([\w.]+)`$", CONFIGURATION, re.MULTILINE)) == keys | {"llm.inference_engine"}
    assert set(re.findall(r"^\| `(ENGINEBAY_\w+)`", CONFIGURATION, re.MULTILINE)) == {
        *VARIABLES.values(),
        "ENGINEBAY_CONFIG",
    }


def test_the_examples_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ENGINEBAY_CONFIG", *VARIABLES.values()):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    for text in blocks(CONFIGURATION, "toml"):
        Path("enginebay.toml").write_text(text, encoding="utf-8")
        config = load_config()
        choice = choose(wanted(config, "parrot"), config)
        assert (choice.plugin.info.name, choice.options.step_seconds) == ("echo", 0.001)
    for text in blocks(CONFIGURATION, "toml error"):
        Path("enginebay.toml").write_text(text, encoding="utf-8")
        config = load_config()
        with pytest.raises(ConfigError) as caught:
            choose(wanted(config, "echo", engine="echo"), config)
        assert caught.value.message == text.splitlines()[0].removeprefix("# ")
    Path("enginebay.toml").unlink()
    for text in blocks(CONFIGURATION, "json"):
        Path("user_settings.json").write_text(text, encoding="utf-8")
        assert load_config().engine == "mnn"


def options(command: str) -> Iterator[str]:
    module = import_module(f"enginebay.cli.{command.replace('-', '_')}")
    for parameter in module.command.params:
        if isinstance(parameter, click.Option):
            yield from parameter.opts


def test_every_command_and_option_is_in_the_reference_and_no_other() -> None:
    assert re.findall(r"^## `enginebay ([\w-]+)`$", COMMAND_LINE, re.MULTILINE) == list(COMMANDS)
    prose = re.sub(r"^```.*?^```$", "", COMMAND_LINE, flags=re.MULTILINE | re.DOTALL)
    named = set(re.findall(r"(?<![\w-])--?[a-z][a-z-]*", prose))
    offered = {option for command in COMMANDS for option in options(command)}
    assert named == offered | {"-h", "--help", "--version", "-v", "--verbose"}
