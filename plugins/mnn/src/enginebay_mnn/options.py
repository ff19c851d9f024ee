"""The options of the MNN engine. It imports nothing of MNN."""

from __future__ import annotations

from typing import Literal

from attrs import field, frozen

from enginebay.data import bounded


@frozen
class Options:
    """How MNN computes.

    ``preset="exact"`` computes in 32 bits and unpacks quantized weights, so that tokens equal those of other engines.
    ``"fast"`` takes MNN's own defaults: half precision where the processor has it, and activations quantized to 8 bits
    beside quantized weights; tokens can differ. ``threads`` is None for one a processor, at most 4.
    """

    preset: Literal["exact", "fast"] = "exact"
    threads: int | None = field(default=None, validator=bounded(1, 256))
