"""Writes an mlx-lm folder with 40 million random weights in bfloat16: some milliseconds a step on a processor, no real words.

    python make_folder.py middling

The tokenizer is the demo model's: smaller than the matrix of logits, which has 32,000 rows. MLX on a processor is not quick; a
model of useful size would take minutes for what is compared here, and say the same.
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path

SHAPE = {
    "model_type": "qwen2",
    "architectures": ["Qwen2ForCausalLM"],
    "hidden_size": 512,
    "num_hidden_layers": 8,
    "intermediate_size": 1_536,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
    "rms_norm_eps": 1e-6,
    "vocab_size": 32_000,
    "max_position_embeddings": 4_096,
    "rope_theta": 1_000_000.0,
    "tie_word_embeddings": True,
    "torch_dtype": "bfloat16",
}


def make(folder: Path, *, seed: int = 0) -> Path:
    """The model at ``folder``, written if it is not there."""
    if (folder / "config.json").exists():
        return folder
    import mlx.core as mx
    from mlx.utils import tree_flatten
    from mlx_lm.models.qwen2 import Model, ModelArgs

    import enginebay_demo

    mx.random.seed(seed)
    model = Model(ModelArgs.from_dict(SHAPE))
    model.set_dtype(mx.bfloat16)
    folder.mkdir(parents=True, exist_ok=True)
    mx.save_safetensors(str(folder / "model.safetensors"), dict(tree_flatten(model.parameters())), {"format": "mlx"})
    demo = Path(enginebay_demo.__file__).parent / "models" / "mlx"
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(demo / name, folder)
    ends = json.loads((demo / "config.json").read_text())["eos_token_id"]
    config = {**SHAPE, "eos_token_id": ends}
    (folder / "config.json").write_text(json.dumps(config, indent=1))
    return folder


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    made = make(parser.parse_args().folder)
    print(f"{made}: {(made / 'model.safetensors').stat().st_size / 1e6:,.0f} MB")
