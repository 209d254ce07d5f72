"""The graph IR: what a model is, in one canonical form.

graph = load("model.onnx")
save(graph, "copy.onnx")
"""

from planish.ir.build import Builder
from planish.ir.dim import Dim, Expr, Shape, symbol
from planish.ir.emit import emit
from planish.ir.emit_file import save
from planish.ir.errors import GraphError
from planish.ir.graph import Graph, Node, Use, Value, constant
from planish.ir.load import load
from planish.ir.text import text
from planish.ir.types import DType, OpaqueType, OptionalType, SequenceType, TensorType, Type
from planish.ir.verify import verify
from planish.ir.view import digraph

__all__ = [
    "Builder",
    "DType",
    "Dim",
    "Expr",
    "Graph",
    "GraphError",
    "Node",
    "OpaqueType",
    "OptionalType",
    "SequenceType",
    "Shape",
    "TensorType",
    "Type",
    "Use",
    "Value",
    "constant",
    "digraph",
    "emit",
    "load",
    "save",
    "symbol",
    "text",
    "verify",
]
