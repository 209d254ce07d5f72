"""Writing QuantizeLinear and DequantizeLinear around the nodes that are to work on codes."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

import numpy as np

from planish.ir import Dim, Graph, Node, Value
from planish.ir.graph import Attribute, constant
from planish.ir.infer import infer
from planish.passes.quantize.fitting import fitted
from planish.passes.quantize.gram import Gram
from planish.passes.quantize.placement import Placement
from planish.passes.quantize.scheme import Doubles, Floats, Parameters, Scheme, parameters, quantize

_LARGEST_BIAS = 2.0**30
"""In steps: as much again is left for the products that a kernel adds to it, of 32,768 terms and more. Beyond int32 an
accumulator wraps around: a channel of weights that are nearly 0 would give its highest code instead of its lowest."""
_LEAST, _MOST = float(np.finfo(np.float32).tiny), float(np.finfo(np.float32).max)


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
        self.target: Parameters | None = None
        """Of its result; None where that stays in real numbers."""
        self.shifted = False
        """Whether its weights take 1 as their zero point."""
        self.gram: Gram | None = None
        """Of the inputs of its product; None where weights are rounded to nearest."""
        self._originals: dict[Value, Value] = {}
        self._codes: dict[Value, Value] = {}
        self._reals: dict[tuple[Value, float], Value] = {}
        self._weights: dict[tuple[object, ...], tuple[Value, Floats]] = {}
        self._constants: dict[tuple[object, ...], tuple[Value, Value]] = {}
        self._rows: dict[Value, Value] = {}
        self._shapes: dict[tuple[Dim, ...], Value] = {}
        self._moved: dict[Value, Value] = {}
        """Codes that an operator moved about as they were, by the real numbers that they stand for."""

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
        codes.name = _quantized(value.name)
        self._codes[value] = codes
        return codes

    def requantized(self, made: Value, value: Value) -> Value:
        """What replaces `value`: `made`, by way of codes."""
        codes = self._moved.pop(made, None)
        if codes is not None:
            codes.name = _quantized(value.name)
            self._codes[value], self._reals[value, 1.0] = codes, made
            return made
        return self._dequantized(value, self.quantize(made, value), 1.0)

    def moved(self, node: Node, op: str, operands: Sequence[Value | None], attributes: Mapping[str, Attribute]) -> Node:
        """The real numbers behind an operator that works on the codes of the node's first operand, for its result.

        Both have one scale and zero point, since the form is tied.
        """
        x = node.operands[0]
        if x is None:
            raise ValueError(f"{node.label} lacks its operand")
        value = self._originals.get(x, x)
        codes = self.add(op, (self.codes(value), *operands), attributes).result
        real = self.add("DequantizeLinear", (codes, *self._operands(self.ranges[value])))
        self._moved[real.result] = codes
        return real

    def coded(self, value: Value, found: Parameters | None) -> Value:
        """A new value by way of codes; as it is where there are no parameters."""
        if found is None:
            return value
        codes = self.add("QuantizeLinear", (value, *self._operands(found))).result
        codes.name = _quantized(value.name)
        return self.add("DequantizeLinear", (codes, *self._operands(found))).result

    def rows(self, x: Value, width: int) -> Value:
        """The real numbers that the codes of x [..., width] stand for, as a matrix of rows."""
        value = self._originals.get(x, x)
        found = self._rows.get(value)
        if found is None:
            flat = self.add("Reshape", (self.activation(x), constant(np.array([-1, width], np.int64)))).result
            found = self._rows[value] = self.coded(flat, self.ranges[value])
        return found

    def unflattened(self, made: Value, x: Value, columns: int) -> Node:
        """Rows of `columns` numbers with the leading axes of x again."""
        leading = (x.shape or ())[:-1]
        unknown = [dim for dim in leading if not isinstance(dim, int)]
        if len(unknown) <= 1 and 0 not in leading:  # which would mean "as it was"
            extents = [*(dim if isinstance(dim, int) else -1 for dim in leading), columns]
            return self.add("Reshape", (made, constant(np.array(extents, np.int64))))
        return self.add("Reshape", (made, self._shape(x, (*leading, columns))), {"allowzero": 1})

    def _shape(self, x: Value, extents: tuple[Dim, ...]) -> Value:
        """Extents of which the last is known, and the others are those of x."""
        found = self._shapes.get(extents)
        if found is None:
            zero, end, last = (constant(np.array([number], np.int64)) for number in (0, -1, extents[-1]))
            shape = self.add("Shape", (self.codes(self._originals.get(x, x)),)).result
            leading = self.add("Slice", (shape, zero, end)).result
            found = self._shapes[extents] = self.add("Concat", (leading, last), {"axis": 0}).result
        return found

    def product(
        self, array: Doubles, axis: int, name: str, bias: Doubles | None, step: Floats
    ) -> tuple[Value, Floats, Doubles | None]:
        """As `weight`, of a product whose bias must fit int32 codes, and the bias that goes with the codes."""
        least = least_scales(bias, step)
        if self.gram is None:
            return (*self.weight(array, axis, name, least), bias)
        found = self._parameters(array, axis, least)
        made = fitted(array, found, self.gram, has_bias=bias is not None)
        if made is None:
            return (*self.weight(array, axis, name, least), bias)
        real = self._real(constant(made.codes, _quantized(name)), found)
        return real, found.scale, None if bias is None else bias + made.shift

    def weight(self, array: Doubles, axis: int, name: str, least: Doubles | None = None) -> tuple[Value, Floats]:
        """Real numbers for which there are signed codes with a scale for each index of an axis, and the scales.

        least: scales that may not be undercut, [channels]. Weights that hold the same are kept once.
        """
        digest = hashlib.sha256(array.tobytes()).digest()
        key = (array.shape, digest, axis, self.shifted, None if least is None else least.tobytes())
        found = self._weights.get(key)
        if found is None:
            made = self._parameters(array, axis, least)
            codes = constant(quantize(array.astype(np.float32), made), _quantized(name))
            found = self._weights[key] = self._real(codes, made), made.scale
        return found

    def _parameters(self, array: Doubles, axis: int, least: Doubles | None) -> Parameters:
        scheme = Scheme(self.placement.weights, symmetric=True, axis=axis, narrow=True)
        high = np.asarray(scheme.reduce(np.maximum, np.abs(array)), np.float64)
        if least is not None:
            high = np.maximum(high, least * scheme.limits[1])
        return self._shift(parameters(scheme, -high, high)) if self.shifted else parameters(scheme, -high, high)

    @staticmethod
    def _shift(found: Parameters) -> Parameters:
        """As many steps on either side of a zero point of 1: one less."""
        largest = found.scheme.limits[1]
        scale = np.asarray(found.scale * np.float32(largest / (largest - 1)), np.float32)
        return found._replace(scale=scale, zero_point=np.ones_like(found.zero_point))

    def bias(self, array: Doubles, activation: Floats, weights: Floats, name: str) -> Value:
        """A bias as int32 codes in the steps of the accumulator: those of the activation times those of the weights."""
        scale = np.clip(activation.astype(np.float64) * weights, _LEAST, _MOST).astype(np.float32)
        codes = np.clip(np.rint(array / scale.astype(np.float64)), -_LARGEST_BIAS, _LARGEST_BIAS).astype(np.int32)
        return self.add("DequantizeLinear", (constant(codes, _quantized(name)), constant(scale)), {"axis": 0}).result

    def _real(self, codes: Value, found: Parameters) -> Value:
        attributes = {} if found.scheme.axis is None else {"axis": found.scheme.axis}
        return self.add("DequantizeLinear", (codes, *self._operands(found)), attributes).result

    def _constant(self, value: Value, factor: float) -> Value:
        """A constant beside activations: one scale, since kernels of two activations know no channels."""
        array = floats(value).astype(np.float32)
        scheme = self.placement.activation_scheme
        found = parameters(scheme, float(array.min(initial=0)), float(array.max(initial=0)))
        codes = constant(quantize(array, found), _quantized(value.name))
        return self.add("DequantizeLinear", (codes, *self._operands(found, factor))).result

    def fixed(self, number: float) -> Value:
        """One number, as the code that is farthest from 0."""
        found = parameters(self.placement.activation_scheme, min(number, 0.0), max(number, 0.0))
        codes = constant(quantize(np.array(number, np.float32), found))
        return self.add("DequantizeLinear", (codes, *self._operands(found))).result

    def _dequantized(self, value: Value, codes: Value, factor: float) -> Value:
        operands = (codes, *self._operands(self.ranges[value], factor))
        real = self._insert(Node("DequantizeLinear", operands), self._behind(codes)).result
        self._reals[value, factor] = real
        return real

    def _operands(self, found: Parameters, factor: float = 1.0) -> tuple[Value, Value]:
        scale = np.asarray(np.maximum(found.scale * np.float32(factor), _LEAST), np.float32)
        key = (scale.tobytes(), found.zero_point.tobytes(), found.zero_point.dtype)
        if key not in self._constants:
            self._constants[key] = constant(scale), constant(found.zero_point)
        return self._constants[key]

    def _behind(self, value: Value) -> Node | None:
        if value.producer is not None:
            return value.producer.after
        return self.graph.returns.after

    def _insert(self, node: Node, before: Node | None) -> Node:
        self.graph.insert(node, before=None if before is self.graph.returns else before)
        self.created.append(node)
        infer(node)
        return node


def _quantized(name: str) -> str:
    return f"{name}_quantized" if name else ""


def floats(value: Value) -> Doubles:
    """The elements of a constant."""
    if value.constant is None:
        raise ValueError(f"{value} is no constant")
    return np.asarray(value.constant.array(), np.float64)


def least_scales(bias: Doubles | None, activation: Floats) -> Doubles | None:
    """The weight scales below which a bias overflows int32, or the accumulator has subnormal steps, [channels]."""
    return None if bias is None else np.maximum(np.abs(bias) / _LARGEST_BIAS, _LEAST) / float(activation)
