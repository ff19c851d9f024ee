"""Writes ``embedder``: a tiny embedding model with random weights, exported by llmexport, and vectors by transformers.

python make_embedder.py        (needs torch, transformers, tokenizers and llmexport; the tests need none of them)
"""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

FILES = ("llm.mnn", "llm.mnn.weight", "llm_config.json", "config.json", "tokenizer.mtok", "embeddings_bf16.bin")
TEXTS = ["a", "The quick brown fox.", "é 日本"]


def main() -> None:
    torch.manual_seed(0)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({text: index for index, text in enumerate(alphabet)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<|endoftext|>"])
    config = Qwen3Config(
        vocab_size=264,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=16,
        max_position_embeddings=256,
        tie_word_embeddings=True,
    )
    model = Qwen3ForCausalLM(config).eval()
    for parameter in model.parameters():
        parameter.data = (parameter.data * 3).bfloat16().float()
    target = Path(__file__).with_name("embedder")
    with tempfile.TemporaryDirectory() as scratch:
        source = Path(scratch, "Qwen3-Embedding")  # llmexport knows an embedding model by its folder's name
        model.save_pretrained(source)
        PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|endoftext|>").save_pretrained(source)
        package = importlib.util.find_spec("llmexport")
        assert package is not None
        assert package.origin is not None
        script = Path(package.origin).with_name("llmexport.py")
        options = ["--export", "mnn", "--quant_bit", "16", "--dst_path", str(Path(scratch, "mnn"))]
        subprocess.run([sys.executable, str(script), "--path", str(source), *options], cwd=scratch, check=True)
        shutil.rmtree(target, ignore_errors=True)
        target.mkdir()
        for name in FILES:
            shutil.copyfile(Path(scratch, "mnn", name), target / name)
    vectors = {}
    for text in TEXTS:
        ids = [*tokenizer.encode(text).ids, tokenizer.token_to_id("<|endoftext|>")]
        with torch.no_grad():
            vectors[text] = model.model(torch.tensor([ids])).last_hidden_state[0, -1].tolist()
    (target / "vectors.json").write_text(json.dumps(vectors), "utf-8")


main()
