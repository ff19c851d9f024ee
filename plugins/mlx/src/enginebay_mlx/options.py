"""The options of this engine, checked as they are made. They know nothing of the library that will honour them."""

from __future__ import annotations

from typing import Literal, TypeAlias

from attrs import field, frozen

from enginebay.data import bounded

Precision: TypeAlias = Literal["float32", "model"]


@frozen
class Options:
    """How MLX runs a model.

    ``precision`` is what weights that are not quantized, activations and the KV cache are computed in. ``float32`` is
    exact for any weights, and gives the tokens that other engines give; ``model`` keeps the number format of the file,
    which halves the memory of a bfloat16 model and rounds every activation. ``step_tokens`` is the most tokens of
    prompts that one step takes.
    """

    precision: Precision = field(default="float32")
    step_tokens: int = field(default=512, validator=bounded(1, 16_384))

    @precision.validator
    def _known_precision(self, _attribute: object, value: Precision) -> None:
        if value not in ("float32", "model"):
            raise ValueError(f"precision: expected float32 or model, got {value!r}")
