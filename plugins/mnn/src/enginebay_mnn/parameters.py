"""Checks the parameters of a graph's operations: shapes, and where weights lie. It does not know the graph."""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Sequence

from attrs import frozen

from enginebay_mnn.flatbuffer import Table, Vector

MAX_DIMENSIONS = 8
MAX_EXTENT = 1 << 24
MAX_KERNEL = 256
ITEM_BYTES = {0: 4, 3: 2, 4: 1}
MAX_HEADER_BYTES = 512
# Data types of constants: bytes each, and the field that holds them.
CONSTANTS = {1: (4, "float32s"), 3: (4, "int32s"), 4: (1, "uint8s"), 6: (1, "int8s"), 19: (2, "uint8s")}
CONSTANTS |= {11: (1, "int8s"), 12: (1, "uint8s"), 14: (2, "uint8s")}


class UnusableGraphError(ValueError):
    """The graph is well formed and cannot be run."""


@frozen
class Weights:
    """The file with the weights: its size, and a way to read some bytes at an offset."""

    size: int
    read: Callable[[int, int], bytes]


def _shape(dims: Sequence[int], *, unknown: bool) -> int:
    """The number of items of a shape; -1 is a free dimension where ``unknown``."""
    require(len(dims) <= MAX_DIMENSIONS, f"{len(dims)} dimensions; at most {MAX_DIMENSIONS} exist")
    items = 1
    for extent in dims:
        require((unknown and extent == -1) or 0 <= extent <= MAX_EXTENT, f"a dimension of {extent:,}")
        items *= abs(extent)
    return items


def _external(places: Sequence[int], weight_bytes: int) -> tuple[int, ...]:
    """The sizes of what lies one after another from ``places[0]`` on in the file of weights."""
    offset, sizes = places[0], tuple(places[1:])
    require(offset >= 0 and all(size >= 0 for size in sizes), "its weights have a negative place")
    end = offset + sum(sizes)
    require(end <= weight_bytes, f"its weights end at byte {end:,} of {weight_bytes:,}")
    return sizes


def _check_blob(blob: Table, weights: Weights) -> None:
    items = _shape(integers(blob, "dims"), unknown=False)
    form = blob.get("dataType", 1)
    require(form in CONSTANTS, f"a constant of the unknown type {form}")
    size, field = CONSTANTS[form]
    if "external" in blob:
        places = integers(blob, "external")
        require(len(places) >= 2, "its weights have no place")
        held = _external(places[:2], weights.size)[0]
    else:
        held = _bytes(blob.get(field))
    require(held >= items * size, f"a constant of {items:,} items in {held:,} bytes")


def _check_input(parameters: Table, _weights: Weights) -> None:
    _shape(integers(parameters, "dims"), unknown=True)
    require(parameters.get("dtype", 1) in (1, 3), "an input that is neither float nor int")


def _check_convolution(convolution: Table, weights: Weights) -> None:
    common = convolution.get("common")
    require(isinstance(common, dict), "a convolution without its sizes")
    assert common is not None
    rows, columns, groups = common.get("outputCount", 0), common.get("inputCount", 0), common.get("group", 1)
    require(0 < rows <= MAX_EXTENT and 0 < columns <= MAX_EXTENT, f"a matrix of {rows:,} by {columns:,}")
    require(0 < groups <= max(rows, columns), f"a convolution in {groups:,} groups")
    sizes = {f"{name}{axis}": 1 for name in ("kernel", "stride", "dilate") for axis in "XY"}
    sizes = {name: common.get(name, size) for name, size in sizes.items()}
    require(all(1 <= size <= MAX_KERNEL for size in sizes.values()), f"a convolution with {sizes}")
    pads = (common.get("padX", 0), common.get("padY", 0), *integers(common, "pads"), *integers(common, "outPads"))
    require(
        len(pads) <= MAX_DIMENSIONS and all(0 <= pad <= MAX_KERNEL for pad in pads), f"a convolution padded by {pads}"
    )
    area = sizes["kernelX"] * sizes["kernelY"]
    items = rows * area if groups == rows else rows * (columns // groups) * area
    packing = convolution.get("quanParameter", {})
    form = packing.get("type", 0)
    require(form in (0, 1, 3, 4) and "index" not in packing, f"weights packed in the unknown way {form}")
    if "external" in convolution:
        places = integers(convolution, "external")
        if not packing:
            places = (*places[:2], 0, *places[2:])
        require(4 <= len(places) <= 5 and not any(places[4:]), "its weights have no place")
        weight, scale, bias = _external(places[:4], weights.size)
        header = weights.read(places[0], min(weight, MAX_HEADER_BYTES)) if form == 1 else b""
    else:
        held = packing.get("buffer") if form else convolution.get("weight")
        weight = _bytes(held)
        header = bytes(held.data[held.offset : held.offset + min(weight, MAX_HEADER_BYTES)]) if held else b""
        scale = _bytes(packing.get("alphaFp16" if packing.get("scaleStorage") else "alpha"))
        bias = _bytes(convolution.get("bias"))
    require(bias in (0, rows * 4), f"a bias of {bias:,} bytes for {rows:,} rows")
    packed = form == 1
    wanted = _packed_bytes(header, items, wide=bool(packing.get("shapeInt32"))) if packed else items * ITEM_BYTES[form]
    require(weight == wanted, f"weights of {rows:,} by {columns:,} in {weight:,} bytes")
    scale_bytes = rows * (2 if packing.get("scaleStorage") else 4) * (2 if packing.get("readType") else 1)
    require(scale % scale_bytes == 0, f"{scale:,} bytes of scales for {rows:,} rows")
    require((scale > 0) == (form in (1, 4)), "scales for weights without, or the other way round")


def _packed_bytes(header: bytes, items: int, *, wide: bool) -> int:
    """The bytes of packed weights: their shape, the values that a code stands for, and a code for each item."""
    count = header[0] if header else 0
    values_at = 1 + count * (4 if wide else 2)
    require(1 <= count <= MAX_DIMENSIONS and values_at < len(header), "its packed weights have no header")
    shape = struct.unpack_from(f"<{count}{'I' if wide else 'H'}", header, 1)
    require(math.prod(shape) == items, f"its packed weights have the shape {shape}")
    values = header[values_at] or 256
    bits = (values - 1).bit_length()
    require(bits > 0, "its packed weights have no list of values")
    return values_at + 1 + values + (items * bits + 7) // 8


def _check_norm(norm: Table, weights: Weights) -> None:
    axes = integers(norm, "axis")
    require(len(axes) <= MAX_DIMENSIONS and all(map(_is_axis, axes)), f"axes {axes}")
    if "external" in norm:
        places = integers(norm, "external")
        require(len(places) >= 3, "its weights have no place")
        scale, bias = _external(places[:3], weights.size)
    else:
        scale, bias = _bytes(norm.get("gamma")), _bytes(norm.get("beta"))
    require(scale == bias and scale % 4 == 0, f"a scale of {scale:,} bytes and a bias of {bias:,}")
    require(norm.get("group", 1) == 1, "a norm in groups")


def _check_axes(parameters: Table, _weights: Weights) -> None:
    axes = integers(parameters, "squeezeDims")
    require(len(axes) <= MAX_DIMENSIONS and all(map(_is_axis, axes)), f"axes {axes}")


def _check_axis(parameters: Table, _weights: Weights) -> None:
    axis = parameters.get("axis", 0)
    require(_is_axis(axis), f"axis {axis}")


def _is_axis(axis: int) -> bool:
    return -MAX_DIMENSIONS <= axis < MAX_DIMENSIONS


def _check_reshape(parameters: Table, _weights: Weights) -> None:
    _shape(integers(parameters, "dims"), unknown=True)


def _check_attention(parameters: Table, _weights: Weights) -> None:
    shared, own = parameters.get("kv_shared_layer_index", -1), parameters.get("layer_index", -1)
    require(shared == -1 or 0 <= shared < own, f"layer {own} shares the cache of layer {shared}")


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


def integers(table: Table, field: str) -> tuple[int, ...]:
    value = table.get(field)
    return value.integers() if isinstance(value, Vector) else ()


def _bytes(value: object) -> int:
    return value.count * value.size if isinstance(value, Vector) else 0


def require(condition: object, message: str) -> None:
    if not condition:
        raise UnusableGraphError(message)
