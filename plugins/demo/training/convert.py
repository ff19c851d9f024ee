"""Converts the trained Hugging Face folder to GGUF, MNN and MLX; ``--check`` compares with what is committed.

Needs ``gguf`` and ``llmexport`` (see README.md: an environment of its own). It knows nothing about training.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import json
import re
import shutil
import subprocess
import sys
import tempfile
import uuid
from pathlib import Path

import gguf
import numpy as np
from safetensors.torch import load_file

MODELS = Path(__file__).resolve().parent.parent / "src" / "enginebay_demo" / "models"
HUGGING_FACE_FILES = (
    "config.json",
    "generation_config.json",
    "model.safetensors",
    "tokenizer.json",
    "tokenizer_config.json",
)
MNN_FILES = ("llm.mnn", "llm.mnn.weight", "llm_config.json", "tokenizer.mtok")
# Exact and deterministic; the exporter's own defaults are lossy and random, and the caller renders the template.
MNN_CONFIG = {
    "llm_model": "llm.mnn",
    "llm_weight": "llm.mnn.weight",
    "tokenizer_file": "tokenizer.mtok",
    "backend_type": "cpu",
    "thread_num": 2,
    "precision": "high",
    "memory": "high",
    "sampler_type": "greedy",
    "use_template": False,
}


def write_mlx(source: Path, target: Path) -> None:
    """mlx-lm reads the Hugging Face folder as it is."""
    target.mkdir(parents=True)
    for name in HUGGING_FACE_FILES:
        shutil.copyfile(source / name, target / name)


def write_gguf(source: Path, target: Path) -> None:
    """One file in float32, in which every bfloat16 weight is exact; the output matrix is the tied embedding."""
    config = json.loads((source / "config.json").read_text())
    tokenizer = json.loads((source / "tokenizer.json").read_text())
    template = json.loads((source / "tokenizer_config.json").read_text())["chat_template"]
    target.parent.mkdir(parents=True)
    writer = gguf.GGUFWriter(target, "llama")
    writer.add_name("Enginebay demo")
    writer.add_license("MIT")
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    writer.add_vocab_size(config["vocab_size"])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_rope_dimension_count(config["head_dim"])
    writer.add_rope_freq_base(config["rope_parameters"]["rope_theta"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])

    types = {
        token["id"]: gguf.TokenType.CONTROL if token["special"] else gguf.TokenType.USER_DEFINED
        for token in tokenizer["added_tokens"]
    }
    vocabulary = sorted(tokenizer["model"]["vocab"], key=tokenizer["model"]["vocab"].__getitem__)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list(vocabulary)
    writer.add_token_types([types.get(index, gguf.TokenType.NORMAL) for index in range(len(vocabulary))])
    writer.add_token_merges([" ".join(merge) for merge in tokenizer["model"]["merges"]])
    end_of_turn, end_of_text = config["eos_token_id"]
    writer.add_eos_token_id(end_of_turn)
    writer.add_eot_token_id(end_of_turn)
    writer.add_pad_token_id(end_of_text)
    writer.add_add_bos_token(False)
    writer.add_chat_template(template)

    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config["num_hidden_layers"])
    for name, tensor in load_file(source / "model.safetensors").items():
        values = tensor.float().numpy()
        if name.endswith(("q_proj.weight", "k_proj.weight")):
            values = _interleave(values, config["num_attention_heads"])
        new_name = names.get_name(name, try_suffixes=(".weight",))
        assert new_name is not None, name
        writer.add_tensor(new_name, np.ascontiguousarray(values))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _interleave(values: np.ndarray, heads: int) -> np.ndarray:
    """Rows of each head in the order that llama.cpp's rotary embedding pairs them: (i, i + half) become neighbours."""
    rows, columns = values.shape
    return values.reshape(heads, 2, rows // heads // 2, columns).swapaxes(1, 2).reshape(rows, columns)


def write_mnn(source: Path, target: Path) -> None:
    """Runs llmexport in a folder that is thrown away, and keeps the files that the engine reads."""
    target.mkdir(parents=True)
    with tempfile.TemporaryDirectory() as folder:
        package = importlib.util.find_spec("llmexport")
        if package is None or package.origin is None:
            sys.exit("llmexport is missing: pip install llmexport")
        # As a script, for its imports are relative to its folder.
        script = Path(package.origin).with_name("llmexport.py")
        options = ["--export", "mnn", "--quant_bit", "16", "--dst_path", folder]
        command = [sys.executable, str(script), "--path", str(source.resolve()), *options]
        subprocess.run(command, cwd=folder, check=True, stdout=sys.stderr)
        for name in MNN_FILES:
            shutil.copyfile(Path(folder, name), target / name)
    # The exporter stamps its graph with a random identifier; one made of the weights keeps the file the same.
    stamp = str(uuid.uuid5(uuid.NAMESPACE_OID, hashlib.sha256((target / "llm.mnn.weight").read_bytes()).hexdigest()))
    graph = (target / "llm.mnn").read_bytes()
    (target / "llm.mnn").write_bytes(
        re.sub(rb"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", stamp.encode(), graph, count=1)
    )
    positions = json.loads((source / "config.json").read_text())["max_position_embeddings"]
    config = MNN_CONFIG | {"max_position_embeddings": positions}
    (target / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    _name_all_end_tokens(
        target / "tokenizer.mtok", json.loads((source / "generation_config.json").read_text())["eos_token_id"]
    )


def _name_all_end_tokens(path: Path, end: list[int]) -> None:
    """The exporter names the tokenizer's one end token; the model has several. Second line: counts; third: the ids."""
    magic, counts, ids, body = path.read_bytes().split(b"\n", 3)
    specials, stops, prefixes = (int(count) for count in counts.split())
    numbers = ids.split()
    kept = [*numbers[:specials], *(str(token).encode() for token in end), *numbers[specials + stops :]]
    header = [magic, f"{specials} {len(end)} {prefixes}".encode(), b" ".join(kept)]
    path.write_bytes(b"\n".join([*header, body]))


def write_all(source: Path, target: Path) -> None:
    write_mlx(source, target / "mlx")
    write_gguf(source, target / "gguf" / "demo.gguf")
    write_mnn(source, target / "mnn")


def _files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, nargs="?", default=MODELS / "mlx", help="the trained Hugging Face folder")
    parser.add_argument("--check", action="store_true", help="convert again, and compare with the committed files")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        write_all(arguments.folder, Path(temporary, "models"))
        made = _files(Path(temporary, "models"))
        if not arguments.check:
            shutil.rmtree(MODELS, ignore_errors=True)
            shutil.copytree(Path(temporary, "models"), MODELS)
        kept = _files(MODELS)
    for name in sorted(made.keys() | kept.keys()):
        print(f"{'same' if made.get(name) == kept.get(name) else 'DIFFERENT'} {len(kept.get(name, b''))} {name}")
    return int(made != kept)


if __name__ == "__main__":
    sys.exit(main())
