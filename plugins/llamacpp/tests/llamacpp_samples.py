"""Tiny models with random weights, written with the ``gguf`` package. It knows no engine."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np

WIDTH, HEADS, KV_HEADS, LAYERS, FORWARD, CONTEXT = 64, 2, 1, 2, 64, 128
RANK = 2

Open = Callable[..., Any]
"""The fixture ``open_steps``."""


def byte_tokens() -> list[str]:
    """The 256 characters by which byte-level vocabularies spell bytes, in the order of the bytes (GPT-2's table)."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    table = {byte: chr(byte) for byte in plain}
    for extra, byte in enumerate(byte for byte in range(256) if byte not in table):
        table[byte] = chr(256 + extra)
    return [table[byte] for byte in range(256)]


def _byte_level(writer: gguf.GGUFWriter, pre: str = "qwen2") -> int:
    merges = ["t h", "th e", "Ġ the", "a n", "an d", "Ġ and"]
    tokens = [*byte_tokens(), *(merge.replace(" ", "") for merge in merges)]
    kinds = [gguf.TokenType.NORMAL] * len(tokens)
    for text, kind in (
        ("<bos>", gguf.TokenType.CONTROL),
        ("<eos>", gguf.TokenType.CONTROL),
        ("<tool>", gguf.TokenType.USER_DEFINED),
    ):
        tokens.append(text)
        kinds.append(kind)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre)
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    writer.add_token_merges(merges)
    writer.add_bos_token_id(len(tokens) - 3)
    writer.add_eos_token_id(len(tokens) - 2)
    writer.add_add_bos_token(True)
    return len(tokens)


def _sentence_piece(writer: gguf.GGUFWriter) -> int:
    """A SentencePiece vocabulary that puts a space before text unless it is told not to."""
    tokens = [
        "<unk>",
        "<s>",
        "</s>",
        *(f"<0x{byte:02X}>" for byte in range(256)),
        "▁",
        "h",
        "e",
        "l",
        "o",
        "he",
        "ll",
        "▁he",
        "hell",
        "hello",
        "▁hello",
    ]
    kinds = [gguf.TokenType.UNKNOWN, gguf.TokenType.CONTROL, gguf.TokenType.CONTROL]
    kinds += [gguf.TokenType.BYTE] * 256
    kinds += [gguf.TokenType.NORMAL] * (len(tokens) - len(kinds))
    writer.add_tokenizer_model("llama")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(tokens)
    writer.add_token_scores([-float(index) for index in range(len(tokens))])
    writer.add_token_types(kinds)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    return len(tokens)


def _word_piece(writer: gguf.GGUFWriter) -> int:
    tokens = [
        "[PAD]",
        "[UNK]",
        "[CLS]",
        "[SEP]",
        "[MASK]",
        *(f"▁{letter}" for letter in "abcdefghijklmnopqrstuvwxyz"),
        *"abcdefghijklmnopqrstuvwxyz",
    ]
    writer.add_tokenizer_model("bert")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(tokens)
    writer.add_token_types([gguf.TokenType.CONTROL] * 5 + [gguf.TokenType.NORMAL] * (len(tokens) - 5))
    writer.add_token_type_count(2)
    writer.add_pad_token_id(0)
    writer.add_unk_token_id(1)
    writer.add_bos_token_id(2)
    writer.add_sep_token_id(3)
    writer.add_eos_token_id(3)
    writer.add_mask_token_id(4)
    return len(tokens)


def _numbers(writer: gguf.GGUFWriter, *, feed_forward: int = FORWARD, heads: int = HEADS) -> None:
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(feed_forward)
    writer.add_head_count(heads)


def llama(path: Path, *, vocabulary: str = "qwen2", pooling: gguf.PoolingType | None = None, seed: int = 7) -> Path:
    """A Llama of two layers. ``vocabulary`` names a pre-tokenizer; with ``pooling`` it is an embedding model."""
    random = np.random.default_rng(seed)
    writer = gguf.GGUFWriter(path, "llama")
    _numbers(writer)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(WIDTH // HEADS)
    writer.add_rope_freq_base(10_000.0)
    if pooling is not None:
        writer.add_pooling_type(pooling)
    tokens = _sentence_piece(writer) if vocabulary == "sentence-piece" else _byte_level(writer, vocabulary)
    writer.add_vocab_size(tokens)
    writer.add_chat_template("{{ bos_token }}{% for m in messages %}{{ m.content }}{% endfor %}")

    def matrix(name: str, *shape: int) -> None:
        writer.add_tensor(name, random.normal(0, 0.3, shape).astype(np.float32))

    matrix("token_embd.weight", tokens, WIDTH)
    writer.add_tensor("output_norm.weight", np.ones(WIDTH, np.float32))
    for layer in range(LAYERS):
        writer.add_tensor(f"blk.{layer}.attn_norm.weight", np.ones(WIDTH, np.float32))
        writer.add_tensor(f"blk.{layer}.ffn_norm.weight", np.ones(WIDTH, np.float32))
        matrix(f"blk.{layer}.attn_q.weight", WIDTH, WIDTH)
        matrix(f"blk.{layer}.attn_k.weight", WIDTH // HEADS * KV_HEADS, WIDTH)
        matrix(f"blk.{layer}.attn_v.weight", WIDTH // HEADS * KV_HEADS, WIDTH)
        matrix(f"blk.{layer}.attn_output.weight", WIDTH, WIDTH)
        matrix(f"blk.{layer}.ffn_gate.weight", FORWARD, WIDTH)
        matrix(f"blk.{layer}.ffn_up.weight", FORWARD, WIDTH)
        matrix(f"blk.{layer}.ffn_down.weight", WIDTH, FORWARD)
    return _write(writer, path)


def mamba(path: Path) -> Path:
    """A recurrent model of two layers: its state after some tokens is all that it keeps of them."""
    inner, state, rank, kernel = 2 * WIDTH, 8, 4, 4
    random = np.random.default_rng(17)
    writer = gguf.GGUFWriter(path, "mamba")
    _numbers(writer, feed_forward=0, heads=0)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_ssm_conv_kernel(kernel)
    writer.add_ssm_inner_size(inner)
    writer.add_ssm_state_size(state)
    writer.add_ssm_time_step_rank(rank)
    tokens = _byte_level(writer)

    def matrix(name: str, *shape: int) -> None:
        writer.add_tensor(name, random.normal(0, 0.3, shape).astype(np.float32))

    matrix("token_embd.weight", tokens, WIDTH)
    writer.add_tensor("output_norm.weight", np.ones(WIDTH, np.float32))
    for layer in range(LAYERS):
        writer.add_tensor(f"blk.{layer}.attn_norm.weight", np.ones(WIDTH, np.float32))
        matrix(f"blk.{layer}.ssm_in.weight", 2 * inner, WIDTH)
        matrix(f"blk.{layer}.ssm_conv1d.weight", inner, kernel)
        matrix(f"blk.{layer}.ssm_conv1d.bias", inner)
        matrix(f"blk.{layer}.ssm_x.weight", rank + 2 * state, inner)
        matrix(f"blk.{layer}.ssm_dt.weight", inner, rank)
        matrix(f"blk.{layer}.ssm_dt.bias", inner)
        writer.add_tensor(f"blk.{layer}.ssm_a", -np.abs(random.normal(1, 0.3, (inner, state))).astype(np.float32))
        matrix(f"blk.{layer}.ssm_d", inner)
        matrix(f"blk.{layer}.ssm_out.weight", WIDTH, inner)
    return _write(writer, path)


def quantized(source: Path, target: Path) -> Path:
    """The same model with weights of eight bits, by llama.cpp's own quantizer."""
    from enginebay_llamacpp import library

    native = library.load()
    params = native.llama_model_quantize_default_params()
    params.ftype = native.LLAMA_FTYPE_MOSTLY_Q8_0
    assert native.llama_model_quantize(bytes(source), bytes(target), ctypes.byref(params)) == 0
    return target


def bert(path: Path, *, pooling: gguf.PoolingType | None = gguf.PoolingType.CLS) -> Path:
    """An encoder of two layers that pools by its first position, or does not say how."""
    random = np.random.default_rng(11)
    writer = gguf.GGUFWriter(path, "bert")
    _numbers(writer)
    writer.add_layer_norm_eps(1e-12)
    writer.add_causal_attention(False)
    if pooling is not None:
        writer.add_pooling_type(pooling)
    tokens = _word_piece(writer)

    def matrix(name: str, *shape: int) -> None:
        writer.add_tensor(name, random.normal(0, 0.3, shape).astype(np.float32))

    def norm(name: str) -> None:
        writer.add_tensor(f"{name}.weight", np.ones(WIDTH, np.float32))
        writer.add_tensor(f"{name}.bias", np.zeros(WIDTH, np.float32))

    matrix("token_embd.weight", tokens, WIDTH)
    matrix("position_embd.weight", CONTEXT, WIDTH)
    matrix("token_types.weight", 2, WIDTH)
    norm("token_embd_norm")
    for layer in range(LAYERS):
        for name, rows, columns in (
            ("attn_q", WIDTH, WIDTH), ("attn_k", WIDTH, WIDTH), ("attn_v", WIDTH, WIDTH), ("attn_output", WIDTH, WIDTH),
            ("ffn_up", FORWARD, WIDTH), ("ffn_down", WIDTH, FORWARD),
        ):  # fmt: skip
            matrix(f"blk.{layer}.{name}.weight", rows, columns)
            matrix(f"blk.{layer}.{name}.bias", rows)
        norm(f"blk.{layer}.attn_output_norm")
        norm(f"blk.{layer}.layer_output_norm")
    return _write(writer, path)


def adapter(path: Path, *, width: int = WIDTH, layer: int = 0) -> Path:
    """A LoRA adapter for one matrix of ``llama``."""
    random = np.random.default_rng(13)
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_type("adapter")
    writer.add_string("adapter.type", "lora")
    writer.add_float32("adapter.lora.alpha", 4.0)
    writer.add_tensor(f"blk.{layer}.attn_q.weight.lora_a", random.normal(0, 1, (RANK, width)).astype(np.float32))
    writer.add_tensor(f"blk.{layer}.attn_q.weight.lora_b", random.normal(0, 1, (width, RANK)).astype(np.float32))
    return _write(writer, path)


def _write(writer: gguf.GGUFWriter, path: Path) -> Path:
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
