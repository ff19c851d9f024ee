"""Checks every file of an exported MNN folder in Python, before native code reads any. It loads nothing.

Native code then reads three of them only, and a configuration that is written here; see ``native_config``.
"""

from __future__ import annotations

import json
import mmap
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

from attrs import evolve, field, frozen

from enginebay.data import MemoryEstimate
from enginebay.decode.protocol import Vocabulary
from enginebay.errors import ModelLoadError
from enginebay_mnn.flatbuffer import DamagedBufferError
from enginebay_mnn.graph import Graph, Kind, check_graph
from enginebay_mnn.mtok import read_tokenizer
from enginebay_mnn.parameters import UnusableGraphError, Weights
from enginebay_mnn.tokenizer import DamagedTokenizerError, TokenizerFile

HINT = "Export the model again with llmexport (pip install llmexport), or copy the whole folder again."
MOST_CONTEXT_TOKENS = 8192
MAX_CONFIG_BYTES = 16 << 20
MAX_TOKENIZER_BYTES = 256 << 20
MAX_GRAPH_BYTES = (1 << 31) - 1
MAX_FILE_BYTES = 1 << 40
CONTENT = "{{ messages | map(attribute='content') | join('') }}"
REFUSED = ("is_visual", "is_audio", "has_talker", "has_deepstack", "ple_embed_file")


@frozen
class ModelFolder:
    """A folder that was checked. ``shape`` is the part of its configuration that native code is given."""

    path: Path
    graph: Path
    weights: Path
    embeddings: Path
    tokenizer: TokenizerFile = field(repr=False)
    vocabulary: Vocabulary = field(repr=False)
    shape: Mapping[str, Any]
    kind: Kind
    context_tokens: int | None
    chat_template: str | None
    text_around: tuple[str, str] = ("", "")


def check_folder(path: Path) -> ModelFolder:
    """Check the folder that an ``llmexport`` wrote.

    :raises ModelLoadError: a file is missing, is damaged, is of another kind, or lies outside the folder
    """
    files = _Files(path)
    merged = files.configuration()
    hidden_size = files.integer(merged, "hidden_size", 1, 1 << 20)
    shape: dict[str, Any] = {
        "hidden_size": hidden_size,
        "layer_nums": files.integer({"layer_nums": 1, **merged}, "layer_nums", 1, 1024),
        "attention_mask": files.choice(merged, "attention_mask", "float", ("float", "int")),
        "attention_type": files.choice(merged, "attention_type", "full", ("full", "mix", "sliding")),
        "is_mrope": merged.get("is_mrope") is True,
    }
    if merged.get("sliding_window") is not None:
        shape["sliding_window"] = files.integer(merged, "sliding_window", 0, 1 << 30)
    if merged.get("attn_scale") is not None:
        scale = merged["attn_scale"]
        if isinstance(scale, bool) or not isinstance(scale, (int, float)) or not 0 <= scale <= 1000:
            raise files.error("llm_config.json", f"attn_scale: expected 0 to 1,000, got {scale!r}")
        shape["attn_scale"] = float(scale)
    graph, weights, facts = _check_graph(files, merged)
    if facts.kind == "embed" and merged.get("model_type") == "qwen3":
        shape["attention_mask"] = "float"  # the exporter says int, with which MNN lets a decoder see what follows
    tokenizer_path = files.named(merged, "tokenizer_file", "tokenizer.mtok", MAX_TOKENIZER_BYTES)
    try:
        tokenizer = read_tokenizer(tokenizer_path.read_bytes())
    except DamagedTokenizerError as error:
        raise files.error(tokenizer_path.name, str(error)) from None
    vocabulary = tokenizer.vocabulary()
    tokens = len(vocabulary.pieces)
    if "tie_embeddings" in merged:
        tied = _tied(files, merged["tie_embeddings"])
        embeddings = weights if tied["weight_offset"] else files.named(merged, "embedding_file", None, MAX_FILE_BYTES)
        _check_tied(files, tied, embeddings, hidden_size, tokens)
        shape["tie_embeddings"] = tied
    else:
        embeddings = files.named(merged, "embedding_file", "embeddings_bf16.bin", MAX_FILE_BYTES)
        size = embeddings.stat().st_size
        if size % (2 * hidden_size) or size // (2 * hidden_size) < tokens:
            raise files.error(
                embeddings.name, f"{size:,} bytes are not {hidden_size:,} bfloat16 values for each of {tokens:,} tokens"
            )
    jinja = merged.get("jinja")
    jinja = jinja if isinstance(jinja, dict) else {}
    template = jinja.get("chat_template") or tokenizer.chat_template
    names = {"bos_token": jinja.get("bos"), "eos_token": jinja.get("eos")}
    texts = {name: text for name, text in names.items() if isinstance(text, str) and text}
    around = ("", "")
    if facts.kind == "embed":
        around, template = _around(files, template), None
    return ModelFolder(
        path=path,
        graph=graph,
        weights=weights,
        embeddings=embeddings,
        tokenizer=tokenizer,
        vocabulary=evolve(vocabulary, special_text={**vocabulary.special_text, **texts}),
        shape=shape,
        kind=facts.kind,
        context_tokens=_trained_tokens(merged),
        chat_template=template if isinstance(template, str) and template else None,
        text_around=around,
    )


def estimate(path: Path, sequences: int, context_tokens: int | None, *, exact: bool) -> MemoryEstimate:
    """The memory that a folder takes when it is loaded.

    :raises ModelLoadError: the graph or its configuration is not what it should be
    """
    files = _Files(path)
    config = files.configuration()
    graph, weights, facts = _check_graph(files, config)
    context_tokens = context_tokens or min(_trained_tokens(config) or MOST_CONTEXT_TOKENS, MOST_CONTEXT_TOKENS)
    value = 4 if exact else 2
    weight_bytes = facts.matrix_values * value if exact else weights.stat().st_size
    cache_bytes = facts.cached_values * value * sequences * context_tokens
    return MemoryEstimate(
        weight_bytes + graph.stat().st_size,
        cache_bytes,
        f"{graph.name}: {facts.matrix_values:,} weights in {weight_bytes:,} bytes, and {facts.cached_values:,} cached values "
        f"of {value} bytes for each of {context_tokens:,} tokens in {sequences:,} sequences",
    )


def _check_graph(files: _Files, config: Mapping[str, Any]) -> tuple[Path, Path, Graph]:
    graph = files.named(config, "llm_model", "llm.mnn", MAX_GRAPH_BYTES)
    weights = files.named(config, "llm_weight", graph.name + ".weight", MAX_FILE_BYTES)
    hidden_size = files.integer(config, "hidden_size", 1, 1 << 20)
    try:
        with (
            graph.open("rb") as opened,
            mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as data,
            weights.open("rb") as held,
        ):
            return (
                graph,
                weights,
                check_graph(data, hidden_size, Weights(weights.stat().st_size, partial(_read_at, held))),
            )
    except (DamagedBufferError, UnusableGraphError) as error:
        raise files.error(graph.name, f"with {weights.name}, {error}") from None


def _trained_tokens(config: Mapping[str, Any]) -> int | None:
    known = config.get("max_position_embeddings", config.get("max_all_tokens"))
    return known if isinstance(known, int) and 8 <= known <= 1 << 24 else None


def _around(files: _Files, template: Any) -> tuple[str, str]:
    """What the template of an embedding model puts before and after a text."""
    parts = str(template or CONTENT).split(CONTENT)
    if len(parts) != 2 or any("{" in part for part in parts):
        raise files.error("llm_config.json", f"jinja: an embedding model's template is text around {CONTENT}")
    return parts[0], parts[1]


def native_config(folder: ModelFolder, scratch: Path, *, exact: bool, threads: int) -> dict[str, Any]:
    """What MNN is given as its configuration: only what was checked, with absolute paths.

    ``scratch`` is an empty folder where MNN finds the stand-ins ``config.json`` and ``tokenizer.mtok``.
    """
    level = "high" if exact else "low"
    return {
        "base_dir": "",
        "llm_config": str(scratch / "config.json"),
        "context_file": str(scratch / "context.json"),
        "tmp_path": str(scratch),
        "prefix_cache_path": str(scratch),
        "llm_model": str(folder.graph),
        "llm_weight": str(folder.weights),
        "embedding_file": str(folder.embeddings),
        "tokenizer_file": str(scratch / "tokenizer.mtok"),
        "backend_type": "cpu",
        "thread_num": threads,
        "precision": level,
        "memory": level,
        "use_mmap": False,
        "use_cached_mmap": False,
        "kvcache_mmap": False,
        "reuse_kv": True,
        "use_template": False,
        "sampler_type": "greedy",
        **folder.shape,
    }


EMPTY_TOKENIZER = b"430 4\n0 0 0\n\n" + bytes(2 + 11 + 1 + 4)
"""A tokenizer without tokens, so that MNN never parses the model's own: text becomes tokens in Python."""


def _read_at(file: BinaryIO, offset: int, length: int) -> bytes:
    file.seek(offset)
    return file.read(length)


class _Files:
    """The files of one folder, and errors that name them."""

    def __init__(self, folder: Path) -> None:
        if not folder.is_dir():
            raise ModelLoadError(f"{folder} is not a folder with an exported MNN model.", hint=HINT, path=str(folder))
        self._folder = folder
        root = folder.resolve()
        self._roots = [root]
        if root.parent.name == "snapshots":  # the hub's cache keeps files beside its snapshots, and links to them
            self._roots.append(root.parent.parent / "blobs")

    def error(self, name: str, reason: str) -> ModelLoadError:
        return ModelLoadError(f"{self._folder / name}: {reason}.", hint=HINT, path=str(self._folder), file=name)

    def find(self, name: str, limit: int) -> Path:
        """The file of that name, which is a part of the folder, not empty, and not too large."""
        if not name or name != Path(name).name or "\\" in name or "\0" in name:
            raise self.error("config.json", f"{name!r} is not the name of a file in the folder")
        try:
            path = (self._folder / name).resolve(strict=True)
            size = path.stat().st_size
        except (OSError, RuntimeError):
            raise self.error(name, "it is missing") from None
        if not any(root in path.parents for root in self._roots):
            raise self.error(name, "it is a link that leads out of the folder")
        if not path.is_file():
            raise self.error(name, "it is not a file")
        if not 0 < size <= limit:
            raise self.error(name, f"it has {size:,} bytes; 1 to {limit:,} are possible")
        return path

    def named(self, config: Mapping[str, Any], key: str, default: str | None, limit: int) -> Path:
        """The file that the configuration names."""
        name = config.get(key, default)
        if not isinstance(name, str):
            raise self.error("config.json", f"{key}: expected the name of a file, got {name!r}")
        return self.find(name, limit)

    def json(self, name: str, *, required: bool) -> dict[str, Any]:
        """A JSON object."""
        if not required and not (self._folder / name).exists():
            return {}
        try:
            value = json.loads(self.find(name, MAX_CONFIG_BYTES).read_bytes())
        except (ValueError, RecursionError) as error:
            raise self.error(name, f"it is not JSON: {error}") from None
        if not isinstance(value, dict):
            raise self.error(name, "it is not a JSON object")
        return value

    def configuration(self) -> dict[str, Any]:
        """Both JSON files in one, as MNN joins them."""
        config, model = self.json("config.json", required=False), self.json("llm_config.json", required=True)
        if config.get("base_dir") or config.get("llm_config", "llm_config.json") != "llm_config.json":
            raise self.error("config.json", "base_dir, llm_config: it names files elsewhere")
        merged = {**config, **model}
        for key in REFUSED:
            if merged.get(key):
                raise self.error(
                    "llm_config.json", f"{key}: models that see, hear, speak or embed per layer are not run"
                )
        return merged

    def integer(self, config: Mapping[str, Any], key: str, low: int, high: int) -> int:
        value = config.get(key)
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise self.error("llm_config.json", f"{key}: expected {low:,} to {high:,}, got {value!r}")
        return value

    def choice(self, config: Mapping[str, Any], key: str, default: str, known: tuple[str, ...]) -> str:
        value = config.get(key, default)
        if value not in known:
            raise self.error("llm_config.json", f"{key}: expected one of {', '.join(known)}, got {value!r}")
        return str(value)


def _tied(files: _Files, value: Any) -> dict[str, Any]:
    """``tie_embeddings`` in its newer form: where in a file the rows of the embedding are, and how they are packed."""
    names = ("weight_offset", "alpha_offset", "alpha_size", "quant_bit", "quant_block")
    dtype = "fp32"
    if isinstance(value, list) and 5 <= len(value) <= 6:
        dtype = "fp16" if len(value) == 6 and value[5] else "fp32"
        value = dict(zip(names, value[:5], strict=True))
    elif isinstance(value, dict):
        dtype = value.get("alpha_dtype", "fp32")
    if not isinstance(value, dict) or dtype not in ("fp16", "fp32"):
        raise files.error("llm_config.json", f"tie_embeddings: expected 5 numbers, got {value!r}")
    return {name: files.integer(value, name, 0, MAX_FILE_BYTES) for name in names} | {"alpha_dtype": dtype}


def _check_tied(files: _Files, tied: Mapping[str, Any], path: Path, hidden_size: int, tokens: int) -> None:
    bits, block, start = tied["quant_bit"], tied["quant_block"], tied["weight_offset"]
    size, row_bytes = path.stat().st_size, hidden_size * bits // 8
    if bits not in (4, 8, 16) or hidden_size * bits % 8:
        raise files.error("llm_config.json", f"tie_embeddings: rows of {bits} bits are not known")
    if bits == 16:
        if start + tokens * row_bytes > size:
            raise files.error(path.name, f"its {size:,} bytes do not hold the embeddings of {tokens:,} tokens")
        return
    rows, rest = divmod(tied["alpha_offset"] - start, row_bytes)
    blocks = hidden_size // block if block else 1
    if rest or rows < tokens or (block and hidden_size % block):
        raise files.error("llm_config.json", f"tie_embeddings: it does not hold the embeddings of {tokens:,} tokens")
    item = 2 if tied["alpha_dtype"] == "fp16" else 4
    if tied["alpha_size"] not in (item * blocks * rows, 2 * item * blocks * rows):
        raise files.error("llm_config.json", "tie_embeddings: its scales do not match its rows")
    if tied["alpha_offset"] + tied["alpha_size"] > size:
        raise files.error(path.name, f"its {size:,} bytes end before the scales of the embeddings")
