"""Checks that the graph of a ``.mnn`` file is one that MNN can load without reading where it must not.

MNN itself verifies offsets, and then trusts every index, count and parameter. It knows no configuration and no tokenizer.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import cache
from importlib.resources import files
from typing import Any

from attrs import frozen

from enginebay_mnn.flatbuffer import FlatBuffer, Table, Vector

INPUTS = (b"input_ids", b"attention_mask", b"position_ids", b"logits_index")
OUTPUT = b"logits"
MAX_DIMENSIONS = 8
MAX_EXTENT = 1 << 24

# The parameter table that MNN takes for granted for each kind of operation. It follows null where another one is.
PARAMETERS = {
    "ArgMax": ("ArgMax",),
    "ArgMin": ("ArgMax",),
    "Attention": ("AttentionParam",),
    "BatchMatMul": ("BatchMatMulParam",),
    "BinaryOp": ("BinaryOp",),
    "Cast": ("CastParam",),
    "Concat": ("Axis",),
    "Const": ("Blob",),
    "ConvertTensor": ("TensorConvertInfo",),
    "Convolution": ("Convolution2D",),
    "ConvolutionDepthwise": ("Convolution2D",),
    "CumSum": ("CumSum",),
    "ELU": ("ELU",),
    "Gather": ("NONE", "Gather"),
    "GatherV2": ("NONE", "Axis", "Convolution2D", "GatherV2"),
    "GroupNorm": ("GroupNorm",),
    "Input": ("Input",),
    "LayerNorm": ("LayerNorm",),
    "LinearAttention": ("LinearAttentionParam",),
    "MatMul": ("MatMul",),
    "OneHot": ("OneHotParam",),
    "Pack": ("PackParam",),
    "Permute": ("Permute",),
    "Range": ("Range",),
    "Rank": ("NONE",),
    "ReLU": ("Relu",),
    "ReLU6": ("Relu6",),
    "Reduction": ("ReductionParam",),
    "Reshape": ("Reshape",),
    "RoPE": ("RoPEParam",),
    "Scale": ("Scale",),
    "Shape": ("NONE", "ShapeParam"),
    "Slice": ("Slice",),
    "SliceTf": ("NONE", "SliceTf"),
    "Softmax": ("Axis",),
    "Squeeze": ("SqueezeParam",),
    "StridedSlice": ("StridedSliceParam",),
    "Transpose": ("NONE", "Transpose"),
    "UnaryOp": ("UnaryOp",),
    "Unpack": ("Axis",),
    "Unsqueeze": ("SqueezeParam",),
}
# Operations that run code found by name, or that only training knows.
REFUSED = {"Plugin", "TrainableParam"}
# Data types of constants: bytes each, and the field that holds them.
CONSTANTS = {1: (4, "float32s"), 3: (4, "int32s"), 4: (1, "uint8s"), 6: (1, "int8s"), 19: (2, "uint8s")}
CONSTANTS |= {11: (1, "int8s"), 12: (1, "uint8s"), 14: (2, "uint8s")}


class UnusableGraph(ValueError):
    """The graph is well formed and cannot be run."""


@frozen
class Schema:
    """MNN's FlatBuffers schema: names of operations by number, parameter tables by union member, fields by table."""

    operations: dict[str, str]
    parameters: list[str]
    tables: dict[str, list[list[Any]]]


@cache
def schema() -> Schema:
    document = json.loads(files("enginebay_mnn").joinpath("mnn_schema.json").read_text("utf-8"))
    return Schema(document["operations"], document["parameters"], document["tables"])


def check_graph(data: Any, hidden_size: int, weight_bytes: int) -> None:
    """Check the bytes of a ``.mnn`` file against each other and against the size of the file with its weights.

    :raises DamagedBuffer: the file does not have the form of its format
    :raises UnusableGraph: an index, count or parameter is impossible, or reaches outside
    """
    known = schema()
    net = FlatBuffer(data, known.tables, {"OpParameter": known.parameters}).root("Net")
    operations: list[Table] = net.get("oplists", [])
    tensors = len(net.get("tensorName", ()))
    _require(0 < len(operations) and 0 < tensors, "it has no operations or no tensors")
    _require(net.get("usage", 0) == 0, "it is not exported for inference on a processor")
    _require(not net.get("subgraphs"), "it has subgraphs")
    _require(not net.get("extraTensorDescribe"), "it describes tensors for quantized inference")
    _require("buffer" not in net.get("extraInfo", {}), "it carries extra data")
    written: set[int] = set()
    names = []
    for operation in operations:
        name = operation.get("name", b"")
        label = name.decode("utf-8", "replace") or "an operation without a name"
        try:
            _operation(operation, tensors, written, weight_bytes)
        except UnusableGraph as error:
            raise UnusableGraph(f"{label}: {error}") from None
        if known.operations[str(operation.get("type", 0))] == "Input":
            names.append(name)
            if name == INPUTS[0]:
                dims = operation["main"]["dims"].integers()
                _require(len(dims) == 3 and dims[2] == hidden_size, f"its input has the shape {dims}, not {hidden_size} wide")
    missing = [name.decode() for name in INPUTS if name not in names]
    _require(not missing, f"it has no input {', '.join(missing)}: not exported by this MNN's llmexport")
    tensor_names: Sequence[bytes] = net["tensorName"]
    results = [index for index, name in enumerate(tensor_names) if name == OUTPUT]
    _require(len(results) == 1 and results[0] in written, "it has no output named logits")
    _require(len(set(tensor_names)) == tensors, "two tensors have one name")


def _operation(operation: Table, tensors: int, written: set[int], weight_bytes: int) -> None:
    known = schema()
    kind = known.operations.get(str(operation.get("type", 0)))
    _require(kind is not None and kind not in REFUSED, f"a kind of operation, {kind}, that is not run")
    assert kind is not None
    _require("externalPath" not in operation, "it names a file of its own")
    member = operation.get("main_type", 0)
    _require(0 <= member < len(known.parameters) and (member == 0) == ("main" not in operation), "its parameters are missing")
    parameters = known.parameters[member]
    _require(parameters in PARAMETERS.get(kind, (parameters,)), f"{kind} with the parameters of {parameters}")
    inputs, outputs = _integers(operation, "inputIndexes"), _integers(operation, "outputIndexes")
    _require(len(outputs) > 0, "it gives no result")
    for index in (*inputs, *outputs):
        _require(0 <= index < tensors, f"tensor {index} is not one of {tensors}")
    _require(all(index in written for index in inputs), "it reads a tensor before that is written")
    _require(written.isdisjoint(outputs), "it writes a tensor twice")
    written.update(outputs)
    low, high = ARITY.get(kind, (0 if kind in ("Input", "Const") else 1, 64))
    _require(low <= len(inputs) <= high, f"{kind} with {len(inputs)} inputs")
    check = CHECKS.get(parameters)
    if check is not None:
        check(operation["main"], weight_bytes)


ARITY = {
    "Attention": (3, 6),
    "BinaryOp": (2, 2),
    "Cast": (1, 1),
    "Const": (0, 0),
    "ConvertTensor": (1, 1),
    "Convolution": (1, 1),
    "GatherV2": (2, 3),
    "Input": (0, 0),
    "LayerNorm": (1, 1),
    "MatMul": (2, 4),
    "Rank": (1, 1),
    "Reshape": (1, 2),
    "Shape": (1, 1),
    "Softmax": (1, 1),
    "StridedSlice": (3, 5),
    "UnaryOp": (1, 1),
}


def _shape(dims: Sequence[int], *, unknown: bool) -> int:
    """The number of items of a shape; -1 is a free dimension where ``unknown``."""
    _require(len(dims) <= MAX_DIMENSIONS, f"{len(dims)} dimensions; at most {MAX_DIMENSIONS} exist")
    items = 1
    for extent in dims:
        _require((unknown and extent == -1) or 0 <= extent <= MAX_EXTENT, f"a dimension of {extent:,}")
        items *= abs(extent)
    return items


def _external(places: Sequence[int], weight_bytes: int) -> tuple[int, ...]:
    """The sizes of what lies one after another from ``places[0]`` on in the file of weights."""
    offset, sizes = places[0], tuple(places[1:])
    _require(0 <= offset and all(size >= 0 for size in sizes), "its weights have a negative place")
    _require(offset + sum(sizes) <= weight_bytes, f"its weights end at byte {offset + sum(sizes):,} of {weight_bytes:,}")
    return sizes


def _check_blob(blob: Table, weight_bytes: int) -> None:
    items = _shape(_integers(blob, "dims"), unknown=False)
    form = blob.get("dataType", 1)
    _require(form in CONSTANTS, f"a constant of the unknown type {form}")
    size, field = CONSTANTS[form]
    if "external" in blob:
        places = _integers(blob, "external")
        _require(len(places) >= 2, "its weights have no place")
        held = _external(places[:2], weight_bytes)[0]
    else:
        values = blob.get(field)
        held = values.count * values.size if isinstance(values, Vector) else 0
    _require(held >= items * size, f"a constant of {items:,} items in {held:,} bytes")


def _check_input(parameters: Table, _weight_bytes: int) -> None:
    _shape(_integers(parameters, "dims"), unknown=True)
    _require(parameters.get("dtype", 1) in (1, 3), "an input that is neither float nor int")


def _check_convolution(convolution: Table, weight_bytes: int) -> None:
    common = convolution.get("common")
    _require(isinstance(common, dict), "a convolution without its sizes")
    assert common is not None
    sizes = [common.get(f"{name}{axis}", 1) for name in ("kernel", "stride", "dilate") for axis in "XY"]
    _require(all(size == 1 for size in sizes), "a convolution that is no matrix product")
    _require(all(common.get(name, 0) == 0 for name in ("padX", "padY")) and "pads" not in common, "a matrix product with padding")
    rows, columns, groups = common.get("outputCount", 0), common.get("inputCount", 0), common.get("group", 1)
    _require(0 < rows <= MAX_EXTENT and 0 < columns <= MAX_EXTENT and groups == 1, f"a matrix of {rows:,} × {columns:,} in {groups:,}")
    quantized = convolution.get("quanParameter", {})
    if "external" in convolution:
        places = _integers(convolution, "external")
        _require(len(places) >= 3, "its weights have no place")
        held = _external(places, weight_bytes)
        weight, bias = held[0], held[2] if len(held) > 2 else held[1]
    else:
        name = "buffer" if quantized.get("buffer") else "weight"
        values = quantized.get("buffer") if name == "buffer" else convolution.get("weight")
        weight = values.count * values.size if isinstance(values, Vector) else 0
        bias = len(_integers(convolution, "bias")) * 4
    form = quantized.get("type", 0)
    _require(form in (0, 1, 2, 3, 4), f"weights of the unknown kind {form}")
    if form in (0, 3):
        wanted = rows * columns * (2 if form == 3 else 4)
        _require(weight == wanted, f"a matrix of {rows:,} × {columns:,} in {weight:,} bytes")
    _require(bias in (0, rows * 4), f"a bias of {bias:,} bytes for {rows:,} rows")


def _check_norm(norm: Table, weight_bytes: int) -> None:
    axes = _integers(norm, "axis")
    _require(len(axes) <= MAX_DIMENSIONS and all(-MAX_DIMENSIONS <= axis < MAX_DIMENSIONS for axis in axes), f"axes {axes}")
    if "external" in norm:
        places = _integers(norm, "external")
        _require(len(places) >= 3, "its weights have no place")
        scale, bias = _external(places[:3], weight_bytes)
    else:
        scale, bias = (norm[name].count * 4 if name in norm else 0 for name in ("gamma", "beta"))
    _require(scale == bias and scale % 4 == 0, f"a scale of {scale:,} bytes and a bias of {bias:,}")
    _require(norm.get("group", 1) == 1, "a norm in groups")


def _check_axes(parameters: Table, _weight_bytes: int) -> None:
    axes = _integers(parameters, "squeezeDims")
    _require(len(axes) <= MAX_DIMENSIONS and all(-MAX_DIMENSIONS <= axis < MAX_DIMENSIONS for axis in axes), f"axes {axes}")


def _check_axis(parameters: Table, _weight_bytes: int) -> None:
    axis = parameters.get("axis", 0)
    _require(-MAX_DIMENSIONS <= axis < MAX_DIMENSIONS, f"axis {axis}")


def _check_reshape(parameters: Table, _weight_bytes: int) -> None:
    _shape(_integers(parameters, "dims"), unknown=True)


CHECKS: dict[str, Callable[[Table, int], None]] = {
    "Axis": _check_axis,
    "Blob": _check_blob,
    "Convolution2D": _check_convolution,
    "Input": _check_input,
    "LayerNorm": _check_norm,
    "Reshape": _check_reshape,
    "SqueezeParam": _check_axes,
}


def _integers(table: Table, field: str) -> tuple[int, ...]:
    value = table.get(field)
    return value.integers() if isinstance(value, Vector) else ()


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise UnusableGraph(message)
