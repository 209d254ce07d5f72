"""The interface of an exported graph: inputs and outputs as the framework's model has them, open dims by name."""

from __future__ import annotations

from collections.abc import Sequence

import onnx

from planish.ir import DType, Graph, TensorType
from planish.models.lower.errors import ExportError
from planish.models.lower.framework import Lowering
from planish.models.lower.inputs import Dims


def name_dims(proto: onnx.ModelProto, inputs: Sequence[str], dynamic: Dims) -> None:
    """Call the open dims of an export by the names that they are to have, wherever the exporter made up others."""
    names: dict[str, str] = {}
    for name, value in zip(inputs, proto.graph.input, strict=True):
        dims = value.type.tensor_type.shape.dim
        for axis, dim in dynamic.get(name, {}).items():
            if axis < len(dims) and not dims[axis].HasField("dim_value"):
                if dims[axis].dim_param:
                    names[dims[axis].dim_param] = dim
                dims[axis].dim_param = dim
    for value in (*proto.graph.output, *proto.graph.value_info):
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_param in names:
                dim.dim_param = names[dim.dim_param]


def set_interface(graph: Graph, lowering: Lowering, inputs: Sequence[str]) -> tuple[str, ...]:
    """Give a graph the inputs and outputs that the framework's model has, under their names and in their order.

    inputs: what the graph's own stand for. Exporters leave out an input that nothing reads, and rename one that is
    an output too. Notes of what was mended; raises ExportError for a graph that cannot stand for the model.
    """
    if len(inputs) < len(graph.inputs):
        raise ExportError(
            f"it gave the inputs {', '.join(value.name for value in graph.inputs)}, of which some are new"
        )
    found = dict(zip(inputs, graph.inputs, strict=False))
    if len(graph.inputs) < len(inputs):
        found = {value.name: value for value in graph.inputs}
    unknown = [name for name in found if name not in lowering.example]
    if unknown:
        raise ExportError(f"it made {unknown[0]!r} an input, which the model has not")
    notes: list[str] = []
    for name, array in lowering.example.items():
        if name not in found:
            found[name] = graph.add_input(name, TensorType(DType.of(array), array.shape))
            notes.append(f"nothing reads the input {name!r}; the exporter left it out, and it was put back")
    outputs = lowering.output_names(graph)
    for name, value in found.items():
        value.name = name
    graph.inputs = tuple(found[name] for name in lowering.example)
    graph.set_results(graph.outputs, outputs)
    _forget_interface(graph)
    _check_dims(graph, lowering)
    return tuple(notes)


def _check_dims(graph: Graph, lowering: Lowering) -> None:
    for value in graph.inputs:
        example, open_axes = lowering.example[value.name], lowering.dynamic.get(value.name, {})
        if value.dtype is None or value.dtype.numpy != example.dtype:
            raise ExportError(f"it made the input {value.name!r} {value.type}, where the example is {example.dtype}")
        if value.shape is None:
            continue
        if len(value.shape) != example.ndim:
            raise ExportError(
                f"it made the input {value.name!r} {value.type}, where the example has {example.ndim} axes"
            )
        for axis, dim in enumerate(value.shape):
            if axis in open_axes and isinstance(dim, int):
                raise ExportError(f"it fixed the dim {open_axes[axis]!r} at {dim}, axis {axis} of {value.name!r}")


def _forget_interface(graph: Graph) -> None:
    """What the file said of inputs and outputs by their old names and in their old order."""
    source = graph.source
    if isinstance(source, onnx.GraphProto):
        source.ClearField("input")
        source.ClearField("output")
