"""A node without an operand that its operator needs is named at load."""

from __future__ import annotations

import onnx
import pytest

from planish.ir import GraphError, load


@pytest.mark.parametrize("call", ["MatMul (x)", "Gather (x)", "Conv (x)", "Add (x, )", "Concat <axis = 0> ()"])
def test_a_missing_operand_names_the_node(call: str) -> None:
    model = onnx.parser.parse_model(
        '<ir_version: 9, opset_import: ["" : 17]> g (float[2,2] x) => (float[2,2] y) { [short] y = Relu (x) }'
    )
    op, _, rest = call.partition(" ")
    node = model.graph.node[0]
    node.op_type = op
    del node.input[:]
    node.input.extend([] if "()" in rest else ["x", ""] if ", )" in rest else ["x"])
    if op == "Concat":
        node.attribute.append(onnx.helper.make_attribute("axis", 0))
    with pytest.raises(GraphError, match=f"node short lacks operand . of {op}"):
        load(model)
