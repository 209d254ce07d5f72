"""Writing QuantizeLinear and DequantizeLinear around the nodes that are to work on codes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from planish.ir import Graph, Node, Value
from planish.ir.graph import Attribute, constant
from planish.ir.infer import infer
from planish.passes.quantize.placement import Placement
from planish.passes.quantize.scheme import Doubles, Floats, Parameters, Scheme, parameters, quantize

_LARGEST_BIAS = 2.0**31 - 256
"""In steps: what rounds to int32, with a little room for what a kernel adds to it."""


class Codes:
    """The codes of a graph's tensors: each is quantized once, right behind what makes it.

    ranges: of each activation that may be quantized, the real numbers that its codes reach.
    """

    def __init__(self, graph: Graph, placement: Placement, ranges: Mapping[Value, Parameters]) -> None:
        self.graph = graph
        self.placement = placement
        self.ranges = ranges
        self.created: list[Node] = []
        self.site: Node | None = None
        """The node that is being written; new nodes go before it."""
        self.shifted = False
        """Whether its weights take 1 as their zero point."""
        self._originals: dict[Value, Value] = {}
        self._codes: dict[Value, Value] = {}
        self._reals: dict[tuple[Value, float], Value] = {}
        self._weights: dict[tuple[Value, int, bool, bytes], tuple[Value, Floats]] = {}

    def parameters(self, value: Value) -> Parameters:
        return self.ranges[self._originals.get(value, value)]

    def replaced(self, value: Value, new: Value) -> None:
        """Say that `new` is read in place of `value` from here on."""
        self._originals[new] = value

    def add(
        self,
        op: str,
        operands: Sequence[Value | None],
        attributes: Mapping[str, Attribute] | None = None,
        results: int = 1,
    ) -> Node:
        """A new node before the one that is being written."""
        return self._insert(Node(op, operands, attributes, results), self.site)

    def activation(self, value: Value, factor: float = 1.0) -> Value:
        """The real numbers that an operand's codes stand for, times a factor that costs nothing."""
        if value.constant is not None:
            return self._constant(value, factor)
        value = self._originals.get(value, value)
        found = self._reals.get((value, factor))
        if found is None:
            found = self._dequantized(value, self.codes(value), factor)
        return found

    def codes(self, value: Value) -> Value:
        found = self._codes.get(value)
        return self.quantize(value, value) if found is None else found

    def quantize(self, made: Value, value: Value) -> Value:
        """Quantize `made`, which stands for `value` of the graph as it was; the codes."""
        scale, zero_point = self._operands(self.ranges[value])
        codes = self._insert(Node("QuantizeLinear", (made, scale, zero_point)), self._behind(made)).result
        codes.name = f"{value.name}_quantized" if value.name else ""
        self._codes[value] = codes
        return codes

    def requantized(self, made: Value, value: Value) -> Value:
        """What replaces `value`: `made`, by way of codes."""
        return self._dequantized(value, self.quantize(made, value), 1.0)

    def weight(self, value: Value, axis: int, *, transposed: bool = False) -> tuple[Value, Floats]:
        """A constant weight as signed codes with a scale for each index of an axis, and the scales.

        transposed: of a matrix, the other way round; the axis is that of the result.
        """
        array = floats(value)
        return self.weights(value, array.T if transposed else array, axis)

    def weights(self, value: Value, array: Doubles, axis: int, least: Doubles | None = None) -> tuple[Value, Floats]:
        """As `weight`, of numbers worked out from a constant. `least`: scales that may not be undercut, [channels]."""
        key = (value, axis, self.shifted, b"" if least is None else least.tobytes())
        found = self._weights.get(key)
        if found is None:
            scheme = Scheme(self.placement.weights, symmetric=True, axis=axis, narrow=True)
            high = np.asarray(scheme.reduce(np.maximum, np.abs(array)), np.float64)
            if least is not None:
                high = np.maximum(high, least * scheme.limits[1])
            made = self._shift(parameters(scheme, -high, high)) if self.shifted else parameters(scheme, -high, high)
            found = self._weights[key] = self._coded(array.astype(np.float32), made, value.name)
        return found

    @staticmethod
    def _shift(found: Parameters) -> Parameters:
        """As many steps on either side of a zero point of 1: one less."""
        largest = found.scheme.limits[1]
        scale = np.asarray(found.scale * np.float32(largest / (largest - 1)), np.float32)
        return found._replace(scale=scale, zero_point=np.ones_like(found.zero_point))

    def bias(self, value: Value | None, size: int, scale: Floats) -> Value | None:
        """A bias as int32 codes in the steps of the accumulator, scale of the activation times that of the weight."""
        return None if value is None else self.bias_codes(floats(value), size, scale, value.name)

    def bias_codes(self, array: Doubles, size: int, scale: Floats, name: str) -> Value:
        steps = np.broadcast_to(array.reshape(-1), (size,)) / scale.astype(np.float64)
        codes = np.clip(np.rint(steps), -_LARGEST_BIAS, _LARGEST_BIAS).astype(np.int32)
        operands = (constant(codes, f"{name}_quantized"), constant(scale))
        return self.add("DequantizeLinear", operands, {"axis": 0}).result

    def _coded(self, array: Floats, found: Parameters, name: str) -> tuple[Value, Floats]:
        codes = constant(quantize(array, found), f"{name}_quantized" if name else "")
        axis = found.scheme.axis
        attributes = {} if axis is None else {"axis": axis}
        scale, zero_point = self._operands(found)
        operands = (codes, scale, zero_point) if np.any(found.zero_point) else (codes, scale)
        return self.add("DequantizeLinear", operands, attributes).result, found.scale

    def _constant(self, value: Value, factor: float) -> Value:
        """A constant beside activations: one scale, since kernels of two activations know no channels."""
        array = floats(value).astype(np.float32)
        scheme = self.placement.activation_scheme
        found = parameters(scheme, float(array.min(initial=0)), float(array.max(initial=0)))
        codes = constant(quantize(array, found), f"{value.name}_quantized" if value.name else "")
        return self.add("DequantizeLinear", (codes, *self._operands(found, factor))).result

    def fixed(self, number: float) -> Value:
        """One positive number, as the largest code."""
        dtype = self.placement.activations
        scheme = Scheme(dtype, symmetric=False)
        found = parameters(scheme, 0.0, number)
        codes = constant(quantize(np.array(number, np.float32), found))
        return self.add("DequantizeLinear", (codes, *self._operands(found))).result

    def _dequantized(self, value: Value, codes: Value, factor: float) -> Value:
        operands = (codes, *self._operands(self.ranges[value], factor))
        real = self._insert(Node("DequantizeLinear", operands), self._behind(codes)).result
        self._reals[value, factor] = real
        return real

    def _operands(self, found: Parameters, factor: float = 1.0) -> tuple[Value, Value]:
        scale = np.asarray(found.scale * np.float32(factor), np.float32)
        return constant(scale), constant(found.zero_point)

    def _behind(self, value: Value) -> Node | None:
        if value.producer is not None:
            return value.producer.after
        return self.graph.returns.after

    def _insert(self, node: Node, before: Node | None) -> Node:
        self.graph.insert(node, before=None if before is self.graph.returns else before)
        self.created.append(node)
        infer(node)
        return node


def floats(value: Value) -> Doubles:
    """The elements of a constant."""
    if value.constant is None:
        raise ValueError(f"{value} is no constant")
    return np.asarray(value.constant.array(), np.float64)


def least_scales(bias: Value | None, activation: Floats) -> Doubles | None:
    """The weight scales below which a bias overflows int32, [channels]."""
    if bias is None:
        return None
    return np.abs(floats(bias).reshape(-1)) / (_LARGEST_BIAS * float(activation))
