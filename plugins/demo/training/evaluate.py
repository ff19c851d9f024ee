"""Scores the demo model: 95 of 100 fresh cases and 85 of 100 with held-out words must be right.

``--engine`` names an engine of Enginebay, or ``transformers``. ``--search`` looks for held-out words in the training
text instead. It knows nothing about how the text is made.
"""

from __future__ import annotations

import argparse
import itertools
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cases import Case, answer
from generate import cases, correct, documents
from words import held_out_text

FOLDER = Path(__file__).resolve().parent.parent / "src" / "enginebay_demo" / "models" / "mlx"
MAX_TOKENS = 120
Ask = Callable[[Case], str]


def transformers_ask(folder: Path) -> Ask:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    torch.set_num_threads(1)
    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)

    def ask(case: Case) -> str:
        prompt = tokenizer.apply_chat_template(
            case.messages, tools=case.tools, add_generation_prompt=True, tokenize=False
        )
        ids = tokenizer(prompt, return_tensors="pt")["input_ids"]
        output = model.generate(ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=MAX_TOKENS)
        return str(tokenizer.decode(output[0, ids.shape[1] :], skip_special_tokens=True))

    return ask


def engine_ask(engine: str) -> Ask:
    import enginebay

    model = enginebay.open("demo", engine=engine)

    def ask(case: Case) -> str:
        return model.chat(case.messages, tools=case.tools, max_tokens=MAX_TOKENS, temperature=0).text

    return ask


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--engine", default="transformers")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="for transformers: another Hugging Face folder")
    parser.add_argument("--seed", type=int, default=2026)
    parser.add_argument("--count", type=int, default=100, help="cases of each kind")
    parser.add_argument(
        "--search", type=int, metavar="N", help="search N training documents for held-out words, and stop"
    )
    parser.add_argument(
        "--text-seed", type=int, default=2, help="which training text to search: train.py's seed plus 1"
    )
    arguments = parser.parse_args()
    if arguments.search:
        texts = (
            [document.text or ""]
            if document.messages is None
            else [message["content"] for message in document.messages]
            for document in itertools.islice(documents(arguments.text_seed), arguments.search)
        )
        found = sum(held_out_text(text) is not None for document in texts for text in document)
        print(f"{found} of {arguments.search} training documents hold a held-out name, city or number")
        return int(found > 0)

    ask = transformers_ask(arguments.folder) if arguments.engine == "transformers" else engine_ask(arguments.engine)
    passed = True
    for unseen, share in ((False, 0.95), (True, 0.85)):
        scores = {"json": [0, 0], "tool": [0, 0]}
        for case in cases(arguments.seed, unseen, arguments.count):
            text = ask(case)
            right = correct(case, text)
            scores[case.kind][0] += right
            scores[case.kind][1] += 1
            if not right:
                print(f"  asked {case.messages[-1]['content']!r}\n  wants {answer(case)}\n  got   {text}")
        right_count = sum(right for right, _ in scores.values())
        print(f"{'unseen' if unseen else 'fresh'}: {right_count} of {arguments.count}; {scores}")
        passed &= right_count >= share * arguments.count
    return int(not passed)


if __name__ == "__main__":
    sys.exit(main())
