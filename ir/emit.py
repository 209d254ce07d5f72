"""Graph -> ModelProto: what no pass touched goes out as it came in; the interface always does."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import cast

import onnx
from google.protobuf.message import Message
from onnx import AttributeProto, TensorProto, helper

from planish.ir.emit_names import Names
from planish.ir.errors import GraphError
from planish.ir.graph import Attribute, Graph, Node, OpaqueAttribute, Value
from planish.ir.load import ORIGIN, Source, origin_of
from planish.ir.load_tensor import ExternalTensor, ProtoTensor, SparseTensor
from planish.ir.ops import forms, schema
from planish.ir.tensor import Tensor, raw_bytes
from planish.ir.types import DType, OpaqueType, OptionalType, SequenceType, TensorType, Type

LARGEST_PROTOBUF = 2**31 - 2**20
_LISTED_UNTIL_IR = 4
TensorWriter = Callable[[Tensor, TensorProto], None]


def emit(graph: Graph, *, opset: int | None = None) -> onnx.ModelProto:
    """The model, with every weight inside it.

    opset: the version of the standard operators to write; None keeps the graph's own. Raises GraphError when an
    operator has no form in it, or when the weights do not fit a protobuf (2 GB): `save` writes those to a file.
    """
    size = sum(tensor.nbytes for tensor in constants(graph))
    if size > LARGEST_PROTOBUF:
        raise GraphError(f"{size} bytes of weights do not fit one protobuf; use save, which writes them to a file")
    return Emitter(graph, opset, write_inline).model()


def constants(graph: Graph) -> Iterable[Tensor]:
    """The tensors that an emitted model holds, each once."""
    seen: dict[int, Tensor] = {}
    for value in graph.initializers:
        tensor = value.constant or graph.defaults.get(value)
        if tensor is not None:
            seen[id(tensor)] = tensor
    for node in graph.nodes:
        for operand in node.operands:
            if operand is not None and operand.constant is not None:
                seen[id(operand.constant)] = operand.constant
        for nested in node.graphs:
            seen |= {id(tensor): tensor for tensor in constants(nested)}
    return seen.values()


def write_inline(tensor: Tensor, proto: TensorProto) -> None:
    """Fill `proto` (its name apart) with the tensor, weights inside."""
    if isinstance(tensor, ProtoTensor):
        proto.CopyFrom(tensor.proto)
        return
    if isinstance(tensor, ExternalTensor):
        proto.CopyFrom(tensor.proto)
        proto.ClearField("external_data")
        proto.ClearField("data_location")
    proto.data_type = int(tensor.dtype)
    if not proto.dims:
        proto.dims.extend(tensor.shape)
    if tensor.dtype is DType.STRING:
        text = cast("list[str | bytes]", tensor.array().reshape(-1).tolist())
        proto.string_data.extend([part.encode() if isinstance(part, str) else part for part in text])
    elif tensor.in_memory:
        proto.raw_data = bytes(raw_bytes(tensor.array()))
    else:
        proto.raw_data = b"".join(tensor.raw_chunks())


class Emitter:
    """One emission: holds the opset and where tensors are written."""

    def __init__(self, graph: Graph, opset: int | None, write: TensorWriter) -> None:
        self.root = graph
        self.write = write
        self.imports = dict(graph.opset_imports)
        if opset is not None:
            self.imports[""] = opset
        model = graph.model
        self.loaded = model if isinstance(model, onnx.ModelProto) else None
        loaded = {("" if o.domain == "ai.onnx" else o.domain): o.version for o in self.loaded.opset_import} if self.loaded else {}
        self.same_opsets = all(loaded.get(domain) == version for domain, version in self.imports.items())

    def model(self) -> onnx.ModelProto:
        model = onnx.ModelProto()
        if self.loaded is not None:
            copy_fields(self.loaded, model, except_for=("graph",))
        else:
            model.ir_version = onnx.IR_VERSION
            model.producer_name = "planish"
        self.import_opsets(model)
        names = Names(self.root)
        self.graph(self.root, names, model.graph)
        self.finish_initializers(model, names)
        return model

    def import_opsets(self, model: onnx.ModelProto) -> None:
        known = {("" if o.domain == "ai.onnx" else o.domain): o for o in model.opset_import}
        for domain, version in self.imports.items():
            if domain not in known:
                model.opset_import.append(helper.make_opsetid(domain, version))
            elif known[domain].version != version:
                known[domain].version = version
        if not self.same_opsets and self.loaded is not None:
            needed = helper.find_min_ir_version_for(model.opset_import, ignore_unknown=True)
            model.ir_version = max(model.ir_version, needed)

    def graph(self, graph: Graph, names: Names, proto: onnx.GraphProto) -> None:
        source = graph.source if isinstance(graph.source, onnx.GraphProto) else None
        if source is not None:
            copy_fields(source, proto, except_for=_REBUILT)
        else:
            proto.name = graph.name or "graph"
        for node in graph.nodes:
            proto.node.append(self.node(node, names))
        for value, name in names.copies:
            proto.node.append(helper.make_node("Identity", [names.of(value)], [name], name=names.unique(f"{name}_copy")))
        self.interface(graph, names, proto, source)
        for value in graph.initializers:
            self.initializer(value, value.constant or graph.defaults[value], names.names[value], proto)
        if source is not None:
            self.annotations(source, names, proto)

    def interface(self, graph: Graph, names: Names, proto: onnx.GraphProto, source: onnx.GraphProto | None) -> None:
        if source is not None:
            dropped = {info.name for info in source.input} - {value.name for value in graph.inputs}
            dropped -= {names.names[value] for value in graph.initializers}
            proto.input.extend([info for info in source.input if info.name not in dropped])
            proto.output.extend(source.output)
            return
        for value in graph.inputs:
            proto.input.append(value_info(value.name, value.type))
        for value, name in zip(graph.outputs, graph.output_names, strict=True):
            proto.output.append(value_info(name, value.type))

    def initializer(self, value: Value, tensor: Tensor, name: str, proto: onnx.GraphProto) -> None:
        if isinstance(tensor, SparseTensor):
            sparse = proto.sparse_initializer.add()
            sparse.CopyFrom(tensor.proto)
            sparse.values.name = name
            return
        target = proto.initializer.add()
        self.write(tensor, target)
        target.name = name

    def finish_initializers(self, model: onnx.ModelProto, names: Names) -> None:
        """Constants that no graph lists go to the main graph; before IR 4 they would have to be inputs as well."""
        listed = self.root.initializers
        new = [value for value in names.names if value.constant is not None and value.producer is None and value not in listed]
        for value in new:
            tensor = value.constant
            if tensor is not None:
                self.initializer(value, tensor, names.names[value], model.graph)
        if new and model.ir_version < _LISTED_UNTIL_IR:
            model.ir_version = _LISTED_UNTIL_IR
            inputs = {value.name for value in self.root.inputs}
            kept = [info for info in model.graph.input if info.name in inputs]
            model.graph.ClearField("input")
            model.graph.input.extend(kept)

    def annotations(self, source: onnx.GraphProto, names: Names, proto: onnx.GraphProto) -> None:
        alive = names.taken
        proto.value_info.extend([info for info in source.value_info if info.name in alive])
        for annotation in source.quantization_annotation:
            mentioned = [annotation.tensor_name, *(entry.value for entry in annotation.quant_parameter_tensor_names)]
            if all(name in alive for name in mentioned):
                proto.quantization_annotation.append(annotation)

    def node(self, node: Node, names: Names) -> onnx.NodeProto:
        source = node.source if isinstance(node.source, Source) else None
        if source is not None and self.same_opsets and source.operands is node.operands and not node.graphs:
            proto = self.renamed(source.proto, node, names)
        else:
            proto = self.rebuilt(node, source, names)
        if node.origin and (source is None or node.origin != origin_of(source.proto)):
            proto = proto if source is None or proto is not source.proto else _copy(proto)
            _set_origin(proto, node.origin)
        return proto

    def renamed(self, source: onnx.NodeProto, node: Node, names: Names) -> onnx.NodeProto:
        """The node as it was loaded, under the names that its operands and results have now."""
        inputs = [names.of(operand) for operand in node.operands[: len(source.input)]]
        outputs = [names.names.get(result, "") for result in node.results]
        if inputs == source.input and outputs == source.output:
            return source
        proto = _copy(source)
        proto.ClearField("input")
        proto.ClearField("output")
        proto.input.extend(inputs)
        proto.output.extend(outputs)
        return proto

    def rebuilt(self, node: Node, source: Source | None, names: Names) -> onnx.NodeProto:
        proto = onnx.NodeProto()
        key = schema.parse_key(node.op)
        lowered = forms.lower_form(node, self.imports.get(key.domain, 0))
        written: Mapping[str, AttributeProto] = {}
        if source is not None:
            copy_fields(source.proto, proto, except_for=("input", "output", "attribute"))
            written = {attribute.name: attribute for attribute in source.proto.attribute}
        else:
            proto.op_type = lowered.op
            proto.domain = key.domain
            proto.overload = key.overload
            proto.name = node.name
        proto.input.extend([names.of(operand) for operand in lowered.operands])
        proto.output.extend([names.names.get(result, "") for result in node.results])
        for name in sorted(lowered.attributes, key=lambda name: _position(name, written)):
            proto.attribute.append(self.attribute(node, name, lowered.attributes[name], written.get(name), names))
        return proto

    def attribute(
        self, node: Node, name: str, value: Attribute, written: AttributeProto | None, names: Names
    ) -> AttributeProto:
        if isinstance(value, OpaqueAttribute):
            return cast("AttributeProto", value.source)
        if written is not None and not isinstance(value, Tensor) and schema.decode_plain(written) == value:
            return written
        proto = AttributeProto(name=name)
        if written is not None:
            copy_fields(written, proto, except_for=("g", "graphs", "t", "sparse_tensor", "type"))
        if isinstance(value, Graph):
            proto.type = AttributeProto.GRAPH
            self.graph(value, Names(value, names), proto.g)
        elif isinstance(value, SparseTensor):
            proto.type = AttributeProto.SPARSE_TENSOR
            proto.sparse_tensor.CopyFrom(value.proto)
        elif isinstance(value, Tensor):
            proto.type = AttributeProto.TENSOR
            self.write(value, proto.t)
        elif isinstance(value, tuple) and value and isinstance(value[0], Graph):
            proto.type = AttributeProto.GRAPHS
            for nested in value:
                if isinstance(nested, Graph):
                    self.graph(nested, Names(nested, names), proto.graphs.add())
        else:
            kind = schema.attribute_type(node.op, name) or None
            proto = helper.make_attribute(name, value, attr_type=kind)
        return proto


_REBUILT = ("node", "initializer", "sparse_initializer", "input", "output", "value_info", "quantization_annotation")


def copy_fields(source: Message, target: Message, except_for: Iterable[str]) -> None:
    """Copy every field that is set, but the named ones, from one message to another of its kind."""
    for descriptor, value in source.ListFields():
        if descriptor.name in except_for:
            continue
        if descriptor.is_repeated:
            getattr(target, descriptor.name).extend(value)
        elif descriptor.message_type is not None:
            getattr(target, descriptor.name).CopyFrom(value)
        else:
            setattr(target, descriptor.name, value)


def value_info(name: str, type: Type | None) -> onnx.ValueInfoProto:
    info = onnx.ValueInfoProto(name=name)
    if type is not None:
        info.type.CopyFrom(type_proto(type))
    return info


def type_proto(type: Type | None) -> onnx.TypeProto:
    if isinstance(type, TensorType):
        dims = None if type.shape is None else [_dim_text(dim) for dim in type.shape]
        return helper.make_tensor_type_proto(int(type.dtype), dims)
    if isinstance(type, SequenceType):
        return helper.make_sequence_type_proto(type_proto(type.element))
    if isinstance(type, OptionalType):
        return helper.make_optional_type_proto(type_proto(type.element))
    if isinstance(type, OpaqueType):
        return onnx.TypeProto.FromString(type.encoded)
    return onnx.TypeProto()


def _dim_text(dim: object) -> int | str | None:
    if isinstance(dim, int):
        return dim
    text = str(dim)
    return None if text.startswith("?") else text


def _position(name: str, written: Mapping[str, AttributeProto]) -> tuple[int, str]:
    """Attributes that were loaded keep their order; new ones follow by name."""
    order = list(written)
    return (order.index(name), name) if name in written else (len(order), name)


def _copy(node: onnx.NodeProto) -> onnx.NodeProto:
    proto = onnx.NodeProto()
    proto.CopyFrom(node)
    return proto


def _set_origin(proto: onnx.NodeProto, origin: tuple[str, ...]) -> None:
    text = "\n".join(origin)
    for entry in proto.metadata_props:
        if entry.key == ORIGIN:
            if entry.value != text:
                entry.value = text
            return
    entry = proto.metadata_props.add()
    entry.key, entry.value = ORIGIN, text
