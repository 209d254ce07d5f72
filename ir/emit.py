"""Graph -> ModelProto: what no pass touched goes out as it came in; the interface always does."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import cast

import onnx
from google.protobuf.message import Message
from onnx import AttributeProto, helper

from planish.ir.collection import paused_collection
from planish.ir.emit_names import Names
from planish.ir.emit_tensor import TensorWriter, inline_size, write_inline, write_sparse
from planish.ir.errors import GraphError
from planish.ir.graph import Attribute, Graph, Node, OpaqueAttribute, Value
from planish.ir.load import ORIGIN, Source, opset_versions, origin_of
from planish.ir.load_tensor import Folder, SparseTensor, external_tensors, load_tensor
from planish.ir.ops import forms, schema
from planish.ir.tensor import Tensor
from planish.ir.types import DType, OpaqueType, OptionalType, SequenceType, TensorType, Type

LARGEST_PROTOBUF = 2**31 - 2**20
_LISTED_UNTIL_IR = 4
_SPARSE_CONSTANTS = 11
"""The opset since which Constant has `sparse_value`."""


def emit(graph: Graph, *, opset: int | None = None) -> onnx.ModelProto:
    """The model, with every weight inside it.

    opset: the version of the standard operators to write; None keeps the graph's own. Raises GraphError when an
    operator has no form in it, or when the weights do not fit a protobuf (2 GB): `save` writes those to a file.
    """
    size = sum(map(inline_size, constants(graph)))
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
    for node in (*graph.nodes, graph.returns):
        for operand in node.operands:
            if operand is not None and operand.constant is not None:
                seen[id(operand.constant)] = operand.constant
        for nested in node.graphs:
            seen |= {id(tensor): tensor for tensor in constants(nested)}
    return seen.values()


def least_ir_version(imports: Mapping[str, int]) -> int:
    """The lowest IR version that allows those versions of the domains that onnx knows."""
    opsets = [helper.make_opsetid(domain, version) for domain, version in imports.items()]
    return helper.find_min_ir_version_for(opsets, ignore_unknown=True)


class Emitter:
    """One emission: holds the opset and where tensors are written."""

    def __init__(self, graph: Graph, opset: int | None, write: TensorWriter) -> None:
        self.root = graph
        self.write = write
        self.imports = dict(graph.opset_imports)
        if opset is not None:
            if not 1 <= opset <= schema.NEWEST_OPSET:
                raise GraphError(
                    f"opset {opset} is none of those that the installed onnx knows, 1 to {schema.NEWEST_OPSET}"
                )
            self.imports[""] = opset
        self.loaded = graph.model if isinstance(graph.model, onnx.ModelProto) else None
        loaded = opset_versions(self.loaded) if self.loaded is not None else {}
        self.changed = {domain for domain, version in self.imports.items() if loaded.get(domain) != version}
        self.functions = {(f.domain, f.name) for f in (self.loaded or onnx.ModelProto()).functions}
        self.changed |= {"ai.onnx"} if "" in self.changed else set()

    def model(self) -> onnx.ModelProto:
        with paused_collection():
            return self.build()

    def build(self) -> onnx.ModelProto:
        model = onnx.ModelProto()
        if self.loaded is not None:
            copy_fields(self.loaded, model, except_for=("graph",))
        else:
            model.producer_name = "planish"
        self.import_opsets(model)
        names = Names(self.root)
        self.graph(self.root, names, model.graph)
        self.finish_initializers(model, names)
        self.embed_external(model)
        return model

    def import_opsets(self, model: onnx.ModelProto) -> None:
        known = {("" if o.domain == "ai.onnx" else o.domain): o for o in model.opset_import}
        for domain in [domain for domain in self.imports if domain in self.changed]:
            if domain in known:
                known[domain].version = self.imports[domain]
            else:
                model.opset_import.append(helper.make_opsetid(domain, self.imports[domain]))
        if self.loaded is None or self.changed:
            least = least_ir_version(self.imports)
            model.ir_version = max(model.ir_version, least, _LISTED_UNTIL_IR if self.loaded is None else 0)

    def graph(self, graph: Graph, names: Names, proto: onnx.GraphProto) -> None:
        source = graph.source if isinstance(graph.source, onnx.GraphProto) else None
        if source is not None:
            copy_fields(source, proto, except_for=_REBUILT)
        else:
            proto.name = graph.name or "graph"
        for node in graph.nodes:
            emitted = self.node(node, names)
            proto.node.append(emitted)
            called = names.call(emitted.name)
            if called != emitted.name:
                proto.node[-1].name = called
        for value, name in names.copies:
            called = names.call(f"{name}_copy")
            proto.node.append(helper.make_node("Identity", [names.of(value)], [name], name=called))
        for value in graph.initializers:
            self.initializer(value.constant or graph.defaults[value], names.names[value], proto, graph is self.root)
        self.interface(graph, names, proto, source or onnx.GraphProto())
        if source is not None:
            annotate(source, names, proto)

    def interface(self, graph: Graph, names: Names, proto: onnx.GraphProto, source: onnx.GraphProto) -> None:
        """Inputs and outputs as loaded; before IR 4 the initializers that are left stand among the inputs."""
        inputs = {value.name: value for value in graph.inputs}
        constants = {value.name: value for value in graph.initializers if value not in graph.defaults}
        for info in source.input:
            value = inputs.pop(info.name, None) or constants.get(info.name)
            if value is not None:
                proto.input.append(retyped(named(info, names.names[value]), value.type))
        for value in inputs.values():
            proto.input.append(value_info(names.names[value], value.type))
        outputs = {info.name: info for info in source.output}
        for value, old, name in zip(graph.outputs, graph.output_names, names.output_names, strict=True):
            declared = (
                retyped(named(outputs[old], name), value.type) if old in outputs else value_info(name, value.type)
            )
            proto.output.append(declared)

    def initializer(self, tensor: Tensor, name: str, proto: onnx.GraphProto, main: bool) -> None:
        if isinstance(tensor, SparseTensor):
            sparse = proto.sparse_initializer.add()
            write_sparse(tensor, sparse)
            sparse.values.name = name
            return
        target = proto.initializer.add()
        self.write(tensor, target, len(proto.initializer) - 1 if main else None)
        target.name = name

    def finish_initializers(self, model: onnx.ModelProto, names: Names) -> None:
        """Constants that no graph lists go to the main graph; before IR 4 they would have to be inputs as well."""
        listed = self.root.initializers
        for value, name in names.names.items():
            if value.constant is None or value.producer is not None or value in listed:
                continue
            if isinstance(value.constant, SparseTensor) and self.imports.get("", 0) >= _SPARSE_CONSTANTS:
                model.graph.node.insert(0, _sparse_constant(value.constant, name))
            else:
                self.initializer(value.constant, name, model.graph, main=True)
        if self.loaded is None or model.ir_version >= _LISTED_UNTIL_IR:
            return
        old = {tensor.name for tensor in self.loaded.graph.initializer} | {info.name for info in model.graph.input}
        if any(tensor.name not in old for tensor in model.graph.initializer):
            model.ir_version = _LISTED_UNTIL_IR
            inputs = {value.name for value in self.root.inputs}
            kept = [info for info in model.graph.input if info.name in inputs]
            model.graph.ClearField("input")
            model.graph.input.extend(kept)

    def embed_external(self, model: onnx.ModelProto) -> None:
        """Put external data of functions and training graphs, which are kept as they came, inside the model."""
        if self.root.path is None:
            return
        folder = Folder.of(self.root.path)
        for tensor in external_tensors(model):
            write_inline(load_tensor(tensor, folder), tensor)

    def node(self, node: Node, names: Names) -> onnx.NodeProto:
        source = node.source if isinstance(node.source, Source) else None
        untouched = source is not None and source.operands is node.operands and not node.graphs
        if source is not None and untouched and source.proto.domain not in self.changed:
            proto = self.renamed(source.proto, node, names)
        else:
            proto = self.rebuilt(node, source, names)
        if node.origin and (source is None or node.origin != origin_of(source.proto)):
            proto = proto if source is None or proto is not source.proto else _copy(proto)
            _set_origin(proto, node.origin)
        return proto

    def renamed(self, source: onnx.NodeProto, node: Node, names: Names) -> onnx.NodeProto:
        """The node as it was loaded, under the names that its operands and results have now."""
        table, written = names.names, source.input
        inputs = ["" if o is None else table.get(o) or names.of(o) for o in node.operands[: len(written)]]
        inputs += [""] * (len(written) - len(inputs))
        outputs = [table.get(result, "") for result in node.results]
        if inputs == written and outputs == source.output:
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
        self.check_foreign(node, key)
        lowered = forms.lower_form(node, self.imports.get(key.domain, 0))
        written: Mapping[str, AttributeProto] = {}
        if source is not None:
            copy_fields(source.proto, proto, except_for=("input", "output", "attribute"))
            written = {attribute.name: attribute for attribute in source.proto.attribute}
        else:
            proto = onnx.NodeProto(
                op_type=lowered.op, domain=key.domain or None, overload=key.overload or None, name=node.name or None
            )
        proto.input.extend([names.of(operand) for operand in lowered.operands])
        proto.output.extend([names.names.get(result, "") for result in node.results])
        for name in sorted(lowered.attributes, key=lambda name: _position(name, written)):
            proto.attribute.append(self.attribute(node, name, lowered.attributes[name], written.get(name), names))
        return proto

    def check_foreign(self, node: Node, key: schema.Key) -> None:
        """An operator that the model's opset lacks must not become one of that name that another opset has."""
        if key.domain in self.changed and node.op.startswith("::") and (key.domain, key.op_type) not in self.functions:
            opset = self.imports[key.domain]
            if schema.at(key.domain, key.op_type, opset) is not None:
                raise GraphError(f"{key.op_type} is unknown in the model's opset, and opset {opset} has one", node)

    def attribute(
        self, node: Node, name: str, value: Attribute, written: AttributeProto | None, names: Names
    ) -> AttributeProto:
        if isinstance(value, OpaqueAttribute):
            return cast("AttributeProto", value.source)
        if written is not None and not isinstance(value, Tensor) and schema.decode_plain(written) == value:
            return written
        proto = AttributeProto(name=name)
        if written is not None and written.HasField("doc_string"):
            proto.doc_string = written.doc_string
        if isinstance(value, Graph):
            proto.type = AttributeProto.GRAPH
            self.graph(value, Names(value, names), proto.g)
        elif isinstance(value, SparseTensor):
            proto.type = AttributeProto.SPARSE_TENSOR
            write_sparse(value, proto.sparse_tensor)
        elif isinstance(value, Tensor):
            proto.type = AttributeProto.TENSOR
            write_inline(value, proto.t)
        elif isinstance(value, tuple) and value and isinstance(value[0], (Graph, Tensor)):
            proto.type = AttributeProto.GRAPHS if isinstance(value[0], Graph) else AttributeProto.TENSORS
            for part in value:
                if isinstance(part, Graph):
                    self.graph(part, Names(part, names), proto.graphs.add())
                elif isinstance(part, Tensor):
                    write_inline(part, proto.tensors.add())
        else:
            self.plain(node, name, value, proto)
        return proto

    def plain(self, node: Node, name: str, value: object, proto: AttributeProto) -> None:
        try:
            made = helper.make_attribute(name, value, attr_type=schema.attribute_type(node.op, name) or None)
        except (TypeError, ValueError) as error:
            raise GraphError(f"the attribute {name!r} cannot be written: {error}", node) from None
        proto.MergeFrom(made)


def _sparse_constant(tensor: SparseTensor, name: str) -> onnx.NodeProto:
    """A sparse initializer would do in runtimes, but by ONNX's rules its type is one that no operator takes."""
    node = onnx.NodeProto(op_type="Constant", output=[name])
    write_sparse(tensor, node.attribute.add(name="sparse_value", type=AttributeProto.SPARSE_TENSOR).sparse_tensor)
    return node


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


def annotate(source: onnx.GraphProto, names: Names, proto: onnx.GraphProto) -> None:
    """Keep what the model said of values by their names, unless a value is gone or another one has its name now."""
    if not source.value_info and not source.quantization_annotation:
        return
    infos = {info.name: info for info in source.value_info}
    alive = {n for value, n in names.names.items() if value.name == n and _is_still(value, infos.get(n))}
    gone = {name for node in source.node for name in node.output}
    gone.update(info.name for info in source.input)
    gone.update(tensor.name for tensor in source.initializer)
    gone.update(sparse.values.name for sparse in source.sparse_initializer)
    gone = (gone | names.taken) - alive
    proto.value_info.extend([info for info in source.value_info if info.name not in gone])
    for annotation in source.quantization_annotation:
        parameters = [entry.value for entry in annotation.quant_parameter_tensor_names]
        if gone.isdisjoint((annotation.tensor_name, *parameters)):
            proto.quantization_annotation.append(annotation)


def _is_still(value: Value, info: onnx.ValueInfoProto | None) -> bool:
    """Whether it is a loaded value; a constant under a loaded one's name must have the shape declared of it."""
    if value.producer is not None:
        return value.producer.source is not None
    if value.constant is None or info is None or not info.type.tensor_type.HasField("shape"):
        return True
    dims, shape = info.type.tensor_type.shape.dim, value.constant.shape
    return len(dims) == len(shape) and all(d.dim_value in (0, n) for d, n in zip(dims, shape, strict=True))


def named(info: onnx.ValueInfoProto, name: str) -> onnx.ValueInfoProto:
    if info.name == name:
        return info
    renamed = onnx.ValueInfoProto()
    renamed.CopyFrom(info)
    renamed.name = name
    return renamed


def retyped(info: onnx.ValueInfoProto, type: Type | None) -> onnx.ValueInfoProto:
    """What was declared of floats, with the precision that they have now: a pass may have been asked for another.

    Another type than that is one of the opset: old versions of Dropout give a mask of floats.
    """
    known = info.type.tensor_type.elem_type
    if not known or not isinstance(type, TensorType) or type.dtype == known:
        return info
    if not (DType(known).is_float and type.dtype.is_float):
        return info
    changed = onnx.ValueInfoProto()
    changed.CopyFrom(info)
    changed.type.tensor_type.elem_type = type.dtype
    return changed


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
    return None if "?" in text else text


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
