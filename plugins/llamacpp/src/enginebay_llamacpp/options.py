"""The options of this engine, checked as they are made. They know nothing of the library that will honour them."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, TypeAlias

from attrs import Attribute, field, frozen

from enginebay.data import bounded

CacheType: TypeAlias = Literal["auto", "f32", "f16", "q8_0"]


@frozen
class Adapter:
    """A LoRA adapter in GGUF form, and how strongly it acts."""

    path: Path
    scale: float = field(default=1.0, validator=bounded(-100.0, 100.0))


@frozen
class Options:
    """How llama.cpp runs a model.

    ``threads`` decode single tokens (None: one for each processor that this process may use, fewer for a small model),
    ``batch_threads`` prompts (None: as many). ``gpu_layers`` is how many layers go to the GPU (None: all, if there is
    one). ``mmap`` maps the file instead of reading it into memory (None: only if memory would get scarce; what was read is
    in large pages and a little faster); ``mlock`` keeps it from being swapped out. ``batch_tokens`` is
    the most that one step takes, but never less than one a sequence. ``cache_type`` is the number format of the KV
    cache; ``auto`` is as exact as the weights: f32 where they all are f32, f16 otherwise. ``flash_attention`` rounds to
    f16, so None leaves it to the library except with a cache of f32, where it is off. ``adapters`` are LoRA adapters.
    ``shared_cache`` puts all sequences into one cache: a prefix is then shared without copying, but each token looks at the
    cells of all. None: shared if one sequence's part is too large to be copied in passing (64 MiB).
    """

    threads: int | None = field(default=None, validator=bounded(1, 512))
    batch_threads: int | None = field(default=None, validator=bounded(1, 512))
    gpu_layers: int | None = field(default=None, validator=bounded(0, 1_024))
    mmap: bool | None = None
    mlock: bool = False
    batch_tokens: int = field(default=512, validator=bounded(1, 16_384))
    flash_attention: bool | None = None
    cache_type: CacheType = field(default="auto")
    shared_cache: bool | None = None
    adapters: tuple[Adapter, ...] = ()

    @cache_type.validator
    def _known_type(self, _attribute: Attribute[Any], value: CacheType) -> None:
        if value not in ("auto", "f32", "f16", "q8_0"):
            raise ValueError(f"cache_type: expected auto, f32, f16 or q8_0, got {value!r}")
        if value == "q8_0" and self.flash_attention is False:
            raise ValueError("cache_type: q8_0 needs flash_attention, which is switched off")
