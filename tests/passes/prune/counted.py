"""What an emitted model costs, counted from its file alone: by ONNX's own shapes, not by those of the graph."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

import onnx
from onnx import shape_inference

from planish import ir
from planish.ir import Graph

_WEIGHTS = tuple(map(onnx.TensorProto.DataType.Value, ("FLOAT", "FLOAT16", "DOUBLE", "INT8", "UINT8")))
Shapes = Mapping[str, tuple[int, ...]]


def macs(model: Graph | onnx.ModelProto, extents: Mapping[str, int]) -> int:
    """Of convolutions, Gemm and MatMul, those of nested graphs too, once; raises KeyError where a shape is open."""
    proto = onnx.ModelProto()
    proto.CopyFrom(ir.emit(model) if isinstance(model, Graph) else model)
    for info in proto.graph.input:
        for dim in info.type.tensor_type.shape.dim:
            if dim.dim_param:
                dim.dim_value = extents[dim.dim_param]
    del proto.graph.value_info[:]
    for info in proto.graph.output:
        info.type.tensor_type.ClearField("shape")
    for node in proto.graph.node:
        if node.op_type == "GroupNormalization":  # of which ONNX infers no shape
            node.CopyFrom(onnx.NodeProto(op_type="Identity", input=node.input[:1], output=node.output))
    inferred = shape_inference.infer_shapes(proto, data_prop=True)
    return sum(_of_graph(inferred.graph, {}))


def parameters(model: Graph | onnx.ModelProto) -> int:
    """Elements of the floats and of the codes of 8 bits that a file holds."""
    proto = ir.emit(model) if isinstance(model, Graph) else model
    return sum(
        math.prod(tensor.dims)
        for graph in _graphs(proto.graph)
        for tensor in (*graph.initializer, *[a.t for node in graph.node for a in node.attribute if a.HasField("t")])
        if tensor.data_type in _WEIGHTS
    )


def _of_graph(graph: onnx.GraphProto, around: Shapes) -> Iterator[int]:
    shapes = dict(around)
    for info in (*graph.input, *graph.value_info, *graph.output):
        dims = info.type.tensor_type.shape.dim
        if all(dim.HasField("dim_value") for dim in dims):
            shapes[info.name] = tuple([dim.dim_value for dim in dims])
    shapes |= {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant":
            shapes[node.output[0]] = tuple(node.attribute[0].t.dims)
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from _of_graph(attribute.g, shapes)
        if node.op_type in ("Conv", "QLinearConv"):
            weight = node.input[1 if node.op_type == "Conv" else 3]
            yield math.prod(shapes[node.output[0]]) * math.prod(shapes[weight][1:])
        elif node.op_type in ("MatMul", "QLinearMatMul"):
            yield math.prod(shapes[node.output[0]]) * shapes[node.input[0]][-1]
        elif node.op_type == "Gemm":
            flags = {attribute.name: attribute.i for attribute in node.attribute}
            yield math.prod(shapes[node.output[0]]) * shapes[node.input[0]][0 if flags.get("transA") else 1]


def _graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from _graphs(attribute.g)
