"""Graph -> text, in the syntax of onnx.parser, for people, tests and records."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import cast

import numpy as np

from planish.ir.dim import Dim
from planish.ir.emit import least_ir_version
from planish.ir.emit_names import Names
from planish.ir.errors import GraphError
from planish.ir.graph import Attribute, Graph, Node, OpaqueAttribute, Value
from planish.ir.load_tensor import SparseTensor
from planish.ir.ops import forms, schema
from planish.ir.tensor import Tensor
from planish.ir.types import DType, OptionalType, SequenceType, TensorType, Type

PRINTED_ELEMENTS = 8
_WIDTH = 100
_INDENT = "   "
_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
_OVERRIDABLE_SINCE_IR = 4
_EMPTY_LISTS = {6: "floats", 7: "ints", 8: "strings"}  # as AttributeProto numbers its types


def text(graph: Graph) -> str:
    """The graph in ONNX text syntax, under the names and in the operators that `emit` would write.

    Weights of more than 8 elements are declared and not printed; a graph without any is read back by onnx.parser.
    Comments mark what the syntax cannot say: operators that keep an old version's meaning or that onnx does not know,
    and those that the graph's opset has no form for, which stand in canonical form. A nested graph is printed alone.
    Functions, documentation and metadata are left out.
    """
    printer = _Printer(graph.root)
    names = printer.names(graph)
    body = printer.body(graph, names)
    head = printer.head(graph, names, printer.loose(graph, names))
    if graph.owner is not None:
        return f"{head}{body}\n"
    imports = ", ".join(f"{_quoted(domain)} : {version}" for domain, version in graph.opset_imports.items())
    version = max(least_ir_version(graph.opset_imports), _OVERRIDABLE_SINCE_IR)
    return f"<ir_version: {version}, opset_import: [{imports}]>\n{head}{body}\n"


class _Printer:
    def __init__(self, root: Graph) -> None:
        self.imports = root.opset_imports

    def names(self, graph: Graph) -> Names:
        outer = None if graph.owner is None or graph.owner.graph is None else self.names(graph.owner.graph)
        return Names(graph, outer)

    def head(self, graph: Graph, names: Names, constants: Iterable[tuple[str, Tensor]], indent: str = "") -> str:
        inputs = [self.input(value, graph.defaults.get(value), names) for value in graph.inputs]
        outputs = [_typed(value.type, name) for value, name in zip(graph.outputs, names.output_names, strict=True)]
        head = f"{_name(graph.name or 'graph')} ({', '.join(inputs)}) => ({', '.join(outputs)})"
        declared = [_declaration(name, tensor) for name, tensor in constants]
        if not declared:
            return f"{head} "
        plain = ", ".join(line for line, _ in declared)
        if len(indent) + len(plain) < _WIDTH and not any(comment for _, comment in declared):
            return f"{head}\n{indent}{_INDENT}<{plain}>\n{indent}"
        ends = [","] * (len(declared) - 1) + [""]
        lines = [f"{_INDENT}{line}{end}{comment}" for (line, comment), end in zip(declared, ends, strict=True)]
        return f"\n{indent}".join([head, *(f"{_INDENT}{line}" for line in ("<", *lines, ">")), ""])

    def loose(self, graph: Graph, names: Names) -> list[tuple[str, Tensor]]:
        """The constants to declare: the graph's own, and in the main graph those that no graph holds."""
        own = [(names.names[value], value.constant) for value in graph.initializers if value not in graph.defaults]
        if names.outer is None:
            own += [
                (name, value.constant)
                for value, name in names.names.items()
                if value.producer is None and value not in graph.initializers
            ]
        return [(name, tensor) for name, tensor in own if tensor is not None]

    def input(self, value: Value, default: Tensor | None, names: Names) -> str:
        typed = _typed(value.type, names.names[value])
        elements = None if default is None else _elements(default)
        return typed if elements is None else f"{typed} = {elements}"

    def body(self, graph: Graph, names: Names, indent: str = "") -> str:
        lines = [self.node(node, names, indent + _INDENT) for node in graph.nodes]
        for value, name in names.copies:
            copy = names.call(f"{name}_copy")
            lines.append(f"{indent}{_INDENT}[{_name(copy)}] {_name(name)} = Identity ({_name(names.of(value))})")
        return "\n".join(["{", *lines, f"{indent}}}"])

    def node(self, node: Node, names: Names, indent: str) -> str:
        key = schema.parse_key(node.op)
        op, operands, attributes, comment = node.op.removeprefix("::"), node.operands, node.attributes, ""
        try:
            op, operands, attributes = forms.lower_form(node, self.imports.get(key.domain, 0))
        except GraphError as error:
            comment = f"  # {error.message}"
        if key.version and not comment:
            comment = f"  # as of opset {key.version}"
        elif not key.domain and schema.newest(node.op) is None:
            comment = "  # not an operator of ONNX"
        if key.domain:
            op = f"{key.domain}.{op.rpartition('::')[2]}"
        label = f"[{_name(names.call(node.name))}] " if node.name else ""
        results = ", ".join(_name(names.names.get(result, "")) for result in node.results)
        called = f"{op}:{key.overload}" if key.overload and not comment else op
        reads = ", ".join(_name(names.of(operand)) for operand in operands)
        written = ", ".join(self.attribute(node, name, attributes[name], names, indent) for name in attributes)
        given = f" <{written}>" if written else ""
        call = f"({reads}){given}" if node.graphs else f"{given.lstrip()}{' ' if given else ''}({reads})"
        return f"{indent}{label}{results} = {called} {call}{comment}"

    def attribute(self, node: Node, name: str, value: Attribute, names: Names, indent: str) -> str:
        if value == ():
            kind = _EMPTY_LISTS.get(schema.attribute_type(node.op, name), "ints")
            return f"{name}: {kind} = []"
        if isinstance(value, tuple):
            parts = [self.attribute_value(part, names, indent) for part in value]
            return f"{name} = [{', '.join(parts)}]"
        return f"{name} = {self.attribute_value(value, names, indent)}"

    def attribute_value(self, value: Attribute, names: Names, indent: str) -> str:
        if isinstance(value, Graph):
            inner = Names(value, names)
            body = self.body(value, inner, indent)
            return f"{self.head(value, inner, self.loose(value, inner), indent)}{body}"
        if isinstance(value, Tensor):
            return f"{_type(TensorType(value.dtype, value.shape))} {_elements(value) or '{...}'}"
        if isinstance(value, OpaqueAttribute):
            return "{...}"
        if isinstance(value, float):
            return _number(value, DType.FLOAT)
        return str(value) if isinstance(value, int) else _quoted(cast("str | bytes", value))


def _declaration(name: str, tensor: Tensor) -> tuple[str, str]:
    """A constant, and a comment with the numbers behind elements that the syntax spells as codes."""
    elements = _elements(tensor)
    typed = _typed(TensorType(tensor.dtype, tensor.shape), name)
    if elements is None:
        return typed, ""
    numbers = [str(number) for number in tensor.array().reshape(-1).tolist()] if _is_coded(tensor.dtype) else []
    return f"{typed} = {elements}", f"  # {', '.join(numbers)}" if numbers else ""


def _elements(tensor: Tensor) -> str | None:
    """A small tensor's elements; None for those that are declared only."""
    unreadable = tensor.dtype.bits % 8 or tensor.dtype in (DType.COMPLEX64, DType.COMPLEX128)
    if tensor.size > PRINTED_ELEMENTS or unreadable or isinstance(tensor, SparseTensor):
        return None
    flat = tensor.array().reshape(-1)
    if tensor.dtype is DType.STRING:
        return f"{{{', '.join(_quoted(part) for part in cast('list[str | bytes]', flat.tolist()))}}}"
    if _is_coded(tensor.dtype):
        flat = flat.view(np.uint8 if tensor.dtype.bits == 8 else np.uint16)
    return f"{{{', '.join(_number(number, tensor.dtype) for number in cast('list[float]', flat.tolist()))}}}"


def _is_coded(dtype: DType) -> bool:
    """Whether the syntax spells an element as the integer that its bits make."""
    return dtype.is_float and dtype not in (DType.FLOAT, DType.DOUBLE)


def _number(value: float, dtype: DType) -> str:
    """The shortest spelling that is read back as the same number."""
    if isinstance(value, int):
        return str(int(value))
    return str(np.float32(value)) if dtype is DType.FLOAT else repr(value)


def _typed(type: Type | None, name: str) -> str:
    known = _type(type)
    return f"{known} {_name(name)}" if known else _name(name)


def _type(type: Type | None) -> str:
    """A type; "" where nothing is known or the syntax has none."""
    if isinstance(type, TensorType):
        element = type.dtype.name.lower()
        if type.shape is None:
            return f"{element}[]"
        return f"{element}[{','.join(_dim(dim) for dim in type.shape)}]" if type.shape else element
    if isinstance(type, (SequenceType, OptionalType)):
        element = _type(type.element)
        return f"{'seq' if isinstance(type, SequenceType) else 'optional'}({element})" if element else ""
    return ""


def _dim(dim: Dim) -> str:
    spelled = str(dim)
    return "?" if "?" in spelled else spelled if isinstance(dim, int) else _name(spelled)


def _name(name: str) -> str:
    return name if _IDENTIFIER.match(name) else _quoted(name)


def _quoted(content: str | bytes) -> str:
    decoded = content if isinstance(content, str) else content.decode(errors="backslashreplace")
    return '"' + decoded.replace("\\", "\\\\").replace('"', '\\"') + '"'
