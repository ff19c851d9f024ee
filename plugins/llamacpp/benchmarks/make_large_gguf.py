"""Writes a GGUF of Qwen2.5-0.5B's shape with random weights, quantized to Q4_K_M. Real size and speed, no real words.

    python make_large_gguf.py ~/.cache/enginebay/large.gguf

Needs the extra ``enginebay-llamacpp[benchmarks]``, 4 GB of disk while it works and a minute or two.
"""

from __future__ import annotations

import argparse
import ctypes
from pathlib import Path

import gguf
import numpy as np
from llama_cpp import llama_cpp

LAYERS, WIDTH, HEADS, KV_HEADS, FORWARD, VOCABULARY = 24, 896, 14, 2, 4_864, 151_936
SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")


def byte_characters() -> list[str]:
    """The 256 characters by which byte-level vocabularies spell bytes, in the order of the bytes (GPT-2's table)."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    table = {byte: chr(byte) for byte in plain}
    for extra, byte in enumerate(byte for byte in range(256) if byte not in table):
        table[byte] = chr(256 + extra)
    return [table[byte] for byte in range(256)]


def vocabulary() -> tuple[list[str], list[str]]:
    """Tokens and merges: all bytes, then pairs, triples and so on of letters, with and without a space before them."""
    tokens = byte_characters()
    merges: list[str] = []
    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)]
    grow = ["Ġ", *letters]
    wanted = VOCABULARY - len(SPECIAL)
    while len(tokens) < wanted:
        longer = []
        for stem in grow:
            for letter in letters:
                if len(tokens) == wanted:
                    return tokens, merges
                tokens.append(stem + letter)
                merges.append(f"{stem} {letter}")
                longer.append(stem + letter)
        grow = longer
    return tokens, merges


def write(path: Path, seed: int) -> None:
    """Write the model with weights of float16."""
    random = np.random.default_rng(seed)
    writer = gguf.GGUFWriter(path, "qwen2")
    writer.add_name("Random weights in the shape of Qwen2.5-0.5B")
    writer.add_context_length(32_768)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(FORWARD)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_rope_freq_base(1_000_000.0)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16)
    tokens, merges = vocabulary()
    kinds = [gguf.TokenType.NORMAL] * len(tokens) + [gguf.TokenType.CONTROL] * len(SPECIAL)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list([*tokens, *SPECIAL])
    writer.add_token_types(kinds)
    writer.add_token_merges(merges)
    writer.add_eos_token_id(VOCABULARY - 1)
    writer.add_add_bos_token(False)

    def matrix(name: str, rows: int, columns: int) -> None:
        writer.add_tensor(name, (random.standard_normal((rows, columns), np.float32) * 0.02).astype(np.float16))

    def vector(name: str, size: int, value: float) -> None:
        writer.add_tensor(name, np.full(size, value, np.float32))

    key = WIDTH // HEADS * KV_HEADS
    matrix("token_embd.weight", VOCABULARY, WIDTH)
    vector("output_norm.weight", WIDTH, 1.0)
    for layer in range(LAYERS):
        block = f"blk.{layer}"
        vector(f"{block}.attn_norm.weight", WIDTH, 1.0)
        vector(f"{block}.ffn_norm.weight", WIDTH, 1.0)
        for name, rows, columns in (
            ("attn_q", WIDTH, WIDTH),
            ("attn_k", key, WIDTH),
            ("attn_v", key, WIDTH),
            ("attn_output", WIDTH, WIDTH),
            ("ffn_gate", FORWARD, WIDTH),
            ("ffn_up", FORWARD, WIDTH),
            ("ffn_down", WIDTH, FORWARD),
        ):
            matrix(f"{block}.{name}.weight", rows, columns)
        vector(f"{block}.attn_q.bias", WIDTH, 0.0)
        vector(f"{block}.attn_k.bias", key, 0.0)
        vector(f"{block}.attn_v.bias", key, 0.0)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def quantize(source: Path, target: Path) -> None:
    """Quantize to Q4_K_M with the library's own quantizer."""
    params = llama_cpp.llama_model_quantize_default_params()
    params.ftype = llama_cpp.LLAMA_FTYPE_MOSTLY_Q4_K_M
    if llama_cpp.llama_model_quantize(str(source).encode(), str(target).encode(), ctypes.byref(params)):
        raise SystemExit(f"llama.cpp could not quantize {source}")


def make(path: Path, *, seed: int = 0) -> Path:
    """The model at ``path``, written if it is not there."""
    if path.exists():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    plain, partial = path.with_suffix(".f16.gguf"), path.with_suffix(".partial")
    try:
        write(plain, seed)
        quantize(plain, partial)
        partial.rename(path)
    finally:
        plain.unlink(missing_ok=True)
        partial.unlink(missing_ok=True)
    return path


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("path", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    made = make(arguments.path, seed=arguments.seed)
    print(f"{made}: {made.stat().st_size / 1e6:,.0f} MB")
