"""What onnx's inference function cannot take whatever the extents, where planish has no rule of its own."""

import pytest

from planish.ir import DType, Graph, Node, Value
from planish.ir.dim import Dim, symbol
from planish.ir.ops import reference
from planish.ir.types import TensorType


def value(*shape: Dim) -> Value:
    return Value("", TensorType(DType.FLOAT, shape))


@pytest.mark.parametrize(
    ("shape", "refused"),
    [((symbol("T"), 2, 3), False), ((symbol("T"), 2, 3, 4), True), ((symbol("T"), 3), True), ((1, 1, 1), False)],
)
def test_the_rank_that_a_recurrent_layer_takes(shape: tuple[Dim, ...], refused: bool) -> None:
    node = Node("LSTM", (value(*shape), value(1, 4, 3), value(1, 4, 1)), {"hidden_size": 1}, 3)
    node.graph = Graph()
    assert reference.refuses(node) is refused


def test_nothing_is_said_of_unknown_ranks_and_operators() -> None:
    unknown = Value("", TensorType(DType.FLOAT))
    assert not reference.refuses(Node("LSTM", (unknown, value(1, 4, 3), value(1, 4, 1)), {"hidden_size": 1}, 3))
    assert not reference.refuses(Node("vendor::Op", (value(1),)))
