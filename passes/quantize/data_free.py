"""Ranges without data: what a BatchNormalization's parameters say, carried on by interval arithmetic.

Training left each channel c of what a BatchNormalization takes with mean m_c and variance v_c, and of what it gives
with mean beta_c and deviation |gamma_c|. So nearly all of it lies within some deviations of the mean: M. Nagel et al.,
Data-Free Quantization Through Weight Equalization and Bias Correction, ICCV 2019, where the number is 6. That is a
guess and no bound; what follows from it is carried through operators exactly.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from planish.ir import Graph, Node, Value
from planish.passes.errors import CalibrationError
from planish.passes.quantize.calibration import Calibration, TensorStatistics

Floats = NDArray[np.float64]
Function = Callable[[Floats], Floats]

SIGMAS = 6.0


class Interval(NamedTuple):
    """Both ends, in all or along axis 1: arrays of shape () or (channels,)."""

    low: Floats
    high: Floats

    @property
    def whole(self) -> Interval:
        return Interval(self.low.min(), self.high.max())

    def joined(self, other: Interval) -> Interval:
        return Interval(np.minimum(self.low, other.low), np.maximum(self.high, other.high))


def data_free_ranges(
    graph: Graph, *, inputs: Mapping[str, tuple[float, float]] | None = None, sigmas: float = SIGMAS
) -> Calibration:
    """Ranges, and largest magnitudes by channel, of the tensors of which BatchNormalizations tell; no others.

    Their `count` is 0, for nothing was run. A BatchNormalization must not have been folded yet: ranges go by the names
    of its result, and of what it takes, which folding keeps or drops. inputs: what is known of the graph's inputs.
    """
    known = _given(graph, inputs or {})
    for node in graph.nodes:
        if node.op == "BatchNormalization":
            _normalized(node, known, sigmas)
            continue
        found = _carried(node, known)
        for value in node.results if node.op in _SHAPED else node.results[:1]:
            if found is not None and value.dtype is not None and value.dtype.is_float:
                known[value] = found
    tensors = {value.name: _statistics(value, found) for value, found in known.items() if value.name}
    usable = {name: seen for name, seen in tensors.items() if seen is not None}
    return Calibration(usable, model=graph.name, warnings=("nothing was run: ranges are of BatchNormalizations",))


def _given(graph: Graph, inputs: Mapping[str, tuple[float, float]]) -> dict[Value, Interval]:
    """Raises CalibrationError for a name that is none of the inputs', and for what is no range."""
    values = {value.name: value for value in graph.inputs}
    for name, (low, high) in inputs.items():
        if name not in values:
            raise CalibrationError(f"the model has no input {name!r}: its inputs are {', '.join(values) or 'none'}")
        TensorStatistics(low, high)
    return {values[name]: Interval(np.asarray(low), np.asarray(high)) for name, (low, high) in inputs.items()}


def _statistics(value: Value, found: Interval) -> TensorStatistics | None:
    low, high = float(found.low.min()), float(found.high.max())
    if not (math.isfinite(low) and math.isfinite(high)):
        return None
    channels = {1: np.maximum(np.abs(found.low), np.abs(found.high))} if found.low.ndim else {}
    return TensorStatistics(low, high, "" if value.dtype is None else value.dtype.name.lower(), channels=channels)


def _normalized(node: Node, known: dict[Value, Interval], sigmas: float) -> None:
    parameters = [_array(operand) for operand in node.operands[1:5]]
    x = node.operands[0]
    if x is None or len(node.results) != 1 or node.get_int("training_mode"):
        return
    gamma, beta, mean, variance = parameters
    if gamma is None or beta is None or mean is None or variance is None or not (variance >= 0).all():
        return
    spread = sigmas * np.sqrt(variance + node.get_float("epsilon"))
    known.setdefault(x, Interval(mean - spread, mean + spread))
    known[node.result] = Interval(beta - sigmas * np.abs(gamma), beta + sigmas * np.abs(gamma))


def _carried(node: Node, known: Mapping[Value, Interval]) -> Interval | None:
    """The interval of the first result; None where nothing is known."""
    if node.op in _BOUNDED:
        low, high = _BOUNDED[node.op]
        return Interval(np.asarray(low), np.asarray(high))
    operands = [_of(operand, node, known) for operand in node.operands]
    x = operands[0] if operands else None
    if x is None:
        return None
    if node.op in _SHAPED:
        return x.whole
    rule = _RULES.get(node.op)
    if rule is not None:
        return rule(node, x)
    if node.op in _BINARY and len(operands) == 2 and operands[1] is not None:
        return _BINARY[node.op](*_aligned(node, x, operands[1]))
    if node.op in ("Max", "Min", "Concat") and all(operands):
        return _several(node.op, [operand.whole for operand in operands if operand is not None])
    return None


def _of(value: Value | None, reader: Node, known: Mapping[Value, Interval]) -> Interval | None:
    if value is None:
        return None
    array = _array(value)
    if array is None:
        return known.get(value)
    if not array.size or not np.isfinite(array).all():
        return None
    rank = reader.results[0].rank
    if rank is not None and rank > 1 and rank - array.ndim <= 1 and array.ndim <= rank:
        laid = array.reshape((1,) * (rank - array.ndim) + array.shape)
        others = (0, *range(2, rank))
        if laid.shape[1] > 1:
            return Interval(laid.min(axis=others), laid.max(axis=others))
    return Interval(array.min(), array.max())


def _array(value: Value | None) -> Floats | None:
    tensor = None if value is None else value.constant
    if tensor is None or not tensor.dtype.is_float:
        return None
    return tensor.array().astype(np.float64)


def _aligned(node: Node, a: Interval, b: Interval) -> tuple[Interval, Interval]:
    """By channel where axis 1 of both is that of the result, else in all."""
    out = node.results[0]
    values = [value for value in node.operands if value is not None and value.constant is None]
    same = all(value.rank == out.rank for value in values)
    sizes = {interval.low.size for interval in (a, b) if interval.low.ndim}
    return (a, b) if same and len(sizes) <= 1 else (a.whole, b.whole)


def _product(a: Interval, b: Interval) -> Interval:
    corners = [one * other for one in a for other in b]
    return Interval(np.minimum.reduce(np.broadcast_arrays(*corners)), np.maximum.reduce(np.broadcast_arrays(*corners)))


def _several(op: str, parts: list[Interval]) -> Interval:
    lows, highs = [part.low for part in parts], [part.high for part in parts]
    if op == "Max":
        return Interval(np.asarray(max(lows)), np.asarray(max(highs)))
    if op == "Min":
        return Interval(np.asarray(min(lows)), np.asarray(min(highs)))
    return Interval(np.asarray(min(lows)), np.asarray(max(highs)))


def _rising(function: Callable[[Node, Floats], Floats]) -> Callable[[Node, Interval], Interval]:
    return lambda node, x: Interval(function(node, x.low), function(node, x.high))


def _dipping(function: Function, at: float) -> Callable[[Node, Interval], Interval]:
    """Of a function that falls up to `at`, and rises from there."""

    def carried(node: Node, x: Interval) -> Interval:
        ends = function(x.low), function(x.high)
        low = np.where((x.low <= at) & (at <= x.high), function(np.asarray(at)), np.minimum(*ends))
        return Interval(low, np.maximum(*ends))

    return carried


def _sigmoid(x: Floats) -> Floats:
    return 0.5 * (1 + np.tanh(x / 2))


def _softplus(x: Floats) -> Floats:
    return np.logaddexp(0, x)


def _erf(x: Floats) -> Floats:
    return np.vectorize(math.erf, otypes=[np.float64])(x)


def _hard_sigmoid(node: Node, x: Interval) -> Interval:
    one, other = (np.clip(node.get_float("alpha") * end + node.get_float("beta"), 0, 1) for end in x)
    return Interval(np.minimum(one, other), np.maximum(one, other))


def _hard_swish(x: Floats) -> Floats:
    return x * np.clip(x / 6 + 0.5, 0, 1)


def _clip(node: Node, x: Interval) -> Interval | None:
    """None where a bound is not constant."""
    low, high = (_array(node.operand(index)) for index in (1, 2))
    if (low is None and node.operand(1) is not None) or (high is None and node.operand(2) is not None):
        return None
    least = -math.inf if low is None else float(low.reshape(-1)[0])
    most = math.inf if high is None else float(high.reshape(-1)[0])
    return Interval(*(np.minimum(np.maximum(end, least), most) for end in x))


def _padded(node: Node, x: Interval) -> Interval | None:
    """With the number that fills the border; edges and reflections repeat what is there."""
    if node.get_str("mode") != "constant":
        return x.whole
    fill = _array(node.operand(2)) if node.operand(2) is not None else np.zeros(1)
    return None if fill is None else x.whole.joined(Interval(fill.min(), fill.max()))


def _averaged(node: Node, x: Interval) -> Interval:
    """A mean of what is there, and of the border's zeros where they count."""
    counted = bool(node.get_int("count_include_pad")) and (
        any(node.get_ints("pads") or ()) or node.get_str("auto_pad") not in ("NOTSET", "VALID")
    )
    return x.joined(Interval(np.zeros(()), np.zeros(()))) if counted else x


def _resized(node: Node, x: Interval) -> Interval | None:
    """Cubic curves overshoot; positions beyond the image may be filled."""
    if node.get_str("mode") == "cubic" or node.get_str("coordinate_transformation_mode") == "tf_crop_and_resize":
        return None
    return x.whole


def _dropped(node: Node, x: Interval) -> Interval | None:
    """In training, what is left is scaled."""
    return x if node.operand(2) is None else None


def _gelu(node: Node, x: Interval) -> Interval:
    if node.get_str("approximate") == "tanh":
        return _dipping(lambda v: 0.5 * v * (1 + np.tanh(_GELU_SCALE * (v + 0.044715 * v**3))), _GELU_TANH_DIP)(node, x)
    return _dipping(lambda v: 0.5 * v * (1 + _erf(v / math.sqrt(2))), _GELU_DIP)(node, x)


def _swish(node: Node, x: Interval) -> Interval | None:
    alpha = node.get_float("alpha")
    return _dipping(lambda v: v * _sigmoid(alpha * v), _SWISH_DIP / alpha)(node, x) if alpha > 0 else None


def _leaky(node: Node, x: Interval) -> Interval | None:
    slope = node.get_float("alpha")
    if slope < 0:
        return None
    return Interval(*(np.where(end < 0, slope * end, end) for end in x))


def _negated(node: Node, x: Interval) -> Interval:
    return Interval(-x.high, -x.low)


_GELU_SCALE = math.sqrt(2 / math.pi)
# Where these functions have their one minimum.
_GELU_TANH_DIP = -0.7524614
_GELU_DIP, _SWISH_DIP, _MISH_DIP = -0.7517915, -1.2784645, -1.1924312
_RULES: Mapping[str, Callable[[Node, Interval], Interval | None]] = {
    **dict.fromkeys(("Identity", "MaxPool", "GlobalAveragePool", "GlobalMaxPool"), lambda node, x: x),
    "Relu": _rising(lambda node, x: np.maximum(x, 0)),
    "Sigmoid": _rising(lambda node, x: _sigmoid(x)),
    "Tanh": _rising(lambda node, x: np.tanh(x)),
    "Erf": _rising(lambda node, x: _erf(x)),
    "Softplus": _rising(lambda node, x: _softplus(x)),
    "Sqrt": _rising(lambda node, x: np.sqrt(np.maximum(x, 0))),
    "HardSigmoid": _hard_sigmoid,
    "HardSwish": _dipping(_hard_swish, -1.5),
    "Swish": _swish,
    "Gelu": _gelu,
    "Mish": _dipping(lambda x: x * np.tanh(_softplus(x)), _MISH_DIP),
    "Dropout": _dropped,
    "LeakyRelu": _leaky,
    "Clip": _clip,
    "Neg": _negated,
    "Pad": _padded,
    "AveragePool": _averaged,
    "Resize": _resized,
}
_BINARY: Mapping[str, Callable[[Interval, Interval], Interval]] = {
    "Add": lambda a, b: Interval(a.low + b.low, a.high + b.high),
    "Sub": lambda a, b: Interval(a.low - b.high, a.high - b.low),
    "Mul": _product,
}
_BOUNDED: Mapping[str, tuple[float, float]] = {"Softmax": (0.0, 1.0)}
_SHAPED = frozenset((
    "Reshape", "Flatten", "Transpose", "Squeeze", "Unsqueeze", "Slice", "Gather", "Split", "Expand", "Tile",
    "DepthToSpace", "SpaceToDepth", "ReduceMean", "ReduceMax", "ReduceMin",
))  # fmt: skip
"""They give only numbers that they take, or means of them, in other places."""
