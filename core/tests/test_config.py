"""Where a configuration is found, what it may say, and who has the last word."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from enginebay.config import Config, load_config, wanted
from enginebay.errors import ConfigError


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder, an empty home, and no variables."""
    for name in [name for name in os.environ if name.startswith("ENGINEBAY_")]:
        monkeypatch.delenv(name)
    home = tmp_path / "home"
    for name in ("HOME", "XDG_CONFIG_HOME", "APPDATA"):
        monkeypatch.setenv(name, str(home))
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def test_the_first_file_of_the_search_path_is_read(here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert load_config() == Config()
    monkeypatch.setattr("sys.platform", "linux")
    user = write(tmp_path / "home/enginebay/enginebay.toml", 'engine = "user"')
    assert load_config() == Config(engine="user", source=str(user))
    application = write(here / "user_settings.json", '{"llm": {"inference_engine": "mnn"}}')
    assert load_config() == Config(engine="mnn", source=str(application))
    local = write(here / "enginebay.toml", 'engine = "local"')
    assert load_config() == Config(engine="local", source=str(local))
    named = write(tmp_path / "named.toml", 'engine = "named"')
    monkeypatch.setenv("ENGINEBAY_CONFIG", str(named))
    assert load_config() == Config(engine="named", source=str(named))
    given = write(tmp_path / "given.toml", 'engine = "given"')
    assert load_config(given) == Config(engine="given", source=str(given))


@pytest.mark.parametrize(
    ("settings", "engine"),
    [
        ({"llm": {"inference_engine": "llama"}}, "llamacpp"),
        ({"llm": {"inference_engine": "mnn"}}, "mnn"),
        ({"llm": {"inference_engine": "mlx"}}, "mlx"),
        ({"llm": {"theme": "dark"}, "window": [1, 2]}, "llamacpp"),
        ({"window": [1, 2]}, "llamacpp"),
        ({}, "llamacpp"),
    ],
)
def test_an_application_s_settings_name_the_engine(here: Path, settings: Any, engine: str) -> None:
    write(here / "user_settings.json", json.dumps(settings))
    assert load_config().engine == engine


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            '{"llm": {"inference_engine": "lama"}}',
            "expected 'llama' or 'mnn' or 'mlx', got 'lama' at llm.inference_engine",
        ),
        ('{"llm": {"inference_engine": null}}', "got null at llm.inference_engine"),
        ('{"llm": {"inference_engine": ["mnn"]}}', "got list at llm.inference_engine"),
        ('{"llm": "mnn"}', "expected table, got 'mnn' at llm"),
        ("[]", "expected table, got list"),
        ('{"llm": ', "malformed"),
        ("[" * 100_000, "malformed"),
    ],
)
def test_an_application_s_settings_are_checked(here: Path, text: str, message: str) -> None:
    path = write(here / "user_settings.json", text)
    with pytest.raises(ConfigError) as caught:
        load_config()
    assert str(path) in caught.value.message
    assert message in caught.value.message


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('engin = "mnn"', "unknown key engin; did you mean engine?"),
        ("engine = 3", "expected string, got int at engine"),
        ('isolation = "thread"', "expected 'inline' or 'process', got 'thread' at isolation"),
        ("context_tokens = 4", "expected 8 to 16,777,216, got 4 at context_tokens"),
        ("context_tokens = 8.5", "expected int, got float at context_tokens"),
        ("sequences = true", "expected int, got bool at sequences"),
        ('[engines]\nmnn = "fast"', "expected table, got 'fast' at engines.mnn"),
        ("[models.a]\nidle_second = 3", "unknown key idle_second; did you mean idle_seconds? at models.a"),
        ("[models.a]\nsequences = 0", "expected 1 to 256, got 0 at models.a.sequences"),
        ('source = "me"', "unknown key source"),
        ("engine = ", "malformed"),
        ("a = 1\na = 2", "malformed"),
        ("a = " + "[" * 100_000, "malformed"),
    ],
)
def test_a_configuration_file_is_checked(here: Path, text: str, message: str) -> None:
    path = write(here / "enginebay.toml", text)
    with pytest.raises(ConfigError) as caught:
        load_config()
    assert str(path) in caught.value.message
    assert message in caught.value.message


def test_a_file_that_cannot_be_read_is_an_error(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match=r"gone\.toml cannot be read"):
        load_config("gone.toml")
    with pytest.raises(ConfigError, match="cannot be read"):
        load_config(here)
    (here / "bytes.toml").write_bytes(b"\xff\xfe")
    monkeypatch.setenv("ENGINEBAY_CONFIG", str(here / "bytes.toml"))
    with pytest.raises(ConfigError, match="malformed"):
        load_config()


def test_arguments_come_before_the_environment_and_that_before_the_file(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(
        here / "enginebay.toml",
        'engine = "a"\ncontext_tokens = 100\nsequences = 2\n'
        '[models.big]\nengine = "b"\ncontext_tokens = 200\npinned = true',
    )
    config = load_config()
    plain, big = wanted(config, "other"), wanted(config, "big")
    assert (plain.engine, plain.context_tokens, plain.sequences, plain.pinned) == ("a", 100, 2, None)
    assert (big.engine, big.context_tokens, big.sequences, big.pinned) == ("b", 200, 2, True)
    assert big.because == f"models.big in {config.source}"
    monkeypatch.setenv("ENGINEBAY_ENGINE", "c")
    monkeypatch.setenv("ENGINEBAY_CONTEXT_TOKENS", "300")
    monkeypatch.setenv("ENGINEBAY_ISOLATION", "process")
    big = wanted(config, "big")
    assert (big.engine, big.context_tokens, big.isolation, big.because) == ("c", 300, "process", "ENGINEBAY_ENGINE")
    big = wanted(config, "big", engine="d", context_tokens=400, isolation="inline", sequences=None)
    assert (big.engine, big.context_tokens, big.isolation, big.sequences) == ("d", 400, "inline", 2)


@pytest.mark.parametrize(
    ("name", "value"),
    [("ENGINEBAY_CONTEXT_TOKENS", "many"), ("ENGINEBAY_CONTEXT_TOKENS", "-1"), ("ENGINEBAY_ISOLATION", "thread")],
)
def test_a_wrong_variable_is_named(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match=f"environment variable {name}"):
        wanted(Config(), "demo")


def test_an_empty_variable_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENGINEBAY_ENGINE", "")
    assert wanted(Config(engine="a"), "demo").engine == "a"


@pytest.mark.parametrize("bad", [{"context_tokens": -1}, {"sequences": 0}, {"isolation": "thread"}, {"engine": 3}])
def test_a_wrong_argument_is_refused(bad: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(bad))):
        wanted(Config(), "demo", **bad)


def test_a_model_s_reference_is_relative_to_its_file(here: Path, tmp_path: Path) -> None:
    path = write(tmp_path / "etc/enginebay.toml", '[models]\na.reference = "./a.gguf"\nb.reference = "demo"\nc = {}')
    config = load_config(path)
    assert [wanted(config, name).reference for name in "abc"] == [str(path.parent / "a.gguf"), "demo", "c"]
