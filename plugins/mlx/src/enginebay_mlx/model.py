"""Loads a checked folder into MLX in the wanted precision and proves it with one token. It knows no sequence.

Everything here runs on the owner thread.
"""

from __future__ import annotations

from typing import Any

from enginebay.errors import EnginebayError, ModelLoadError, OutOfMemory
from enginebay_mlx import library
from enginebay_mlx.files import ModelFolder
from enginebay_mlx.options import Precision


def load_model(folder: ModelFolder, precision: Precision) -> Any:
    """The model, with its weights in memory.

    :raises ModelLoadError: mlx-lm does not know the architecture, the weights do not fit it, or it computes no numbers
    :raises OutOfMemory: the weights do not fit into memory
    """
    mx = library.load()
    read = library.load_model_function()
    try:
        model, _ = read(folder.path, lazy=True, model_config=dict(folder.config), get_model_classes=_classes)
        if precision == "float32":
            model.set_dtype(mx.float32)
        if library.on_processor(mx):
            _lay_out(mx, model)
        mx.eval(model.parameters())
        logits = model(mx.array([[0]]), cache=new_cache(model))[0, -1]
        width, finite = logits.shape[0], mx.isfinite(logits).all().item()
    except EnginebayError:
        raise
    except Exception as error:
        raise translated(error, f"mlx-lm cannot load {folder.path}") from error
    if not finite or width < 1:
        raise ModelLoadError(
            f"The model in {folder.path} computes what is not a number: its weights are damaged.",
            hint="Download or convert the model again.",
            path=str(folder.path),
        )
    return model


def new_cache(model: Any) -> list[Any]:
    """An empty cache for one sequence, an object a layer."""
    from mlx_lm.models.cache import make_prompt_cache

    caches: list[Any] = make_prompt_cache(model)
    return caches


def translated(error: Exception, what: str) -> EnginebayError:
    """An exception of MLX or mlx-lm as one of the tree."""
    text = str(error)[:500]
    if isinstance(error, MemoryError) or "[malloc" in text or "Attempting to allocate" in text:
        return OutOfMemory(f"{what}: memory ran out. {text}", hint="Use a smaller or a quantized model.")
    name = type(error).__name__
    return ModelLoadError(f"{what}: {name}: {text}", hint="Convert the model again with: python -m mlx_lm convert")


def _classes(config: dict[str, Any]) -> tuple[type, type]:
    """mlx-lm's own choice of architecture, for modules that are one."""
    from mlx_lm.utils import _get_classes

    model_type = config["model_type"]
    try:
        chosen: tuple[type, type] = _get_classes(config)
    except (ValueError, AttributeError, ImportError, TypeError) as error:
        raise ModelLoadError(
            f"mlx-lm does not know the architecture {model_type!r}.",
            hint='Upgrade it (pip install -U mlx-lm), or open the model on another engine: engine="llamacpp".',
            model_type=model_type,
        ) from error
    return chosen


def _lay_out(mx: Any, model: Any) -> None:
    """Store float32 matrices column by column: products on the processor then run 1.2 to 1.8 times as fast, bit for bit.

    MLX multiplies by the transpose of a weight. With rows in memory every output is a sum that the reference BLAS of
    the Linux wheels computes one product after another; with columns it adds a vector at a time, in the same order.
    Half precision does not go through BLAS, and is quicker with rows.
    """
    from mlx.nn.layers.embedding import Embedding
    from mlx.nn.layers.linear import Linear

    tied = bool(getattr(getattr(model, "args", None), "tie_word_embeddings", False))
    for _, module in model.named_modules():
        matrix = type(module) is Linear or (tied and type(module) is Embedding)
        if matrix and module.weight.dtype == mx.float32:
            module.weight = mx.contiguous(module.weight.T).T
            mx.eval(module.weight)
