"""What the operator table says of every node case of the installed onnx, beside the case's own data."""

import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from random import Random
from typing import NamedTuple, cast

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from onnx.backend.test.loader import load_model_tests

from planish import ir
from planish.ir import Graph, GraphError, Node, TensorType, Type, Value, constant
from planish.ir.dim import Dim
from planish.ir.infer import infer
from planish.ir.ops import reference
from planish.ir.ops.table import is_pure, lookup
from planish.ir.tensor import ELEMENTS
from planish.ir.types import Array, DType

RTOL = {"float16": 1e-2, "bfloat16": 5e-2, "float32": 1e-4, "float64": 1e-7}


class Case(NamedTuple):
    """A model with its data; None stands for what is no tensor."""

    name: str
    model: onnx.ModelProto
    inputs: Sequence[Array | None]
    outputs: Sequence[Array | None]

    def bindings(self) -> dict[str, int]:
        """The extent of each dim of each input, by the name that `symbolic` gives it."""
        arrays = [(i, x) for i, x in enumerate(self.inputs) if x is not None]
        return {f"d{i}_{axis}": extent for i, x in arrays for axis, extent in enumerate(x.shape)}


@pytest.fixture(scope="module")
def cases() -> Sequence[Case]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tests = load_model_tests(kind="node")
    return [
        Case(test.name, test.model, *([tensor(value) for value in side] for side in test.data_sets[0]))
        for test in tests
        if test.model is not None and test.data_sets
    ]


def tensor(value: object) -> Array | None:
    return np.asarray(cast("Array", value)) if isinstance(value, (np.ndarray, np.generic)) else None


def symbolic(case: Case, *, constants: bool, kept: Random | None = None) -> onnx.ModelProto:
    """The model with a symbol for each dim of its inputs and no other shape.

    Small inputs but the first may become constants, and about half of the dims be `kept`.
    """
    model = onnx.ModelProto()
    model.CopyFrom(case.model)
    del model.graph.value_info[:]
    for output in model.graph.output:
        output.type.tensor_type.ClearField("shape")
    for i, (declared, value) in enumerate(zip(list(model.graph.input), case.inputs, strict=False)):
        if value is None or declared.type.WhichOneof("value") != "tensor_type":
            continue
        if constants and value.size <= ELEMENTS and i > 0:
            model.graph.initializer.append(numpy_helper.from_array(value, declared.name))
            model.graph.input.remove(declared)
            continue
        del declared.type.tensor_type.shape.dim[:]
        declared.type.tensor_type.shape.SetInParent()
        for axis, extent in enumerate(value.shape):
            dim = declared.type.tensor_type.shape.dim.add()
            if kept is not None and kept.random() < 1 / 2:
                dim.dim_value = extent
            else:
                dim.dim_param = f"d{i}_{axis}"
    return model


def bound(dim: Dim, binding: Mapping[str, int]) -> int | None:
    """The extent in this run; None where the inputs do not decide it."""
    if isinstance(dim, int):
        return dim
    found = dim.substitute(binding)
    return found if isinstance(found, int) else None


def disagreement(type: Type | None, truth: Array | None, binding: Mapping[str, int]) -> str:
    """What is wrong with an inferred type; nothing when it holds."""
    if not isinstance(type, TensorType) or truth is None:
        return "" if type is None or truth is None else f"{type} for a tensor"
    if type.dtype is not DType.of(truth) or (type.shape is not None and len(type.shape) != truth.ndim):
        return f"{type} for {truth.dtype}{list(truth.shape)}"
    extents = [bound(dim, binding) for dim in type.shape or ()]
    if any(found is not None and found != extent for found, extent in zip(extents, truth.shape, strict=False)):
        return f"{type} for {truth.dtype}{list(truth.shape)}"
    return ""


def wrong_value(value: Value, truth: Array | None, binding: Mapping[str, int]) -> str:
    """What is wrong with what is known of a value in this run; nothing when it holds."""
    if found := disagreement(value.type, truth, binding):
        return found
    if value.elements is None or truth is None:
        return ""
    known = [bound(dim, binding) for dim in value.elements]
    true: list[int] = truth.astype(np.int64).ravel().tolist()
    wrong = len(known) != len(true) or any(a is not None and a != b for a, b in zip(known, true, strict=True))
    return f"elements {value.elements} for {true}" if wrong else ""


def wrong_outputs(case: Case, model: onnx.ModelProto, binding: Mapping[str, int]) -> Iterator[str]:
    try:
        graph = ir.load(model)
    except GraphError as error:
        yield f"{case.name}: {error.message}"
        return
    for value, truth in zip(graph.outputs, case.outputs, strict=True):
        if found := wrong_value(value, truth, binding):
            yield f"{case.name}: {found}"


def test_types_of_static_models(cases: Sequence[Case]) -> None:
    wrong = [line for case in cases for line in wrong_outputs(case, case.model, {})]
    assert not wrong


@pytest.mark.parametrize("constants", [False, True])
@pytest.mark.parametrize("seed", [None, 1, 2])
def test_types_of_symbolic_models(cases: Sequence[Case], *, constants: bool, seed: int | None) -> None:
    kept = None if seed is None else Random(seed)
    wrong: list[str] = []
    for case in cases:
        wrong += wrong_outputs(case, symbolic(case, constants=constants, kept=kept), case.bindings())
    assert not wrong


class Folding:
    """A model run by folding alone; what an operator's own fold declines, onnx's reference evaluator runs."""

    def __init__(self, case: Case, model: onnx.ModelProto) -> None:
        self.feeds = dict(zip([declared.name for declared in case.model.graph.input], case.inputs, strict=False))
        self.graph = ir.load(model)
        self.declined: Counter[str] = Counter()
        self.folded: Counter[str] = Counter()
        self.exact = True
        self.arrays: dict[Value, Array] = {}

    def run(self) -> Sequence[Array] | None:
        """The outputs; None when a node can be run neither way. `arrays` holds every value up to there."""
        for value in self.graph.inputs:
            array = self.feeds[value.name]
            if array is None:
                return None
            self.arrays[value] = array
        for node in self.graph.nodes:
            if node.graphs or not is_pure(node) or not self._fold(node):
                return None
        return [self._array(value) for value in self.graph.outputs]

    def _array(self, value: Value) -> Array:
        return self.arrays[value] if value.constant is None else value.constant.array()

    def _fold(self, node: Node) -> bool:
        arrays = [None if operand is None else self._array(operand) for operand in node.operands]
        operands = [None if array is None else constant(array) for array in arrays]
        copy = Node(node.op, operands, node.attributes, len(node.results))
        Graph("fold", {"": 28}).insert(copy)
        infer(copy)
        entry = lookup(node.op)
        results = None if entry.fold is None else entry.fold(copy, arrays)
        if entry.fold is not None:
            (self.declined if results is None else self.folded)[node.op] += 1
        if results is None:
            results = reference.fold(copy, arrays)
        self.exact = self.exact and entry.exact
        if results is None or len(results) < len(node.results):
            return False
        self.arrays.update(zip(node.results, results, strict=False))
        return True


def run(case: Case, model: onnx.ModelProto) -> tuple[Folding, Sequence[Array] | None]:
    folding = Folding(case, model)
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return folding, folding.run()


@pytest.mark.parametrize("constants", [False, True])
def test_values_within_symbolic_models(cases: Sequence[Case], *, constants: bool) -> None:
    """Types and elements of everything that a model computes on the way, such as its shape arithmetic."""
    wrong: list[str] = []
    sure: Counter[str] = Counter()
    for case in cases:
        if len(case.model.graph.node) == 1:
            continue
        folding, _ = run(case, symbolic(case, constants=constants))
        for value, truth in folding.arrays.items():
            found = wrong_value(value, truth, case.bindings())
            wrong += [f"{case.name}: {value}: {found}"] if found else []
            sure["type"] += isinstance(value.type, TensorType)
            sure["elements"] += value.elements is not None
    assert not wrong
    assert sure["elements"] > 2000


def differs(found: Array, truth: Array | None, *, exact: bool) -> bool:
    if truth is None or found.dtype != truth.dtype or found.shape != truth.shape:
        return True
    if exact or found.dtype.name not in RTOL:
        return not np.array_equal(found, truth, equal_nan=found.dtype.name in RTOL)
    a, b = found.astype(np.float64), truth.astype(np.float64)
    return not np.allclose(a, b, rtol=RTOL[found.dtype.name], atol=1e-6, equal_nan=True)


def test_folds(cases: Sequence[Case]) -> None:
    wrong: list[str] = []
    folded: Counter[str] = Counter()
    for case in cases:
        folding, results = run(case, case.model)
        folded += folding.folded
        if results is None or not folding.folded:
            continue
        pairs = zip(results, case.outputs, strict=True)
        wrong += [f"{case.name}: {a} for {b}" for a, b in pairs if differs(a, b, exact=folding.exact)]
    assert not wrong
    assert folded.total() > 5000
