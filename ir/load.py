"""ModelProto -> Graph: one canonical form, with what no pass needs kept for emit."""

from __future__ import annotations

import os
from collections.abc import Hashable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple, cast

import networkx as nx
import onnx
from onnx import AttributeProto, inliner

from planish.ir.collection import paused_collection
from planish.ir.dim import Dim, fresh_symbol, symbol
from planish.ir.errors import GraphError
from planish.ir.graph import Attribute, Graph, Node, OpaqueAttribute, Value
from planish.ir.infer import infer
from planish.ir.load_file import read_model
from planish.ir.load_repair import repair
from planish.ir.load_tensor import Folder, count_of, external_tensors, is_external, load_sparse, load_tensor
from planish.ir.ops import forms, schema
from planish.ir.ops.table import OPERATORS
from planish.ir.tensor import Spool, Tensor
from planish.ir.types import DType, OpaqueType, OptionalType, SequenceType, TensorType, Type

ORIGIN = "planish.origin"
_CONSTANTS_OVERRIDABLE_SINCE_IR = 4


class Source(NamedTuple):
    """What emit needs to write a node as it came: its proto, and the operands that it was loaded with.

    `operands` is None for a node that cannot go out as it came, because it refers to a file.
    """

    proto: onnx.NodeProto
    operands: tuple[Value | None, ...] | None


def load(
    model: str | os.PathLike[str] | onnx.ModelProto,
    *,
    functions: Literal["keep", "inline"] = "keep",
    strict: bool = False,
) -> Graph:
    """Load a model from a file or a ModelProto, which is not changed.

    functions: "keep" leaves calls of model-local functions as operators of which nothing is known; "inline" replaces
    them by their bodies, so that passes see inside. strict: refuse what could be repaired without doubt, such as a name
    that two nodes define; what was repaired is told in the graph's `notes`. External weights are referred to, not read.
    Raises GraphError naming the file and what is wrong with it.
    """
    weights: Mapping[str, memoryview] = {}
    if isinstance(model, onnx.ModelProto):
        proto, folder = onnx.ModelProto(), Folder(None, model.graph.name or "model")
        proto.CopyFrom(model)
    else:
        folder = Folder.of(Path(model))
        proto, weights = read_model(Path(model))
    if not proto.HasField("graph"):
        raise GraphError(f"{folder.origin}: holds no graph, so it is not an ONNX model")
    _check_opsets(proto, folder)
    if functions == "inline" and len(proto.functions):
        proto = inliner.inline_local_functions(proto)
    notes: tuple[str, ...] = ()
    with paused_collection():
        try:
            graph = _load(proto, folder, weights)
        except _DefinedTwiceError:
            notes = () if strict else repair(proto)
            if not notes:
                raise
            graph = _load(proto, folder, weights)
    graph.notes = notes
    for tensor in external_tensors(proto):
        load_tensor(tensor, folder)
    graph.model = proto
    graph.path = None if isinstance(model, onnx.ModelProto) else Path(model).absolute()
    graph.data_files = folder.files
    graph.verified = graph.version
    return graph


def _load(proto: onnx.ModelProto, folder: Folder, weights: Mapping[str, memoryview]) -> Graph:
    try:
        return _Loader(proto, folder, weights).load()
    except _OutOfOrderError:
        return _Loader(proto, folder, weights, sort=True).load()


def opset_versions(proto: onnx.ModelProto) -> dict[str, int]:
    """The version of each domain; IR 1 and 2, which import none, mean the first."""
    return {("" if o.domain == "ai.onnx" else o.domain): o.version for o in proto.opset_import} or {"": 1}


def _check_opsets(proto: onnx.ModelProto, folder: Folder) -> None:
    newest = schema.newest_versions()
    if not proto.opset_import and proto.ir_version >= 3:  # which brought opset imports
        raise GraphError(f"{folder.origin}: imports no operator set, so its operators have no meaning")
    for opset in proto.opset_import:
        domain = "" if opset.domain == "ai.onnx" else opset.domain
        if domain in newest and opset.version < 1:
            raise GraphError(f"{folder.origin}: uses opset {opset.version} of {domain or 'ai.onnx'}; the first is 1")
        if domain in newest and opset.version > newest[domain]:
            raise GraphError(
                f"{folder.origin}: uses opset {opset.version} of {domain or 'ai.onnx'}, and the installed onnx "
                f"{schema.onnx_version()} knows up to {newest[domain]}; upgrade onnx"
            )


class _OutOfOrderError(Exception):
    """A node reads what no earlier one makes."""


class _DefinedTwiceError(GraphError):
    """Two nodes define one name."""


class _Scope:
    """Names that a node may read: those of its graph so far, then those around it."""

    def __init__(self, parent: _Scope | None = None) -> None:
        self.values: dict[str, Value] = {}
        self.parent = parent

    def find(self, name: str) -> Value | None:
        scope: _Scope | None = self
        while scope is not None:
            found = scope.values.get(name)
            if found is not None:
                return found
            scope = scope.parent
        return None


class _Loader:
    def __init__(
        self, proto: onnx.ModelProto, folder: Folder, weights: Mapping[str, memoryview], *, sort: bool = False
    ) -> None:
        """weights: raw data of the main graph's initializers that the proto lacks."""
        self.proto = proto
        self.weights = weights
        self.sort = sort
        self.folder = folder
        self.opsets = opset_versions(proto)
        self.listed_constants = proto.ir_version < _CONSTANTS_OVERRIDABLE_SINCE_IR
        self.functions = {(f.domain, f.name, f.overload) for f in proto.functions}
        self.made: dict[Hashable, Value] = {}
        self.forms: dict[tuple[str, str, str], tuple[str, bool, Sequence[bool]]] = {}

    def load(self) -> Graph:
        try:
            return self.main_graph()
        except GraphError as error:
            if error.node is None:
                raise
            raise GraphError(f"{self.folder.origin}: {error.message}", error.node) from None

    def main_graph(self) -> Graph:
        return self.graph(self.proto.graph, None, Graph(self.text(self.proto.graph.name), self.opsets))

    def graph(self, proto: onnx.GraphProto, parent: _Scope | None, graph: Graph) -> Graph:
        scope = _Scope(parent)
        graph.source = proto
        if parent is None:
            self.main = graph
        self.interface(proto, graph, scope, nested=parent is not None)
        infos = {info.name: info for info in (*proto.output, *proto.value_info)}
        for node in self.in_order(proto.node) if self.sort else proto.node:
            self.node(node, graph, scope, infos)
        outputs: list[Value] = []
        for output in proto.output:
            found = scope.find(output.name)
            if found is None:
                raise self.error(f"output {output.name!r} of graph {proto.name!r} is made by no node")
            outputs.append(found)
        graph.set_results(outputs, [output.name for output in proto.output])
        return graph

    def interface(self, proto: onnx.GraphProto, graph: Graph, scope: _Scope, nested: bool) -> None:
        tensors: dict[str, Tensor] = {}
        for initializer in proto.initializer:
            name = initializer.name
            self.define(tensors, name)
            tensors[name] = load_tensor(initializer, self.folder, None if nested else self.weights.get(name))
        for sparse in proto.sparse_initializer:
            self.define(tensors, sparse.values.name)
            tensors[sparse.values.name] = load_sparse(sparse, self.folder)
        if any(not tensor.in_memory for tensor in tensors.values()):
            self.main.spool = self.main.spool or Spool()
        for info in proto.input:
            self.define(scope.values, info.name)
            if self.listed_constants and info.name in tensors:
                continue
            value = graph.add_input(info.name, self.type(info.type, nested, info.name), tensors.get(info.name))
            value.source = info
            scope.values[info.name] = value
        for name, tensor in tensors.items():
            if name in scope.values:
                graph.initializers[scope.values[name]] = None
            else:
                scope.values[name] = graph.add_initializer(name, tensor)

    def node(
        self, proto: onnx.NodeProto, graph: Graph, scope: _Scope, infos: Mapping[str, onnx.ValueInfoProto]
    ) -> None:
        values = scope.values
        names = proto.input
        operands = tuple([(values.get(n) or self.find(n, scope, proto)) if n else None for n in names]) if names else ()
        results = tuple(proto.output)
        attributes: Mapping[str, Attribute] = {}
        if len(proto.attribute):
            attributes = {self.text(a.name): self.attribute(a, scope) for a in proto.attribute}
            if len(attributes) < len(proto.attribute):
                raise self.error(f"node {proto.name or proto.op_type} has one attribute twice")
        op, plain, required = self.form(proto)
        if len(operands) < len(required) or None in operands:
            self.check_operands(proto, operands, required)
        if not plain:
            written = forms.Spelling(proto.op_type, operands, attributes)
            domain = "" if proto.domain == "ai.onnx" else proto.domain
            opset = self.opsets.get(domain, 0)
            op, operands, attributes = forms.raise_form(domain, opset, written, results, self.made)
        name = proto.name
        node = Node(op, operands, attributes, results, name if name.__class__ is str else self.text(name))
        external = attributes and any(map(is_external, attributes.values()))
        node.source = Source(proto, None if external else node.operands)
        if len(proto.metadata_props):
            node.origin = origin_of(proto)
        graph.insert(node)
        if op == "Constant":
            self.constant(node)
        else:
            infer(node, may_never_run=scope.parent is not None)
        for name, result in zip(results, node.results, strict=True):
            if name:
                if name in values:
                    raise _DefinedTwiceError(
                        f"{self.folder.origin}: value {name!r} is defined twice, the second time by {node.label} "
                        f"({proto.op_type}); export the model again with names that differ"
                    )
                values[name if name.__class__ is str else self.text(name)] = result
                if name in infos:
                    result.source = infos[name]
                    if result.type is None:
                        result.type = self.type(infos[name].type, True, name)

    def check_operands(self, proto: onnx.NodeProto, operands: Sequence[Value | None], required: Sequence[bool]) -> None:
        for index, needed in enumerate(required):
            if needed and (index >= len(operands) or operands[index] is None):
                raise self.error(f"node {proto.name or proto.op_type} lacks operand {index} of {proto.op_type}")

    def form(self, proto: onnx.NodeProto) -> tuple[str, bool, Sequence[bool]]:
        """The key of a node's operator, whether its version is the canonical one, and which operands it must have."""
        name = (proto.domain, proto.op_type, proto.overload)
        found = self.forms.get(name)
        if found is None:
            domain = "" if proto.domain == "ai.onnx" else self.text(proto.domain)
            local = name in self.functions
            known = None if local else forms.form(domain, proto.op_type, self.opsets.get(domain, 0))
            key = schema.key_of(domain, self.text(proto.op_type), overload=proto.overload)
            if known is None and domain in schema.STANDARD_DOMAINS:
                key = schema.foreign_key(key)
            elif local and key in OPERATORS:
                key += ":"  # an overload without a name: the model's own function, and none that the table knows
            required = () if known is None else schema.required(domain, proto.op_type, self.opsets.get(domain, 0))
            found = self.forms[name] = (key, known is None or known.plain, required)
        return found

    def constant(self, node: Node) -> None:
        name, value = next(iter(node.attributes.items()), ("", 0))
        tensor = value if isinstance(value, Tensor) else forms.constant_tensor(name, value)
        if tensor is None or len(node.results) != 1:
            raise self.error(f"the Constant {node.label} holds no value")
        node.result.set_constant(tensor)

    def attribute(self, proto: AttributeProto, scope: _Scope) -> Attribute:
        plain = schema.decode_plain(proto) if not proto.ref_attr_name else None
        if plain is not None:
            return plain
        if proto.type == AttributeProto.TENSOR:
            return load_tensor(proto.t, self.folder)
        if proto.type == AttributeProto.SPARSE_TENSOR:
            return load_sparse(proto.sparse_tensor, self.folder)
        if proto.type == AttributeProto.GRAPH:
            return self.graph(proto.g, scope, Graph(self.text(proto.g.name), outer=self.main))
        if proto.type == AttributeProto.TENSORS and len(proto.tensors):
            return tuple([load_tensor(tensor, self.folder) for tensor in proto.tensors])
        if proto.type == AttributeProto.GRAPHS:
            return tuple([self.graph(g, scope, Graph(self.text(g.name), outer=self.main)) for g in proto.graphs])
        return OpaqueAttribute(proto)

    def type(self, proto: onnx.TypeProto, only_rank: bool, name: str) -> Type | None:
        """A declared type. Inside the graph only element type and rank are believed: exporters get dims wrong."""
        kind = proto.WhichOneof("value")
        if kind == "tensor_type":
            if not proto.tensor_type.elem_type:
                return None
            if proto.tensor_type.elem_type not in DType.__members__.values():
                raise self.error(f"value {name!r} has the element type {proto.tensor_type.elem_type}, which onnx lacks")
            dtype = DType(proto.tensor_type.elem_type)
            if not proto.tensor_type.HasField("shape"):
                return TensorType(dtype)
            dims = [self.dim(dim, only_rank) for dim in proto.tensor_type.shape.dim]
            if count_of(tuple([dim for dim in dims if isinstance(dim, int)])) is None:
                raise self.error(f"the dims {dims} of {name!r} overflow 64 bits")
            return TensorType(dtype, tuple(dims))
        if kind == "sequence_type":
            return SequenceType(self.type(proto.sequence_type.elem_type, only_rank, name))
        if kind == "optional_type":
            return OptionalType(self.type(proto.optional_type.elem_type, only_rank, name))
        return None if kind is None else OpaqueType(proto.SerializeToString())

    def dim(self, proto: onnx.TensorShapeProto.Dimension, only_rank: bool) -> Dim:
        if not only_rank:
            if proto.HasField("dim_value") and proto.dim_value >= 0:
                return proto.dim_value
            if proto.dim_param and not self.text(proto.dim_param).startswith("?"):
                return symbol(proto.dim_param)
        return fresh_symbol(self.main.fresh_name())

    def find(self, name: str, scope: _Scope, proto: onnx.NodeProto) -> Value:
        found = scope.find(name)
        if found is None and not self.sort:
            raise _OutOfOrderError
        if found is None:
            raise self.error(f"node {proto.name or proto.op_type!r} reads {name!r}, which nothing defines")
        return found

    def define(self, names: Mapping[str, object], name: str) -> None:
        if name in names:
            raise self.error(f"value {name!r} is defined twice")
        if name.__class__ is not str:
            self.text(name)

    def text(self, text: str) -> str:
        """protobuf gives bytes where a file's text is not UTF-8."""
        if _is_text(text):
            return text
        raise self.error(f"holds the text {text!r}, which is not UTF-8")

    def in_order(self, nodes: Sequence[onnx.NodeProto]) -> Iterable[onnx.NodeProto]:
        """The nodes, each behind those whose results it reads; ties as they stand."""
        made = {name: index for index, node in enumerate(nodes) for name in node.output if name}
        order: nx.DiGraph[int] = nx.DiGraph()
        order.add_nodes_from(range(len(nodes)))
        for index, node in enumerate(nodes):
            order.add_edges_from((made[name], index) for name in _reads(node) if name in made)
        try:
            return [nodes[i] for i in nx.lexicographical_topological_sort(order)]
        except nx.NetworkXUnfeasible:
            found = nx.find_cycle(order)  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]  no types
            cycle = cast("list[tuple[int, int]]", found)
            names = " -> ".join(nodes[edge[0]].name or nodes[edge[0]].op_type for edge in [*cycle, cycle[0]])
            raise self.error(f"the graph has a cycle: {names}") from None

    def error(self, message: str) -> GraphError:
        return GraphError(f"{self.folder.origin}: {message}")


def _is_text(text: object) -> bool:
    return isinstance(text, str)


def _reads(node: onnx.NodeProto) -> Iterable[str]:
    """The names that a node reads, those that its nested graphs capture among them."""
    if not len(node.attribute):
        return node.input
    names = list(node.input)
    for attribute in node.attribute:
        for graph in (attribute.g, *attribute.graphs) if attribute.type in _GRAPHS else ():
            inside = {name for inner in graph.node for name in inner.output}
            inside.update(info.name for info in graph.input)
            inside.update(tensor.name for tensor in graph.initializer)
            inside.update(sparse.values.name for sparse in graph.sparse_initializer)
            read = [name for inner in graph.node for name in _reads(inner)]
            read += [output.name for output in graph.output]
            names += [name for name in read if name not in inside]
    return names


_GRAPHS = (AttributeProto.GRAPH, AttributeProto.GRAPHS)


def origin_of(proto: onnx.NodeProto) -> tuple[str, ...]:
    """The nodes that an earlier run of planish made this one from."""
    for entry in proto.metadata_props:
        if entry.key == ORIGIN:
            return tuple(entry.value.split("\n"))
    return ()
