"""Trains the demo model from scratch: a byte-level BPE tokenizer and a small Llama, saved as a Hugging Face folder.

The text comes from generate.py; this script knows nothing about other formats or engines.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import time
from collections.abc import Iterator
from pathlib import Path

import jinja2
import torch
from generate import Document, documents
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from torch.nn.functional import cross_entropy
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM

VOCABULARY = 768
SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
MARKERS = ("<tool_call>", "</tool_call>")
TEMPLATE = (Path(__file__).parent / "template.jinja").read_text().strip()
# The pre-tokenizer that llama.cpp calls "qwen2": every digit stands alone.
SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
PROMPT_WEIGHT = 0.1
MIN_NORMAL = 6.1035e-05
"""The smallest normal float16: below it bfloat16 values are not exact in float16."""

_render = jinja2.Environment(autoescape=False).from_string(TEMPLATE).render


def text_of(document: Document) -> str:
    """The document as the model reads it, end token included."""
    if document.messages is None:
        return f"{document.text}{SPECIAL[0]}"
    return _render(messages=document.messages, tools=document.tools)


def train_tokenizer(seed: int) -> Tokenizer:
    """A BPE tokenizer in which no merge holds a capital, so that a name has the same tokens wherever it stands."""
    tokenizer = Tokenizer(models.BPE())
    capitals = pre_tokenizers.Split(Regex(r"\p{Lu}"), "isolated")
    words = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(SPLIT), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([capitals, words])
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[*SPECIAL, *MARKERS],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    corpus = (text_of(document) for document in itertools.islice(documents(seed), 6000))
    tokenizer.train_from_iterator((part for text in corpus for part in text.split("<|")), trainer)
    tokenizer.pre_tokenizer = words
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIAL])
    tokenizer.add_tokens([AddedToken(token, special=False, normalized=False) for token in MARKERS])
    return tokenizer


def configuration(layers: int, width: int, feed_forward: int) -> LlamaConfig:
    return LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=width,
        intermediate_size=feed_forward,
        num_hidden_layers=layers,
        num_attention_heads=width // 32,
        num_key_value_heads=width // 32,
        head_dim=32,
        max_position_embeddings=2048,
        rms_norm_eps=1e-5,
        tie_word_embeddings=True,
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
        bos_token_id=None,
        eos_token_id=[2, 0],
        pad_token_id=0,
        use_cache=True,
    )


def batches(tokenizer: Tokenizer, seed: int, tokens: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Batches of about ``tokens`` ids, documents of like length together, and each id's weight in the loss."""
    stream = documents(seed)
    order = torch.Generator().manual_seed(seed)
    begin = tokenizer.encode(f"{SPECIAL[1]}assistant\n").ids
    while True:
        pool: list[tuple[list[int], list[float]]] = []
        for encoding in tokenizer.encode_batch([text_of(document) for document in itertools.islice(stream, 1500)]):
            ids = encoding.ids[:1024]
            answering, weights = ids[0] != 1, []
            for place, token in enumerate(ids):
                weights.append(1.0 if answering else PROMPT_WEIGHT)
                if ids[place - len(begin) + 1 : place + 1] == begin:
                    answering = True
                elif token == 2:
                    answering = False
            pool.append((ids, weights))
        pool.sort(key=lambda document: len(document[0]))
        groups: list[list[tuple[list[int], list[float]]]] = [[]]
        for document in pool:
            if (len(groups[-1]) + 1) * len(document[0]) > tokens:
                groups.append([])
            groups[-1].append(document)
        for index in torch.randperm(len(groups), generator=order).tolist():
            length = max(len(ids) for ids, _ in groups[index])
            yield (
                torch.tensor([ids + [0] * (length - len(ids)) for ids, _ in groups[index]]),
                torch.tensor([weights + [0.0] * (length - len(weights)) for _, weights in groups[index]]),
            )


def round_weights(model: LlamaForCausalLM) -> None:
    """Rounds to bfloat16 in place, and to 0 what float16 cannot hold exactly."""
    with torch.no_grad():
        for parameter in model.parameters():
            rounded = parameter.bfloat16().float()
            parameter.copy_(torch.where(rounded.abs() < MIN_NORMAL, 0.0, rounded))
            assert float(parameter.abs().max()) < 65504


def save(model: LlamaForCausalLM, tokenizer: Tokenizer, folder: Path) -> None:
    """Writes the Hugging Face folder, in float32, with rounded weights, leaving ``model`` as it was.

    An engine computes in the type that it finds: in bfloat16 the tokens of different engines would differ.
    """
    kept = {name: value.clone() for name, value in model.state_dict().items()}
    round_weights(model)
    model.generation_config = GenerationConfig(eos_token_id=[2, 0], pad_token_id=0)  # type: ignore[no-untyped-call]
    model.save_pretrained(folder)
    model.load_state_dict(kept)
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {
        "chat_template": TEMPLATE,
        "clean_up_tokenization_spaces": False,
        "eos_token": SPECIAL[2],
        "model_max_length": 2048,
        "pad_token": SPECIAL[0],
        "tokenizer_class": "PreTrainedTokenizerFast",
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, ensure_ascii=False, indent=2) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="where the Hugging Face folder goes")
    parser.add_argument("--steps", type=int, default=3600)
    parser.add_argument("--tokens", type=int, default=4608, help="ids in a batch")
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--width", type=int, default=160)
    parser.add_argument("--feed-forward", type=int, default=448)
    parser.add_argument("--rate", type=float, default=0.02, help="learning rate of the matrices (Muon)")
    parser.add_argument("--resume", type=Path, metavar="FOLDER", help="go on from this Hugging Face folder")
    parser.add_argument("--start", type=int, default=0, help="with --resume: the step at which to go on")
    parser.add_argument("--save-every", type=int, default=400)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(arguments.seed)

    if arguments.resume:
        tokenizer = Tokenizer.from_file(str(arguments.resume / "tokenizer.json"))
        model = LlamaForCausalLM.from_pretrained(arguments.resume, dtype=torch.float32)
    else:
        tokenizer = train_tokenizer(arguments.seed)
        model = LlamaForCausalLM(configuration(arguments.layers, arguments.width, arguments.feed_forward))
    matrices = [value for name, value in model.named_parameters() if value.ndim == 2 and "embed" not in name]
    others = [value for name, value in model.named_parameters() if value.ndim != 2 or "embed" in name]
    optimizers = [
        torch.optim.Muon(matrices, lr=arguments.rate, weight_decay=0.01),
        torch.optim.AdamW(others, lr=3e-3, betas=(0.9, 0.98), weight_decay=0.0),
    ]

    def rate(step: int) -> float:
        left = (arguments.steps - arguments.start - step) / arguments.steps
        return min((step + 1) / 60, 0.5 - 0.5 * math.cos(math.pi * left)) + 0.002

    schedules = [torch.optim.lr_scheduler.LambdaLR(optimizer, rate) for optimizer in optimizers]
    print(f"{sum(value.numel() for value in model.parameters())} parameters", flush=True)
    started, seen, total = time.monotonic(), 0, 0.0
    stream = batches(tokenizer, arguments.seed + 1, arguments.tokens)
    stream = itertools.islice(stream, arguments.steps - arguments.start)
    for step, (ids, weights) in enumerate(stream):
        logits = model(input_ids=ids[:, :-1]).logits
        losses = cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten(), reduction="none")
        scale = weights[:, 1:].flatten()
        loss = (losses * scale).sum() / scale.sum()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer, schedule in zip(optimizers, schedules, strict=True):
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
        seen, total = seen + ids.numel(), total + float(loss.detach())
        if step % 50 == 49:
            minutes = (time.monotonic() - started) / 60
            print(
                f"step {step + 1} loss {total / 50:.4f} {seen / minutes / 60:.0f} tokens/s {minutes:.1f} min",
                flush=True,
            )
            total = 0.0
        if (step + 1) % arguments.save_every == 0:
            save(model, tokenizer, arguments.folder)
    save(model, tokenizer, arguments.folder)


if __name__ == "__main__":
    main()
