"""Checks a model folder before native code reads it: what it holds, that it fits together. It knows no native library.

Files in the folder are data. Python files and ``auto_map`` entries are never run; a model that needs one is refused.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from attrs import field, frozen

from enginebay.errors import ModelLoadError
from enginebay_mlx.safetensors import Tensor, read_header

MAX_JSON_BYTES = 16 << 20
MAX_TOKENIZER_BYTES = 128 << 20
MAX_COUNT = 1_024
MAX_WIDTH = 1 << 24
DEFAULT_POSITIONS = 8_192

_COUNTS = re.compile(r"^(num|n)_\w*(layers?|heads?|experts?|blocks?|groups?)$|^\w+_(layers|heads|experts)$")
_WIDTHS = re.compile(r"^\w*(_size|_dim|_dims|_rank)$|^(n_embd|n_inner|d_model|d_ff|vocab_size)$")
_LAYERS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers")
_POSITIONS = ("max_position_embeddings", "n_positions", "max_sequence_length", "max_seq_len", "n_ctx", "seq_length")
_LAYER_OF = re.compile(r"(?:^|\.)(?:layers|h|blocks)\.(\d{1,6})\.")


@frozen
class ModelFolder:
    """A folder that was checked. ``config`` is what mlx-lm shall read in place of ``config.json``'s missing keys."""

    path: Path
    config: Mapping[str, Any] = field(repr=False)
    generation: Mapping[str, Any] = field(repr=False)
    tokenizer: Mapping[str, Any] = field(repr=False)
    tokenizer_json: str = field(repr=False)
    chat_template: str | None = field(repr=False)
    tensors: Mapping[str, Tensor] = field(repr=False)

    @property
    def layers(self) -> int:
        """How many layers the configuration speaks of; 0 if it does not say."""
        return next((self.text_config[key] for key in _LAYERS if key in self.text_config), 0)

    @property
    def positions(self) -> int:
        """How many positions the model was made for."""
        text = self.text_config
        return next((text[key] for key in _POSITIONS if _is_whole(text.get(key)) and text[key] > 0), DEFAULT_POSITIONS)

    @property
    def text_config(self) -> Mapping[str, Any]:
        """The part of the configuration that describes the language model."""
        nested = self.config.get("text_config")
        return {**self.config, **nested} if isinstance(nested, dict) else self.config


def check_folder(path: Path) -> ModelFolder:
    """Check every file that will be read, in milliseconds.

    :raises ModelLoadError: a file is missing, damaged, too large, outside the folder or contradicts another
    """
    if not path.is_dir():
        what = "is a file" if path.exists() else "does not exist"
        raise ModelLoadError(
            f"{path} {what}; MLX reads a folder.",
            hint="Name the folder that holds config.json, tokenizer.json and model.safetensors.",
            path=str(path),
        )
    config = _read_object(path, "config.json", required=True)
    _check_config(path, config)
    generation = _read_object(path, "generation_config.json")
    tokenizer = _read_object(path, "tokenizer_config.json")
    for name, text in _read_object(path, "special_tokens_map.json").items():
        tokenizer.setdefault(name, text)
    tokenizer_json = _read_text(path, "tokenizer.json", MAX_TOKENIZER_BYTES)
    if tokenizer_json is None:
        hint = "MLX needs the tokenizer in this form: download it with the model, or convert the model again."
        raise _refused(path, "has no tokenizer.json", hint)
    tensors = _check_weights(path)
    _check_layers(path, config, tensors)
    return ModelFolder(path, config, generation, tokenizer, tokenizer_json, _chat_template(path, tokenizer), tensors)


def _check_config(path: Path, config: dict[str, Any]) -> None:
    model_type = config.get("model_type")
    if not isinstance(model_type, str) or not re.fullmatch(r"[A-Za-z0-9_.-]{1,64}", model_type):
        raise _refused(path, f"has a config.json without a usable model_type: {str(model_type)[:80]!r}")
    if config.get("model_file") is not None:
        hint = "Use a conversion of this model whose architecture mlx-lm has built in."
        raise _refused(path, "wants Python code of its own to be run (model_file in config.json)", hint)
    _check_numbers(path, config)
    text = config.get("text_config")
    part = text if isinstance(text, dict) else config
    heads, shared = part.get("num_attention_heads"), part.get("num_key_value_heads")
    if _is_whole(heads) and _is_whole(shared) and (not heads or not shared or heads % shared):
        raise _refused(path, f"has a config.json with {heads} attention heads over {shared} key-value heads")
    theta = config.get("rope_parameters")
    if isinstance(theta, dict) and "rope_theta" in theta:
        _spread_rope(config, theta)


def _spread_rope(config: dict[str, Any], rope: dict[str, Any]) -> None:
    """Newer folders hold RoPE's numbers in ``rope_parameters`` only, where most models of mlx-lm do not look."""
    config.setdefault("rope_theta", rope["rope_theta"])
    if rope.get("rope_type", "default") != "default":
        config.setdefault("rope_scaling", rope)


def _check_numbers(path: Path, config: Mapping[str, Any]) -> None:
    for key, value in config.items():
        if isinstance(value, dict):
            _check_numbers(path, value)
            continue
        most = MAX_COUNT if _COUNTS.match(key) else MAX_WIDTH if _WIDTHS.match(key) else None
        for number in value if isinstance(value, list) else (value,):
            if most and number is not None and not isinstance(number, (bool, str, dict)) and not _fits(number, most):
                raise _refused(path, f"has a config.json with {key} = {str(number)[:40]}; expected at most {most:,}")
    layers = next((config[key] for key in _LAYERS if key in config), None)
    if layers is not None and not (_is_whole(layers) and layers >= 1):
        raise _refused(path, f"has a config.json with {str(layers)[:40]} layers")


def _fits(number: object, most: int) -> bool:
    return isinstance(number, (int, float)) and abs(number) <= most


def _is_whole(value: object) -> bool:
    return type(value) is int


def _check_weights(path: Path) -> dict[str, Tensor]:
    if set("[]*?") & set(str(path)):
        raise _refused(path, "has one of []*? in its path, which mlx-lm cannot read", "Rename the folder.")
    files = sorted(path.glob("model*.safetensors"))
    if not files:
        hint = "mlx-lm reads files named model*.safetensors; convert other weights with: python -m mlx_lm convert"
        raise _refused(path, "has no model.safetensors", hint)
    tensors: dict[str, Tensor] = {}
    owner: dict[str, str] = {}
    for file in files:
        _inside(path, file)
        found = read_header(file)
        if twice := found.keys() & tensors.keys():
            raise _refused(path, f"has the tensor {min(twice)[:80]!r} in two files")
        tensors |= found
        owner |= dict.fromkeys(found, file.name)
    index = _read_object(path, "model.safetensors.index.json").get("weight_map", {})
    if not isinstance(index, dict):
        raise _refused(path, "has an index whose weight_map is not an object")
    for name, file_name in index.items():
        if owner.get(name) != file_name:
            raise _refused(path, f"lacks {str(file_name)[:80]!r} or its tensor {name[:80]!r}, which its index names")
    return tensors


def _check_layers(path: Path, config: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
    nested = config.get("text_config")
    text = nested if isinstance(nested, dict) else config
    wanted = next((text[key] for key in _LAYERS if key in text), None)
    matches = (_LAYER_OF.search(name) for name in tensors)
    held = {int(match[1]) for match in matches if match}
    if wanted is not None and held and wanted > max(held) + 1:
        raise _refused(path, f"has weights for {max(held) + 1} layers; its config.json says {wanted}")


def _chat_template(path: Path, tokenizer: Mapping[str, Any]) -> str | None:
    own = _read_text(path, "chat_template.jinja", 1 << 20)
    if own is not None:
        return own
    template = tokenizer.get("chat_template")
    if isinstance(template, list):  # several, by name
        named = {entry.get("name"): entry.get("template") for entry in template if isinstance(entry, dict)}
        template = named.get("default")
    return template if isinstance(template, str) else None


def _read_object(path: Path, name: str, *, required: bool = False) -> dict[str, Any]:
    text = _read_text(path, name, MAX_JSON_BYTES)
    if text is None:
        if required:
            raise _refused(path, f"has no {name}")
        return {}
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _refused(path, f"has a {name} that is not valid JSON: {error}") from error
    if not isinstance(value, dict):
        raise _refused(path, f"has a {name} that is not a JSON object")
    return value


def _read_text(path: Path, name: str, most: int) -> str | None:
    """The text of a file in the folder, or None if there is none."""
    file = path / name
    if not file.exists() and not file.is_symlink():
        return None
    _inside(path, file)
    try:
        with file.open("rb") as stream:
            data = stream.read(most + 1)
        if len(data) > most:
            raise _refused(path, f"has a {name} of more than {most:,} bytes")
        return data.decode("utf-8")
    except OSError as error:
        raise _refused(path, f"has a {name} that cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise _refused(path, f"has a {name} that is not UTF-8 text") from error


def _inside(folder: Path, file: Path) -> None:
    """A link may lead within the folder, or to the ``blobs`` where the hub's cache keeps what its folders link to."""
    target, home = file.resolve(), folder.resolve()
    if not target.is_relative_to(home) and not target.is_relative_to(home.parent.parent / "blobs"):
        raise _refused(folder, f"has a {file.name} that leads out of the folder, to {target}")


def _refused(path: Path, what: str, hint: str | None = None) -> ModelLoadError:
    hint = hint or "Download or convert the model again."
    return ModelLoadError(f"The model folder {path} {what}.", hint=hint, path=str(path))
