"""How far rounding may move the results of any model: it is run with every float that a node reads a little off.

Each element of each operand is multiplied by a number of its own within `step` of 1. What rounding does inside of a
kernel is of that kind: a computed sum is the exact one of terms that are a little off (Higham, Accuracy and Stability
of Numerical Algorithms, chapter 3), and so are products, quotients and what is folded into weights.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
import onnx
from numpy.typing import NDArray

from planish import ir
from planish.ir import DType, Graph, Node, Value
from planish.ir.graph import Attribute, constant
from planish.ir.infer import infer
from planish.ir.tensor import ArrayTensor
from planish.runtime.errors import SessionError
from planish.runtime.session import Feed, Result, Session
from tests.equivalence import PLAIN
from tests.hostile import Limits

Floats = NDArray[np.float64]
Array = NDArray[np.generic]

_AROUND_ONE = frozenset(
    (
        *("Celu", "Elu", "Gelu", "HardSigmoid", "HardSwish", "LogSoftmax", "Mish", "ReduceLogSum", "ReduceLogSumExp"),
        *("Selu", "Sigmoid", "Softplus", "Log"),
    )
)
"""Operators that work out 1 plus or minus something inside, so that a result near 0 is good to the last bit of 1.

ONNX Runtime's Sigmoid is one: it is off by up to 1.4 steps of the last bit of 1, where it is 1e-7 too.
"""
_OPSET = 21  # ONNX Runtime has no RandomUniformLike of a later one
_STEPS = 4.0
"""Of the last bit, that an operand is off at most."""
_FACTOR = 4.0
_OWN = 16.0
"""Steps of the last bit that a result may be off whatever the noise shows."""
_FLOATS = (DType.FLOAT, DType.DOUBLE, DType.FLOAT16)
_AS_GIVEN = frozenset(("Dropout", "Resize", "Range", "QuantizeLinear", "DequantizeLinear", "Less", "Greater", "Equal"))
"""Operators whose operands say what to do, or turn a rounding into a jump."""


class Noise:
    """A model that gives other results on each run."""

    def __init__(self, proto: onnx.ModelProto, step: float | None = None, *, of_kernels: bool = False) -> None:
        """step: how far each operand is off; by default a few steps of its last bit.

        of_kernels: only what comes from an operator that is good to the last bit of 1 is off, and by that, and what a
        kernel with sums that may cancel works out inside.
        """
        self._of_kernels = of_kernels
        self._inside: set[Node] = set()
        """Nodes that stand for steps inside of a kernel."""
        graph = ir.load(proto)
        graph.opset_imports[""] = min(graph.opset_imports[""], _OPSET)
        self._seed = 0
        for node in list(graph.walk()):
            self._spell_out(node)
        for node in list(graph.walk()):
            if node.op not in _AS_GIVEN:
                self._disturb(node, step)
        for body in (graph, *_bodies(graph)):
            self._disturb(body.returns, step)
        self._session = Session(ir.emit(graph).SerializeToString(), PLAIN)

    def _spell_out(self, node: Node) -> None:
        """A node as ONNX Runtime works it out, where that takes a newer opset, or steps that noise does not reach."""
        operands = [operand for operand in node.operands if operand is not None]
        if node.graph is None or node.op not in ("InstanceNormalization", "Swish") or operands[0].dtype not in _FLOATS:
            return
        made = self._swish(node, operands[0]) if node.op == "Swish" else self._instance_norm(node, *operands)
        if made is not None:
            node.graph.replace_all_uses_with(node.result, made)
            node.graph.erase(node)

    def _swish(self, node: Node, x: Value) -> Value:
        """x * Sigmoid(alpha * x)"""
        factor = _number(node.get_float("alpha"), x.dtype or DType.FLOAT)
        gate = self._add(node, "Sigmoid", (self._add(node, "Mul", (x, factor)),))
        return self._add(node, "Mul", (x, gate))

    def _instance_norm(self, node: Node, x: Value, weight: Value, bias: Value) -> Value | None:
        """x * s + (bias - mean * s), s = weight / sqrt(variance + epsilon): terms that cancel where x is all alike."""
        if x.rank is None or x.rank <= 2:
            return None
        axes = _numbers(range(2, x.rank))
        weight, bias = (self._add(node, "Unsqueeze", (part, _numbers(range(1, x.rank - 1)))) for part in (weight, bias))
        mean = self._add(node, "ReduceMean", (x, axes))
        off = self._add(node, "Sub", (x, mean))
        variance = self._add(node, "ReduceMean", (self._add(node, "Mul", (off, off)), axes))
        epsilon = _number(node.get_float("epsilon"), x.dtype or DType.FLOAT)
        deviation = self._add(node, "Sqrt", (self._add(node, "Add", (variance, epsilon)),))
        scale = self._add(node, "Div", (weight, deviation))
        parts = [self._add(node, "Mul", (value, scale)) for value in (mean, x)]
        shift = self._add(node, "Sub", (bias, parts[0]))
        made = self._add(node, "Add", (parts[1], shift))
        self._inside.update(value.producer for value in (shift, made) if value.producer is not None)
        return made

    def _disturb(self, node: Node, step: float | None) -> None:
        for position, operand in enumerate(node.operands):
            if operand is not None and node.graph is not None and operand.dtype in _FLOATS:
                whole = not self._of_kernels or node in self._inside
                off = self._off(node, operand, step) if whole else self._off_by_kernel(node, operand)
                node.graph.set_operand(node, position, off)

    def _off_by_kernel(self, node: Node, operand: Value) -> Value:
        if operand.producer is None or operand.producer.op not in _AROUND_ONE:
            return operand
        epsilon = Limits.of(operand.dtype or DType.FLOAT).epsilon
        return self._add(node, "Add", (operand, self._noise(node, operand, _STEPS * epsilon)))

    def _off(self, node: Node, operand: Value, step: float | None) -> Value:
        """operand * (1 + noise) + (noise of the least numbers, by its sign, so that 0 stays 0)"""
        dtype = operand.dtype or DType.FLOAT
        limits = Limits.of(dtype)
        off = _STEPS * limits.epsilon if step is None else step
        factor = self._add(node, "Add", (self._noise(node, operand, off), _number(1.0, dtype)))
        scaled = self._add(node, "Mul", (operand, factor))
        sign = self._add(node, "Sign", (operand,))
        least = self._noise(node, operand, _STEPS * limits.subnormal)
        moved = self._add(node, "Add", (scaled, self._add(node, "Mul", (sign, least))))
        if operand.producer is not None and operand.producer.op in _AROUND_ONE:
            moved = self._add(node, "Add", (moved, self._noise(node, operand, off)))
        return moved

    def _noise(self, node: Node, like: Value, width: float) -> Value:
        """Between `width` and its negative, in the type itself: attributes hold no more than single precision."""
        self._seed += 1
        dtype = like.dtype or DType.FLOAT
        drawn = DType.DOUBLE if dtype is DType.DOUBLE else DType.FLOAT
        attributes = {"low": -1.0, "high": 1.0, "seed": float(self._seed), "dtype": int(drawn)}
        noise = self._add(node, "RandomUniformLike", (like,), attributes)
        if drawn is not dtype:
            noise = self._add(node, "Cast", (noise,), {"to": int(dtype)})
        return self._add(node, "Mul", (noise, _number(width, dtype)))

    def _add(
        self, node: Node, op: str, operands: Sequence[Value], attributes: Mapping[str, Attribute] | None = None
    ) -> Value:
        new = Node(op, operands, attributes)
        assert node.graph is not None
        node.graph.insert(new, before=node)
        infer(new)
        return new.result

    def runs(self, feeds: Mapping[str, Feed], count: int) -> Iterator[list[Result]]:
        """The results of so many runs, less those that fail."""
        for _ in range(count):
            try:
                yield self._session.run(feeds)
            except SessionError:
                continue


def _number(number: float, dtype: DType) -> Value:
    """A constant of no axes."""
    return constant(ArrayTensor(np.array(number, dtype.numpy)))


def _numbers(axes: Iterable[int]) -> Value:
    return constant(ArrayTensor(np.array(list(axes), np.int64)))


def _bodies(graph: Graph) -> Iterator[Graph]:
    for node in graph.walk():
        yield from node.graphs


def allowed_to_kernels(
    proto: onnx.ModelProto, feeds: Mapping[str, Feed], plain: Sequence[Result], count: int
) -> list[Floats | None]:
    """How far the model's results may be off for its kernels' sake alone; by nothing where they are not finite."""
    try:
        runs = list(Noise(proto, of_kernels=True).runs(feeds, count))
    except (SessionError, ir.GraphError):  # of a newer opset than that of the noise
        runs = []
    bounds = allowed(plain, runs)
    return [None if bound is None else np.where(np.isfinite(bound), bound, 0.0) for bound in bounds]


def allowed(plain: Sequence[Result], runs: Sequence[Sequence[Result]]) -> list[Floats | None]:
    """For each result, how far each element may be off; infinitely where it is not finite in every run."""
    return [_allowed(result, [run[place] for run in runs]) for place, result in enumerate(plain)]


def _allowed(result: Result, others: Sequence[Result]) -> Floats | None:
    if not isinstance(result, np.ndarray) or result.dtype.kind != "f":
        return None
    wide, limits = result.astype(np.float64), Limits.of(DType.of(result))
    spread = np.where(np.isfinite(wide), 0.0, np.inf)
    for other in others:
        if isinstance(other, np.ndarray) and other.shape == result.shape:
            with np.errstate(invalid="ignore"):
                off = np.abs(other.astype(np.float64) - wide)
            spread = np.maximum(spread, np.where(np.isfinite(off), off, np.inf))
    with np.errstate(invalid="ignore"):
        own = _OWN * np.maximum(limits.epsilon * np.abs(wide), limits.normal)
    return _FACTOR * spread + np.where(np.isfinite(own), own, np.inf)
