"""Folds beside ONNX Runtime's CPU kernels, on operands that find differences.

Every fold gives what the kernel gives, or declines. An operator that claims to be exact must give the same bits (one
NaN is as good as another); one that does not may round differently. A node that a rule calls contradictory must be one
that ONNX Runtime refuses.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import pytest
from onnx import helper, numpy_helper, parser

from planish.ir import DType, Graph, GraphError, Node, Value, constant, load
from planish.ir.infer import infer
from planish.ir.ops import reference
from planish.ir.ops.table import lookup
from planish.ir.tensor import ArrayTensor
from planish.ir.types import Array, TensorType, Type
from planish.runtime.errors import SessionError
from planish.runtime.providers import Target
from planish.runtime.session import Result, Session

Operands: TypeAlias = Sequence[Array | None]
Attributes: TypeAlias = Mapping[str, int | float | str | Sequence[int] | Array]
Case: TypeAlias = tuple[Operands, Attributes]

OPSET = 26  # the newest that ONNX Runtime 1.31 opens
FLOATS = tuple(np.dtype(name) for name in ("float32", "float64", "float16"))
INTEGERS = tuple(np.dtype(name) for name in ("int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64"))
BOOL = np.dtype(np.bool_)
KINDS = ("tame", "finite", "zeros", "infinite", "wild")
_NO_KERNEL = ("Could not find an implementation", "Failed to find kernel", "Type Error")
TOLERANCE = {"float16": 2e-3, "float32": 1e-5, "float64": 1e-12}


@dataclass(frozen=True)
class Draw:
    """Operands of one element type and kind; the same arguments draw the same elements."""

    dtype: np.dtype[np.generic]
    kind: str

    def __call__(self, *shape: int, seed: int = 0, dtype: np.dtype[np.generic] | None = None) -> Array:
        dtype = self.dtype if dtype is None else dtype
        random = np.random.default_rng([seed, *shape])
        if self.kind == "tame" and dtype.kind == "f":
            return np.asarray(random.standard_normal(shape)).astype(dtype)
        pool = np.array(self._pool(dtype), dtype)
        return np.array(pool[random.integers(0, len(pool), shape)])

    def _pool(self, dtype: np.dtype[np.generic]) -> Sequence[float]:
        if dtype == BOOL:
            return (False, True)
        if dtype.kind in "iu":
            low, high = int(np.iinfo(dtype.name).min), int(np.iinfo(dtype.name).max)
            small = (0, 1, 2, 3, 7) if low == 0 else (-5, -2, -1, 0, 1, 2, 3, 7)
            return small if self.kind == "tame" else (*small, low, low + 1, high - 1, high)
        info = np.finfo(dtype.name)
        tiny, least, most, step = float(info.tiny), float(info.smallest_subnormal), float(info.max), float(info.eps)
        if self.kind == "zeros":
            return (0.0, -0.0, 1.0)
        halves = (0.5, -0.5, 1.0, -1.0, 1.5, -1.5, 2.5, -2.5, 1 + step, -88.0, 17.0, 100.49, 1e4, -1e4)
        finite = (0.0, *halves, tiny, -tiny, tiny / 3, least, -least, most, -most, most / 3)
        extra = {"infinite": (np.inf, -np.inf), "wild": (-0.0, np.inf, -np.inf, np.nan)}
        return (*finite, *extra.get(self.kind, ()))


class Runtime:
    """Sessions of one-node models, kept: operands that differ in their elements alone share one."""

    def __init__(self) -> None:
        self._sessions: dict[object, Session | None] = {}

    def run(self, op: str, operands: Operands, attributes: Attributes, results: int) -> list[Result] | None:
        """The results; None where no kernel takes these types. Raises SessionError for what ONNX Runtime refuses."""
        signature = [None if array is None else (array.dtype, array.shape) for array in operands]
        key = (op, str(signature), repr(attributes))
        if key not in self._sessions:
            self._sessions[key] = self._open(op, operands, attributes, results)
        session = self._sessions[key]
        feeds = {f"x{i}": array for i, array in enumerate(operands) if array is not None}
        return None if session is None else session.run(feeds)

    def _open(self, op: str, operands: Operands, attributes: Attributes, results: int) -> Session | None:
        names = ["" if array is None else f"x{i}" for i, array in enumerate(operands)]
        inputs = [
            helper.make_tensor_value_info(f"x{i}", int(DType.of(array)), array.shape)
            for i, array in enumerate(operands)
            if array is not None
        ]
        outputs = [f"y{i}" for i in range(results)]
        written = {
            name: numpy_helper.from_array(value) if isinstance(value, np.ndarray) else value
            for name, value in attributes.items()
        }
        node = helper.make_node(op, names, outputs)
        node.attribute.extend(helper.make_attribute(name, value) for name, value in written.items())
        graph = helper.make_graph(
            [node], "node", inputs, [helper.make_empty_tensor_value_info(name) for name in outputs]
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=10)
        try:
            return Session(model.SerializeToString(), Target(threads=1, optimization="disabled"))
        except SessionError as error:
            if any(reason in str(error) for reason in _NO_KERNEL):
                return None
            raise


class Comparison:
    """What came of the cases of one operator: how many each way, and those that were wrong."""

    def __init__(self, runtime: Runtime, op: str, results: int) -> None:
        self.runtime = runtime
        self.op = op
        self.results = results
        entry = lookup(op)
        self.fold = entry.fold or reference.fold
        self.exact = reference.agreement(op) if entry.fold is None else entry.exact
        self.outcomes: Counter[str] = Counter()
        self.wrong: list[str] = []

    def add(self, operands: Operands, attributes: Attributes) -> None:
        node = Node(
            self.op,
            [None if array is None else constant(array) for array in operands],
            {name: _attribute(value) for name, value in attributes.items()},
            self.results,
        )
        Graph("case", {"": OPSET}).insert(node)
        try:
            infer(node)
        except GraphError as error:
            self._refused(operands, attributes, error)
            return
        folded = self.fold(node, operands)
        if folded is None:
            self.outcomes["declined"] += 1
            return
        try:
            truth = self.runtime.run(self.op, operands, attributes, self.results)
        except SessionError as error:
            self._wrong("folds what the runtime refuses", operands, attributes, error)
            return
        if truth is None:
            self.outcomes["no kernel"] += 1
            return
        for value, found, expected in zip(node.results, folded, truth, strict=True):
            assert isinstance(expected, np.ndarray)
            if not _agrees(value.type, expected):
                self._wrong("type", operands, attributes, f"{value.type} for {expected.dtype}{list(expected.shape)}")
            elif not (_same_bits if self.exact else _close)(found, expected):
                self._wrong("value", operands, attributes, f"{found!r} for {expected!r}")
        self.outcomes["folded"] += 1

    def _refused(self, operands: Operands, attributes: Attributes, error: GraphError) -> None:
        try:
            truth = self.runtime.run(self.op, operands, attributes, self.results)
        except SessionError:
            truth = None
        self.outcomes["refused"] += 1
        if truth is not None:
            self._wrong("the runtime accepts", operands, attributes, error)

    def _wrong(self, what: str, operands: Operands, attributes: Attributes, detail: object) -> None:
        self.wrong.append(f"{what}: {self.op}({operands}, {attributes}): {detail}")


@pytest.fixture(scope="session")
def runtime() -> Runtime:
    return Runtime()


def compare(runtime: Runtime, op: str, make: Callable[[Draw], Iterable[Case]], results: int = 1) -> Counter[str]:
    """Every case of an operator over element types and kinds; fails on the first that is wrong, and when none folds."""
    comparison = Comparison(runtime, op, results)
    for dtype in (*FLOATS, *INTEGERS, BOOL):
        for kind in KINDS:
            for operands, attributes in make(Draw(dtype, kind)):
                comparison.add(operands, attributes)
    assert not comparison.wrong, f"{len(comparison.wrong)} wrong, such as {comparison.wrong[0]}"
    assert comparison.outcomes["folded"]
    return comparison.outcomes


def _attribute(value: int | float | str | Sequence[int] | Array) -> int | float | str | tuple[int, ...] | ArrayTensor:
    if isinstance(value, np.ndarray):
        return ArrayTensor(value)
    return value if isinstance(value, (int, float, str)) else tuple(value)


def _agrees(type: Type | None, array: Array) -> bool:
    """Whether an inferred type, static or not, holds of an array."""
    if not isinstance(type, TensorType):
        return type is None
    if type.dtype is not DType.of(array) or type.shape is None:
        return type.dtype is DType.of(array)
    pairs = zip(type.shape, array.shape, strict=False)
    return len(type.shape) == array.ndim and all(not isinstance(dim, int) or dim == extent for dim, extent in pairs)


def _same_bits(found: Array, expected: Array) -> bool:
    if found.dtype != expected.dtype or found.shape != expected.shape:
        return False
    if found.dtype.kind != "f":
        return np.array_equal(found, expected)
    holes = np.isnan(expected)
    return np.array_equal(np.isnan(found), holes) and found[~holes].tobytes() == expected[~holes].tobytes()


def _close(found: Array, expected: Array) -> bool:
    """Equal but for rounding, in proportion to the largest element: sums cancel."""
    if found.dtype.kind != "f" or found.dtype != expected.dtype or found.shape != expected.shape:
        return found.dtype == expected.dtype and np.array_equal(found, expected)
    finite = np.isfinite(expected)
    a, b = found[finite].astype(np.float64), expected[finite].astype(np.float64)
    bound = (
        TOLERANCE[found.dtype.name] * np.maximum(np.abs(b), np.max(np.abs(b), initial=0) / 10)
        + np.finfo(np.float32).tiny
    )
    return np.array_equal(found[~finite], expected[~finite], equal_nan=True) and bool(np.all(np.abs(a - b) <= bound))


def loaded(inputs: str, body: str, constants: str = "") -> Value:
    """The value y of a graph in ONNX's text form, its types inferred: loaded("float[N] x", "y = Relu(x)")."""
    initializers = f"<{constants}>" if constants else ""
    text = f'<ir_version: 10, opset_import: ["": 21]> g ({inputs}) => (y) {initializers} {{ {body} }}'
    return load(parser.parse_model(text)).outputs[0]


def type_of(inputs: str, body: str, constants: str = "") -> str:
    """The type of y; "?" stands for a dim of which nothing is known."""
    return str(loaded(inputs, body, constants).type)


def elements_of(inputs: str, body: str, constants: str = "") -> str | None:
    """What y holds, as far as dims can say it."""
    elements = loaded(inputs, body, constants).elements
    return None if elements is None else ", ".join(map(str, elements))
