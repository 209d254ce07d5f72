"""The text form: what it shows, that it is deterministic, and that onnx.parser reads it back as the same graph."""

import math

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import AttributeProto, helper, numpy_helper, parser

from planish import ir
from planish.ir import Builder, DType, OptionalType, SequenceType, TensorType, constant

PARTS = 4


def load(source: str) -> ir.Graph:
    return ir.load(parser.parse_model(source))


def read_back(graph: ir.Graph) -> ir.Graph:
    return load(ir.text(graph))


def facts(graph: ir.Graph) -> list[object]:
    """Everything about a graph but its values' identity, names included."""
    constants = [(value.name, value.constant) for value in graph.initializers if value.constant is not None]
    return [
        graph.name,
        [(value.name, str(value.type)) for value in graph.inputs],
        [(value.name, elements(tensor)) for value, tensor in graph.defaults.items()],
        [(name, str(tensor.dtype), tensor.shape, elements(tensor)) for name, tensor in constants],
        [
            (node.op, node.name, list(map(str, node.operands)), [(str(r), str(r.type)) for r in node.results])
            for node in graph.nodes
        ],
        [sorted((name, attribute(value)) for name, value in node.attributes.items()) for node in graph.nodes],
        list(zip(graph.output_names, map(str, graph.outputs), strict=True)),
    ]


def elements(tensor: ir.graph.Tensor) -> list[str]:
    return list(map(repr, tensor.array().reshape(-1).tolist()))


def attribute(value: object) -> str:
    if isinstance(value, ir.Graph):
        return str(facts(value))
    if isinstance(value, ir.graph.Tensor):
        return str((value.dtype, value.shape, elements(value)))
    return repr(np.float32(value)) if isinstance(value, float) else repr(value)


EVERYTHING = """<ir_version: 8, opset_import: ["" : 17, "com.vendor" : 1]>
"a net/of:things" (float[N,3] x, bool c, float[] open, float[?,2] part, float["a b"] odd, seq(float[N]) items, optional(int64[2]) maybe, double d, float[1] scale = {3.0}) => (float[N,3] y, int64[2] shape, float[N,3] z)
   <
      float[3] w = {1.0, 2.0, -0.5},
      float16[2] half = {15360, 49152},  # 1.0, -2.0
      string[2] words = {"a", "say \\"b\\" \\\\ c"},
      bool[1] flag = {1},
      int64 scalar = {-9223372036854775808},
      uint64[0] empty = {},
      float[3,3] many
   >
{
   [first] "a/b:0" = Add (x, w)
   ["the second"] cut = Clip ("a/b:0", "", scale)
   values, "" = TopK <axis = -1, largest = 0> (x, shape_of)
   elu = Elu <alpha = 0.1> (cut)
   y = If (c) <then_branch = then () => (float[N,3] kept) {
      kept = Identity (elu)
   }, else_branch = otherwise () => (float[N,3] doubled)
      <float[1] two = {2.0}>
   {
      doubled = Mul (elu, two)
   }>
   shape = Constant <value = int64[2] {3, 4}> ()
   z = com.vendor.Strange <level = 2, names = ["p", "q"], parts: ints = [], ratios = [1.0, 2.5]> (x)
}
"""


def test_everything_is_written_as_it_is_read() -> None:
    source = EVERYTHING.replace('shape_of)\n', 'k)\n').replace("float[3,3] many", "int64[1] k = {1}")
    source = source.replace("float[N,3] z)", "float[N,3] z)", 1)
    graph = load(source)
    assert ir.text(graph) == source
    assert facts(read_back(graph)) == facts(graph)
