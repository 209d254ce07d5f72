"""Writing codes: each tensor and each weight once, biases in the steps of the accumulator, rows and their shapes."""

from __future__ import annotations

import numpy as np
import pytest

from planish.ir import DType, Graph, Node, Value
from planish.ir.build import Builder
from planish.ir.graph import constant
from planish.passes.quantize.codes import Codes, floats, least_scales
from planish.passes.quantize.placement import PLACEMENTS
from planish.passes.quantize.scheme import Doubles, Floats, parameters

CPU = PLACEMENTS["cpu-x86"]


class Written:
    """A graph y = Relu(x), whose tensors reach from -1 to 2, before its Relu."""

    def __init__(self, shape: tuple[int | str, ...] = ("N", "L", 4)) -> None:
        b = Builder("g", opset=17)
        self.x = b.input("x", DType.FLOAT, shape)
        self.y = b.node("Relu", (self.x,), result="y")
        b.output("out", self.y)
        self.graph: Graph = b.graph()
        found = parameters(CPU.activation_scheme, -1.0, 2.0)
        self.codes = Codes(self.graph, CPU, {self.x: found, self.y: found})
        self.codes.site = self.graph.nodes[0]

    @property
    def ops(self) -> list[str]:
        return [node.op for node in self.graph.nodes]


def test_an_activation_is_quantized_once() -> None:
    written = Written()
    first, second = (written.codes.activation(written.x) for _ in range(2))
    assert first is second
    assert written.ops == ["QuantizeLinear", "DequantizeLinear", "Relu"]
    scaled = written.codes.activation(written.x, 0.5)
    assert scaled is not first
    assert written.ops == ["QuantizeLinear", "DequantizeLinear", "DequantizeLinear", "Relu"]
    operands = [node.operands for node in written.graph.nodes if node.op == "DequantizeLinear"]
    one, half = sorted(float(floats(operand[1])) for operand in operands if operand[1] is not None)[::-1]
    assert half == pytest.approx(one / 2)


def test_what_was_replaced_goes_by_its_codes() -> None:
    written = Written()
    new = written.codes.requantized(written.y, written.y)
    written.codes.replaced(written.y, new)
    assert written.codes.activation(new) is new
    assert written.codes.parameters(new) is written.codes.parameters(written.y)
    assert written.ops == ["Relu", "QuantizeLinear", "DequantizeLinear"]
    assert new.producer is not None
    assert new.producer.operands[0] is not None
    assert new.producer.operands[0].name == "y_quantized"


def test_equal_numbers_are_one_constant() -> None:
    written = Written()
    written.codes.activation(written.x)
    q, dq = written.graph.nodes[:2]
    assert q.operands[1:] == dq.operands[1:]


def _weight(written: Written, array: Floats, axis: int = 0, least: Doubles | None = None) -> tuple[Value, Floats]:
    return written.codes.weight(array.astype(np.float64), axis, "w", least)


def test_weights_that_hold_the_same_are_kept_once() -> None:
    written = Written()
    w = np.array([[1, -2], [3, 4]], np.float32)
    assert _weight(written, w)[0] is _weight(written, w.copy())[0]
    others = [_weight(written, w, 1), _weight(written, w.T), _weight(written, w, 0, np.array([1.0, 1.0]))]
    assert len({id(value) for value, _ in [*others, _weight(written, w)]}) == 4
    written.codes.shifted = True
    assert _weight(written, w)[0] is not _weight(written, w, 1)[0]


@pytest.mark.parametrize("shifted", [False, True])
def test_codes_of_weights(shifted: bool) -> None:
    written = Written()
    written.codes.shifted = shifted
    w = np.array([[1, -2, 0.5], [0, 0, 0], [3e-39, -1e-39, 0]], np.float32)
    real, scales = _weight(written, w)
    codes, scale, zero = _operands(real)
    assert codes.dtype is DType.INT8
    assert floats(zero).tolist() == [int(shifted)] * 3
    assert scales.tolist() == floats(scale).tolist()
    values = (floats(codes) - floats(zero)[:, None]) * floats(scale)[:, None]
    assert np.abs(values - w).max() <= float(scales.max()) / 2
    assert np.abs(floats(codes) - int(shifted)).max() == 127 - shifted
    assert scales[1] == pytest.approx(127 / 126 if shifted else 1)
    assert scales[2] >= np.finfo(np.float32).tiny


def _operands(real: Value) -> tuple[Value, Value, Value]:
    assert real.producer is not None
    codes, scale, zero = real.producer.operands
    assert codes is not None
    assert scale is not None
    assert zero is not None
    return codes, scale, zero


@pytest.mark.parametrize("bias", [0.0, 1e-30, 1.0, 1e9, -3e38])
@pytest.mark.parametrize("step", [1e-38, 1e-6, 1.0])
def test_biases_fit_int32(bias: float, step: float) -> None:
    """Whatever the weights: their scales are widened until the bias fits, and the accumulator's steps are normal."""
    written = Written()
    activation = np.array(step, np.float32)
    least = least_scales(np.array([bias]), activation)
    assert least is not None
    if least.max() * 127 > np.finfo(np.float32).max:
        with pytest.raises(ValueError, match="beyond float32"):
            _weight(written, np.array([[1e-3]], np.float32), 0, least)
        return
    _, scales = _weight(written, np.array([[1e-3]], np.float32), 0, least)
    real = written.codes.bias(np.array([bias]), activation, scales, "b")
    assert real.producer is not None
    codes, scale = real.producer.operands
    assert codes is not None
    assert scale is not None
    assert codes.dtype is DType.INT32
    value = float((floats(codes) * floats(scale))[0])
    assert abs(value - bias) <= max(abs(bias) * 1e-6, float(floats(scale)[0]))


def test_without_a_bias_no_scale_is_bound() -> None:
    assert least_scales(None, np.array(1, np.float32)) is None


@pytest.mark.parametrize("number", [0.0, 0.5, -0.5, 1e-30])
def test_one_number_is_a_code_exactly(number: float) -> None:
    written = Written()
    codes, scale, zero = _operands(written.codes.fixed(number))
    assert float((floats(codes) - floats(zero)) * floats(scale)) == pytest.approx(number, rel=1e-6)


def test_rows_are_flattened_once_and_shaped_again() -> None:
    written = Written()
    assert written.codes.rows(written.x, 4) is written.codes.rows(written.x, 4)
    made = written.codes.rows(written.x, 4)
    first, second = (written.codes.unflattened(made, written.x, 4) for _ in range(2))
    assert first.operands[1] is second.operands[1]
    assert str(first.result.shape) == str(written.x.shape)
    assert written.ops.count("Shape") == 1


@pytest.mark.parametrize(
    ("shape", "extents"),
    [((2, 3, 4), [2, 3, 4]), (("N", 3, 4), [-1, 3, 4]), ((2, "L", 4), [2, -1, 4]), ((1, 2, "L", 4), [1, 2, -1, 4])],
)
def test_a_shape_with_one_open_extent_is_a_constant(shape: tuple[int | str, ...], extents: list[int]) -> None:
    written = Written(shape)
    shaped = written.codes.unflattened(written.codes.rows(written.x, 4), written.x, 4)
    assert _constant(shaped) == extents


def test_an_extent_of_zero_is_not_one_to_copy() -> None:
    written = Written((2, 0, 4))
    shaped = written.codes.unflattened(written.codes.rows(written.x, 4), written.x, 4)
    assert shaped.get_int("allowzero") == 1


def _constant(node: Node) -> list[float]:
    assert node.operands[1] is not None
    return floats(node.operands[1]).tolist()


def test_only_constants_have_elements() -> None:
    with pytest.raises(ValueError, match="no constant"):
        floats(Written().x)
    assert floats(constant(np.array([1, 2], np.int64))).tolist() == [1, 2]
