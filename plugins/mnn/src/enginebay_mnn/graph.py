"""Checks that the graph of a ``.mnn`` file is one that MNN can load without reading where it must not.

MNN itself verifies offsets, and then trusts every index, count and parameter. It knows no configuration, no tokenizer.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Callable, Sequence
from functools import cache
from importlib.resources import files
from typing import Any, Literal, TypeAlias

from attrs import frozen

from enginebay_mnn.flatbuffer import FlatBuffer, Table, Vector

Kind: TypeAlias = Literal["generate", "embed"]

INPUTS = (b"input_ids", b"attention_mask", b"position_ids")
# By its result: what a graph is for, and the inputs that it has beside those.
KINDS: dict[bytes, tuple[Kind, tuple[bytes, ...]]] = {
    b"logits": ("generate", (b"logits_index",)),
    b"sentence_embeddings": ("embed", ()),
}
MAX_DIMENSIONS = 8
MAX_EXTENT = 1 << 24
MAX_KERNEL = 256
ITEM_BYTES = {0: 4, 3: 2, 4: 1}
MAX_HEADER_BYTES = 512

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


class UnusableGraphError(ValueError):
    """The graph is well formed and cannot be run."""


@frozen
class Schema:
    """MNN's FlatBuffers schema: names of operations by number, parameter tables by union member, fields by table."""

    operations: dict[str, str]
    parameters: list[str]
    tables: dict[str, list[list[Any]]]


@frozen
class Weights:
    """The file with the weights: its size, and a way to read some bytes at an offset."""

    size: int
    read: Callable[[int, int], bytes]


@cache
def schema() -> Schema:
    document = json.loads(files("enginebay_mnn").joinpath("mnn_schema.json").read_text("utf-8"))
    return Schema(document["operations"], document["parameters"], document["tables"])


@frozen
class Graph:
    """What a checked graph is for, how many weights its matrices have, and how many cached values a token takes."""

    kind: Kind
    matrix_values: int
    cached_values: int


def check_graph(data: Any, hidden_size: int, weights: Weights) -> Graph:
    """Check the bytes of a ``.mnn`` file against each other and against the file with its weights.

    :raises DamagedBufferError: the file does not have the form of its format
    :raises UnusableGraphError: an index, count or parameter is impossible, or reaches outside
    """
    known = schema()
    net = FlatBuffer(data, known.tables, {"OpParameter": known.parameters}).root("Net")
    operations: list[Table] = net.get("oplists", [])
    tensors = len(net.get("tensorName", ()))
    _require(operations and tensors > 0, "it has no operations or no tensors")
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
            _operation(operation, tensors, written, weights)
        except UnusableGraphError as error:
            raise UnusableGraphError(f"{label}: {error}") from None
        if known.operations[str(operation.get("type", 0))] == "Input":
            names.append(name)
            if name == INPUTS[0]:
                dims = operation["main"]["dims"].integers()
                _require(len(dims) == 3 and dims[2] == hidden_size, f"its input is {dims}, not {hidden_size} wide")
    tensor_names: Sequence[bytes] = net["tensorName"]
    results = [name for index, name in enumerate(tensor_names) if name in KINDS and index in written]
    _require(len(results) == 1, "it has no result named logits or sentence_embeddings, or several")
    kind, more = KINDS[results[0]]
    missing = [name.decode() for name in (*INPUTS, *more) if name not in names]
    _require(not missing, f"it has no input {', '.join(missing)}: not exported by this MNN's llmexport")
    _require(len(set(tensor_names)) == tensors, "two tensors have one name")
    matrices = [operation for operation in operations if "common" in operation.get("main", {})]
    rows = [(operation["name"], operation["main"]["common"]["outputCount"]) for operation in matrices]
    return Graph(
        kind,
        matrix_values=sum(
            operation["main"]["common"]["inputCount"] * count
            for operation, (_, count) in zip(matrices, rows, strict=True)
        ),
        cached_values=sum(count for name, count in rows if name.endswith((b"k_proj/Linear", b"v_proj/Linear"))),
    )


def _operation(operation: Table, tensors: int, written: set[int], weights: Weights) -> None:
    known = schema()
    kind = known.operations.get(str(operation.get("type", 0)))
    _require(kind is not None and kind not in REFUSED, f"a kind of operation, {kind}, that is not run")
    assert kind is not None
    _require("externalPath" not in operation, "it names a file of its own")
    member = operation.get("main_type", 0)
    _require(0 <= member < len(known.parameters), f"parameters of the unknown kind {member}")
    _require((member == 0) == ("main" not in operation), "its parameters are missing")
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
        check(operation["main"], weights)


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
    _require(offset >= 0 and all(size >= 0 for size in sizes), "its weights have a negative place")
    end = offset + sum(sizes)
    _require(end <= weight_bytes, f"its weights end at byte {end:,} of {weight_bytes:,}")
    return sizes


def _check_blob(blob: Table, weights: Weights) -> None:
    items = _shape(_integers(blob, "dims"), unknown=False)
    form = blob.get("dataType", 1)
    _require(form in CONSTANTS, f"a constant of the unknown type {form}")
    size, field = CONSTANTS[form]
    if "external" in blob:
        places = _integers(blob, "external")
        _require(len(places) >= 2, "its weights have no place")
        held = _external(places[:2], weights.size)[0]
    else:
        held = _bytes(blob.get(field))
    _require(held >= items * size, f"a constant of {items:,} items in {held:,} bytes")


def _check_input(parameters: Table, _weights: Weights) -> None:
    _shape(_integers(parameters, "dims"), unknown=True)
    _require(parameters.get("dtype", 1) in (1, 3), "an input that is neither float nor int")


def _check_convolution(convolution: Table, weights: Weights) -> None:
    common = convolution.get("common")
    _require(isinstance(common, dict), "a convolution without its sizes")
    assert common is not None
    rows, columns, groups = common.get("outputCount", 0), common.get("inputCount", 0), common.get("group", 1)
    _require(0 < rows <= MAX_EXTENT and 0 < columns <= MAX_EXTENT, f"a matrix of {rows:,} by {columns:,}")
    _require(0 < groups <= max(rows, columns), f"a convolution in {groups:,} groups")
    sizes = {f"{name}{axis}": 1 for name in ("kernel", "stride", "dilate") for axis in "XY"}
    sizes = {name: common.get(name, size) for name, size in sizes.items()}
    _require(all(1 <= size <= MAX_KERNEL for size in sizes.values()), f"a convolution with {sizes}")
    pads = (common.get("padX", 0), common.get("padY", 0), *_integers(common, "pads"), *_integers(common, "outPads"))
    _require(
        len(pads) <= MAX_DIMENSIONS and all(0 <= pad <= MAX_KERNEL for pad in pads), f"a convolution padded by {pads}"
    )
    area = sizes["kernelX"] * sizes["kernelY"]
    items = rows * area if groups == rows else rows * (columns // groups) * area
    packing = convolution.get("quanParameter", {})
    form = packing.get("type", 0)
    _require(form in (0, 1, 3, 4) and "index" not in packing, f"weights packed in the unknown way {form}")
    if "external" in convolution:
        places = _integers(convolution, "external")
        if not packing:
            places = (*places[:2], 0, *places[2:])
        _require(4 <= len(places) <= 5 and not any(places[4:]), "its weights have no place")
        weight, scale, bias = _external(places[:4], weights.size)
        header = weights.read(places[0], min(weight, MAX_HEADER_BYTES)) if form == 1 else b""
    else:
        held = packing.get("buffer") if form else convolution.get("weight")
        weight = _bytes(held)
        header = bytes(held.data[held.offset : held.offset + min(weight, MAX_HEADER_BYTES)]) if held else b""
        scale = _bytes(packing.get("alphaFp16" if packing.get("scaleStorage") else "alpha"))
        bias = _bytes(convolution.get("bias"))
    _require(bias in (0, rows * 4), f"a bias of {bias:,} bytes for {rows:,} rows")
    packed = form == 1
    wanted = _packed_bytes(header, items, wide=bool(packing.get("shapeInt32"))) if packed else items * ITEM_BYTES[form]
    _require(weight == wanted, f"weights of {rows:,} by {columns:,} in {weight:,} bytes")
    scale_bytes = rows * (2 if packing.get("scaleStorage") else 4) * (2 if packing.get("readType") else 1)
    _require(scale % scale_bytes == 0, f"{scale:,} bytes of scales for {rows:,} rows")
    _require((scale > 0) == (form in (1, 4)), "scales for weights without, or the other way round")


def _packed_bytes(header: bytes, items: int, *, wide: bool) -> int:
    """The bytes of packed weights: their shape, the values that a code stands for, and a code for each item."""
    count = header[0] if header else 0
    values_at = 1 + count * (4 if wide else 2)
    _require(1 <= count <= MAX_DIMENSIONS and values_at < len(header), "its packed weights have no header")
    shape = struct.unpack_from(f"<{count}{'I' if wide else 'H'}", header, 1)
    _require(math.prod(shape) == items, f"its packed weights have the shape {shape}")
    values = header[values_at] or 256
    bits = (values - 1).bit_length()
    _require(bits > 0, "its packed weights have no list of values")
    return values_at + 1 + values + (items * bits + 7) // 8


def _check_norm(norm: Table, weights: Weights) -> None:
    axes = _integers(norm, "axis")
    _require(len(axes) <= MAX_DIMENSIONS and all(map(_is_axis, axes)), f"axes {axes}")
    if "external" in norm:
        places = _integers(norm, "external")
        _require(len(places) >= 3, "its weights have no place")
        scale, bias = _external(places[:3], weights.size)
    else:
        scale, bias = _bytes(norm.get("gamma")), _bytes(norm.get("beta"))
    _require(scale == bias and scale % 4 == 0, f"a scale of {scale:,} bytes and a bias of {bias:,}")
    _require(norm.get("group", 1) == 1, "a norm in groups")


def _check_axes(parameters: Table, _weights: Weights) -> None:
    axes = _integers(parameters, "squeezeDims")
    _require(len(axes) <= MAX_DIMENSIONS and all(map(_is_axis, axes)), f"axes {axes}")


def _check_axis(parameters: Table, _weights: Weights) -> None:
    axis = parameters.get("axis", 0)
    _require(_is_axis(axis), f"axis {axis}")


def _is_axis(axis: int) -> bool:
    return -MAX_DIMENSIONS <= axis < MAX_DIMENSIONS


def _check_reshape(parameters: Table, _weights: Weights) -> None:
    _shape(_integers(parameters, "dims"), unknown=True)


def _check_attention(parameters: Table, _weights: Weights) -> None:
    shared, own = parameters.get("kv_shared_layer_index", -1), parameters.get("layer_index", -1)
    _require(shared == -1 or 0 <= shared < own, f"layer {own} shares the cache of layer {shared}")


CHECKS: dict[str, Callable[[Table, Weights], None]] = {
    "AttentionParam": _check_attention,
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


def _bytes(value: object) -> int:
    return value.count * value.size if isinstance(value, Vector) else 0


def _require(condition: object, message: str) -> None:
    if not condition:
        raise UnusableGraphError(message)
