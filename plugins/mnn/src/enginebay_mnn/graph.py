"""Checks that the graph of a ``.mnn`` file is one that MNN can load without reading where it must not.

MNN itself verifies offsets, and then trusts every index, count and parameter. It knows no configuration, no tokenizer.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from typing import Any, Literal, TypeAlias

from attrs import frozen

from enginebay_mnn.flatbuffer import FlatBuffer, Table
from enginebay_mnn.parameters import CHECKS, UnusableGraphError, Weights, integers, require

Kind: TypeAlias = Literal["generate", "embed"]

INPUTS = (b"input_ids", b"attention_mask", b"position_ids")
# By its result: what a graph is for, and the inputs that it has beside those.
KINDS: dict[bytes, tuple[Kind, tuple[bytes, ...]]] = {
    b"logits": ("generate", (b"logits_index",)),
    b"sentence_embeddings": ("embed", ()),
}

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
    require(operations and tensors > 0, "it has no operations or no tensors")
    require(net.get("usage", 0) == 0, "it is not exported for inference on a processor")
    require(not net.get("subgraphs"), "it has subgraphs")
    require(not net.get("extraTensorDescribe"), "it describes tensors for quantized inference")
    require("buffer" not in net.get("extraInfo", {}), "it carries extra data")
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
                require(len(dims) == 3 and dims[2] == hidden_size, f"its input is {dims}, not {hidden_size} wide")
    tensor_names: Sequence[bytes] = net["tensorName"]
    results = [name for index, name in enumerate(tensor_names) if name in KINDS and index in written]
    require(len(results) == 1, "it has no result named logits or sentence_embeddings, or several")
    kind, more = KINDS[results[0]]
    missing = [name.decode() for name in (*INPUTS, *more) if name not in names]
    require(not missing, f"it has no input {', '.join(missing)}: not exported by this MNN's llmexport")
    require(len(set(tensor_names)) == tensors, "two tensors have one name")
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
    require(kind is not None and kind not in REFUSED, f"a kind of operation, {kind}, that is not run")
    assert kind is not None
    require("externalPath" not in operation, "it names a file of its own")
    member = operation.get("main_type", 0)
    require(0 <= member < len(known.parameters), f"parameters of the unknown kind {member}")
    require((member == 0) == ("main" not in operation), "its parameters are missing")
    parameters = known.parameters[member]
    require(parameters in PARAMETERS.get(kind, (parameters,)), f"{kind} with the parameters of {parameters}")
    inputs, outputs = integers(operation, "inputIndexes"), integers(operation, "outputIndexes")
    require(len(outputs) > 0, "it gives no result")
    for index in (*inputs, *outputs):
        require(0 <= index < tensors, f"tensor {index} is not one of {tensors}")
    require(all(index in written for index in inputs), "it reads a tensor before that is written")
    require(written.isdisjoint(outputs), "it writes a tensor twice")
    written.update(outputs)
    low, high = ARITY.get(kind, (0 if kind in ("Input", "Const") else 1, 64))
    require(low <= len(inputs) <= high, f"{kind} with {len(inputs)} inputs")
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
