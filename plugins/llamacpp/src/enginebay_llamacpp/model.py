"""Opens a checked file with llama.cpp: model, adapters, context. It knows nothing of steps."""

from __future__ import annotations

import ctypes
import os
import re
from collections.abc import Mapping
from types import ModuleType
from typing import Any

from attrs import define

from enginebay import memory
from enginebay.data import LoadRequest
from enginebay.errors import EngineError, ModelLoadError, OutOfMemory
from enginebay_llamacpp import library
from enginebay_llamacpp.amx import compiled_wrongly
from enginebay_llamacpp.check import check_adapter, check_model
from enginebay_llamacpp.gguf import GgufFile
from enginebay_llamacpp.options import Options
from enginebay_llamacpp.sizes import Plan, default_threads, plan

RECOMPILE = "CC=clang CXX=clang++ pip install --force-reinstall --no-cache-dir --no-deps llama-cpp-python"
_CACHE_TYPES = {"f32": "GGML_TYPE_F32", "f16": "GGML_TYPE_F16", "q8_0": "GGML_TYPE_Q8_0"}


@define
class OpenModel:
    """A model and its context, with everything that native code still points at. ``close`` frees them, once."""

    native: ModuleType
    file: GgufFile
    plan: Plan
    options: Options
    notes: tuple[str, ...]
    model: Any
    context: Any = None
    kept: tuple[Any, ...] = ()

    @property
    def vocab(self) -> Any:
        return self.native.llama_model_get_vocab(self.model)

    def make_context(self, settings: Mapping[str, Any]) -> None:
        """Make the context, with ``settings`` for fields of ``llama_context_params`` on top of the options.

        :raises OutOfMemory: its cache or buffers do not fit
        """
        native, options = self.native, self.options
        threads = options.threads or default_threads(self.file, library.processors())
        cache_type = getattr(native, _CACHE_TYPES[self.plan.cache_type])
        flash = native.LLAMA_FLASH_ATTN_TYPE_ENABLED
        if options.flash_attention is None and self.plan.cache_type != "f32":
            flash = native.LLAMA_FLASH_ATTN_TYPE_AUTO
        elif not options.flash_attention:
            flash = native.LLAMA_FLASH_ATTN_TYPE_DISABLED
        params = native.llama_context_default_params()
        chosen = {
            "n_threads": threads,
            "n_threads_batch": options.batch_threads or threads,
            "type_k": cache_type,
            "type_v": cache_type,
            "flash_attn_type": flash,
            "no_perf": True,
            **settings,
        }
        for name, value in chosen.items():
            setattr(params, name, value)
        library.forget_troubles()
        self.context = native.llama_init_from_model(self.model, params)
        if not self.context:
            raise _failed(f"llama.cpp cannot make a context for {self.file.path}", self.file)
        self._apply_adapters()

    def _apply_adapters(self) -> None:
        native, adapters = self.native, self.options.adapters
        handles = []
        for adapter in adapters:
            check_adapter(adapter.path)
            library.forget_troubles()
            handle = native.llama_adapter_lora_init(self.model, os.fsencode(adapter.path))
            if not handle:
                raise _failed(f"llama.cpp cannot apply the adapter {adapter.path} to {self.file.path}", self.file)
            handles.append(handle)
        if handles:
            array = (native.llama_adapter_lora_p_ctypes * len(handles))(*handles)
            scales = (ctypes.c_float * len(handles))(*(adapter.scale for adapter in adapters))
            if native.llama_set_adapters_lora(self.context, array, len(handles), scales):
                raise _failed(f"llama.cpp cannot apply the adapters to {self.file.path}", self.file)

    def close(self) -> None:
        context, self.context = self.context, None
        model, self.model = self.model, None
        if context:
            self.native.llama_free(context)
        if model:
            self.native.llama_model_free(model)  # frees its adapters too


def options_of(request: LoadRequest) -> Options:
    """The options of a request, or the defaults where it has none."""
    return request.options if isinstance(request.options, Options) else Options()


def open_model(request: LoadRequest) -> OpenModel:
    """Check the file, then load it.

    :raises ModelLoadError: the file is damaged, or of a kind that llama.cpp does not read
    :raises OutOfMemory: it does not fit
    """
    options = options_of(request)
    file = check_model(request.path)
    planned = plan(file, request, options)
    native = library.load()
    params = native.llama_model_default_params()
    params.load_mode = {
        (False, False): native.LLAMA_LOAD_MODE_NONE,
        (True, False): native.LLAMA_LOAD_MODE_MMAP,
        (False, True): native.LLAMA_LOAD_MODE_MLOCK,
        (True, True): native.LLAMA_LOAD_MODE_MMAP_MLOCK,
    }[_mapped(native, options, planned), options.mlock]
    notes = list(planned.notes)
    params.n_gpu_layers = -1 if options.gpu_layers is None else options.gpu_layers
    if not native.llama_supports_gpu_offload():
        params.n_gpu_layers = 0
        if options.gpu_layers:
            notes.append(f"gpu_layers={options.gpu_layers}: this llama.cpp has no GPU support; the CPU is used.")
            library.log.warning("%s", notes[-1])
        hint = "Load with a smaller context_tokens or fewer sequences, or take a smaller model."
        memory.require(file.path.name, planned.estimate, hint)
    faulty = compiled_wrongly(native)
    if faulty:
        params.use_extra_bufts = False
        notes.append(
            f"AMX is not used: llama.cpp was compiled by {faulty}, which compiles it wrongly. Prompts are slower. "
            f"{RECOMPILE} compiles it with another compiler."
        )
        library.log.warning("%s", notes[-1])
    # A tokenizer that puts a space before text would not give back the text that it was given.
    overrides = (native.llama_model_kv_override * 2)()
    overrides[0].tag = native.LLAMA_KV_OVERRIDE_TYPE_BOOL
    overrides[0].key = b"tokenizer.ggml.add_space_prefix"
    overrides[0].value.val_bool = False
    params.kv_overrides = overrides
    library.forget_troubles()
    model = native.llama_model_load_from_file(os.fsencode(request.path), params)
    if not model:
        raise _failed(f"llama.cpp cannot load {request.path}", file)
    return OpenModel(native, file, planned, options, tuple(notes), model, kept=(overrides,))


def _mapped(native: ModuleType, options: Options, planned: Plan) -> bool:
    """Whether the file is mapped: if the options leave it open, only what would take more than half of the memory left."""
    if options.mmap is not None:
        return options.mmap
    left = [figure for figure in (memory.available_bytes(), memory.private_limit_bytes()) if figure is not None]
    return native.llama_supports_gpu_offload() or not left or 2 * planned.estimate.total_bytes > min(left)


def _failed(what: str, file: GgufFile) -> EngineError:
    """The error for a null from the library, with what it logged."""
    lines = library.troubles()
    said = next(iter(library.errors()), "it gave no reason")
    reason = re.sub(r"^\w+: (error loading model: )?", "", said).rstrip(".")
    fields = {"path": str(file.path), "log": lines}
    if any(word in line.lower() for line in lines for word in ("allocate", "bad_alloc", "out of memory")):
        hint = "Load with a smaller context_tokens or fewer sequences, or take a smaller model."
        return OutOfMemory(f"{what}: {reason}.", hint=hint, **fields)
    hint = "A newer llama-cpp-python may read it: pip install --upgrade llama-cpp-python"
    return ModelLoadError(f"{what}: {reason}.", hint=hint, **fields)
