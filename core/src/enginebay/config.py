"""What is wanted, and who said so: arguments, environment, one configuration file. It knows no engine's options."""

from __future__ import annotations

import json
import os
import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import attrs
from attrs import field, frozen

from enginebay.data import Isolation, bounded
from enginebay.errors import ConfigError
from enginebay.structure import structure

CONFIG_VARIABLE = "ENGINEBAY_CONFIG"
VARIABLES = {
    "engine": "ENGINEBAY_ENGINE",
    "isolation": "ENGINEBAY_ISOLATION",
    "context_tokens": "ENGINEBAY_CONTEXT_TOKENS",
}
"""The settings that an environment variable can make."""

_APPLICATION_NAMES = {"llama": "llamacpp", "mnn": "mnn", "mlx": "mlx"}
_APPLICATION_DEFAULT = "llama"


@frozen
class LoadSettings:
    """How a model is loaded. None leaves it to whoever comes next: at last to the engine."""

    engine: str | None = None
    isolation: Isolation | None = None
    context_tokens: int | None = field(default=None, validator=bounded(8, 16_777_216))
    min_context_tokens: int | None = field(default=None, validator=bounded(8, 16_777_216))
    sequences: int | None = field(default=None, validator=bounded(1, 256))
    queue_requests: int | None = field(default=None, validator=bounded(0, 100_000))
    cache_bytes: int | None = field(default=None, validator=bounded(0, 1 << 50))
    memory_bytes: int | None = field(default=None, validator=bounded(1 << 28, 1 << 50))
    idle_seconds: float | None = field(default=None, validator=bounded(0, 1e9))
    pinned: bool | None = None


@frozen
class ModelConfig(LoadSettings):
    """A model under a name of the configuration's own. ``reference`` is what to load (None: what has the same name)."""

    reference: str | None = None


@frozen
class ConfigKeys(LoadSettings):
    """All that ``enginebay.toml`` may say. Each engine checks its own table of ``engines`` when it is used."""

    engines: Mapping[str, Mapping[str, Any]] = field(factory=dict)
    models: Mapping[str, ModelConfig] = field(factory=dict)


@frozen
class Config(ConfigKeys):
    """A configuration, and where it is from."""

    source: str = "no configuration file"


@frozen
class Wanted(LoadSettings):
    """What holds for one model after all have spoken. ``because`` is who named the engine."""

    reference: str | Path = ""
    because: str = ""


def load_config(path: str | Path | None = None) -> Config:
    """Read the one configuration file that is named or found; without any, nothing is configured.

    :raises ConfigError: the file cannot be read, is malformed, or has an unknown key or a wrong value
    """
    named = path or os.environ.get(CONFIG_VARIABLE)
    if named:
        return _read(Path(named).expanduser())
    return next((_read(candidate) for candidate in search_path() if candidate.is_file()), Config())


def search_path() -> tuple[Path, ...]:
    """Where a file is looked for if neither an argument nor ``ENGINEBAY_CONFIG`` names one. The first is read."""
    if sys.platform == "win32":
        user = Path(os.environ.get("APPDATA") or Path.home() / "AppData/Roaming")
    elif sys.platform == "darwin":
        user = Path.home() / "Library/Application Support"
    else:
        user = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    return Path("enginebay.toml"), Path("user_settings.json"), user / "enginebay/enginebay.toml"


def wanted(config: Config, reference: str | Path, **arguments: Any) -> Wanted:
    """What holds for one model: arguments first, then the environment, the model's own table, the top level.

    :param arguments: fields of ``LoadSettings``; None counts as not given
    :raises ConfigError: an argument or a variable has a wrong value
    """
    model = (config.models.get(reference) if isinstance(reference, str) else None) or ModelConfig()
    given = {key: value for key, value in arguments.items() if value is not None}
    layers = (_arguments(given), _environment(), model, config)
    names = attrs.fields_dict(LoadSettings)
    values = {name: next((v for v in (getattr(x, name) for x in layers) if v is not None), None) for name in names}
    speakers = ("the argument", VARIABLES["engine"], f"models.{reference} in {config.source}", config.source)
    because = next((who for who, layer in zip(speakers, layers, strict=True) if layer.engine), "")
    return Wanted(**values, reference=model.reference or reference, because=because)


def _arguments(given: Mapping[str, Any]) -> LoadSettings:
    try:
        return structure(given, LoadSettings, error=ConfigError)
    except ConfigError as error:
        raise ConfigError(error.message, hint="enginebay run --help", **error.fields) from None


def _environment() -> LoadSettings:
    said = {key: os.environ[name] for key, name in VARIABLES.items() if os.environ.get(name)}
    values = {key: int(text) if key == "context_tokens" and text.isdecimal() else text for key, text in said.items()}
    try:
        return structure(values, LoadSettings, error=ConfigError)
    except ConfigError as error:
        names = ", ".join(VARIABLES[problem["path"]] for problem in error.fields["problems"])
        raise ConfigError(f"environment variable {names}: {error.message}", hint=f"unset {names}") from None


def _read(path: Path) -> Config:
    path = path.absolute()
    hint = f"Correct {path}, or name another file with {CONFIG_VARIABLE}."
    try:
        text = path.read_bytes().decode("utf-8-sig")
        data = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}", hint=hint, path=str(path)) from error
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path} is malformed: {error}", hint=hint, path=str(path)) from error
    try:
        if path.suffix == ".json":
            return _application(data, path)
        keys = structure(data, ConfigKeys, error=ConfigError)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error.message}", hint=hint, path=str(path), **error.fields) from None
    models = {name: _placed(model, path.parent) for name, model in keys.models.items()}
    return Config(**{**attrs.asdict(keys, recurse=False), "models": models}, source=str(path))


def _placed(model: ModelConfig, folder: Path) -> ModelConfig:
    """A reference that begins with ``./`` or ``../`` is relative to the file that it is written in."""
    if model.reference and model.reference.startswith(("./", "../", ".\\", "..\\")):
        return attrs.evolve(model, reference=str(folder / model.reference))
    return model


def _application(data: Any, path: Path) -> Config:
    """The settings file of a host application: it owns all keys but one."""
    root = structure(data, dict[str, Any], error=ConfigError)
    llm = structure(root.get("llm", {}), dict[str, Any], error=ConfigError, where="llm")
    name: Any = llm.get("inference_engine", _APPLICATION_DEFAULT)
    structure(name, Literal["llama", "mnn", "mlx"], error=ConfigError, where="llm.inference_engine")  # type: ignore[arg-type]
    return Config(engine=_APPLICATION_NAMES[name], source=str(path))
