"""Which engines the tests here run on: every installed one that reads the demo model."""

from __future__ import annotations

from enginebay import registry

ENGINES = sorted(name for name in registry.engines() if name in {"llamacpp", "mnn", "mlx"})

PROMPTS = [
    "Once upon a time",
    "Once upon a time, in a quiet forest,",
    "Once upon a time there was a brave little fox",
    "One day, Mia found a red ball",
    "The old turtle smiled and said",
    "Tom was sad because",
    "Once upon a time a bear lived by the sea.",
    '{"name": "',
    "<|im_start|>user\nHello!<|im_end|>\n<|im_start|>assistant\n",
    "<|im_start|>user\nTell me a story about a cat.<|im_end|>\n<|im_start|>assistant\n",
    "Zoë and Łukasz ate 37 crêpes.",
]
