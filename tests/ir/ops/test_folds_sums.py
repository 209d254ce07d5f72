"""Products, sums and the choice of extremes fold to what ONNX Runtime computes."""

from collections.abc import Callable, Iterable, Mapping

import numpy as np
import pytest

from planish.ir.ops.linear import OPERATORS as LINEAR
from planish.ir.ops.normalization import OPERATORS as NORMALIZATION
from planish.ir.ops.reduction import OPERATORS as REDUCTION
from planish.ir.types import Array
from tests.ir.ops.conftest import Case, Draw, Runtime, compare


def ints(*values: int) -> Array:
    return np.array(values, np.int64)


def scalar(value: int) -> Array:
    return np.array(value, np.int64)


def matmul(draw: Draw) -> Iterable[Case]:
    pairs = (
        ((3, 4), (4, 5)),
        ((4,), (4,)),
        ((4,), (2, 4, 5)),
        ((2, 1, 3, 4), (3, 4, 2)),
        ((2, 0), (0, 3)),
        ((9, 64), (64, 9)),
    )
    return [((draw(*a), draw(*b, seed=1)), {}) for a, b in pairs]


def gemm(draw: Draw) -> Iterable[Case]:
    for attributes in ({}, {"transA": 1}, {"transB": 1}, {"alpha": 0.3, "beta": 2.0}, {"beta": 0.0}, {"alpha": 0.0}):
        a = draw(*((4, 3) if attributes.get("transA") else (3, 4)))
        b = draw(*((5, 4) if attributes.get("transB") else (4, 5)), seed=1)
        yield (a, b), attributes
        yield from (((a, b, draw(*shape, seed=2)), attributes) for shape in ((5,), (3, 1), ()))


def batch_normalization(draw: Draw) -> Iterable[Case]:
    for shape in ((2, 3, 4), (2, 3), (0, 3)):
        parameters = [draw(3, seed=seed) for seed in range(3)]
        yield (draw(*shape, seed=9), *parameters, np.abs(draw(3, seed=3))), {"epsilon": 1e-3}


def reduction(draw: Draw) -> Iterable[Case]:
    shapes = (((3, 4), None), ((3, 4), ()), ((2, 3, 4), (0, 2)), ((2, 3, 4), (-1, 1)), ((2, 3), (1, 1)), ((0, 3), (1,)))
    for shape, axes in (*shapes, ((), None), ((40, 33), (1,)), ((40, 33), (0,))):
        named = () if axes is None else (ints(*axes),)
        yield from (((draw(*shape), *named), a) for a in ({}, {"keepdims": 0}, {"noop_with_empty_axes": 1}))


def large_sums(draw: Draw) -> Iterable[Case]:
    yield from reduction(draw)
    if draw.dtype.kind == "i" and draw.dtype.itemsize >= 4:
        yield (np.array([2**24 + 1, 2**24 + 1, 2**26 + 1], draw.dtype),), {}
        yield (np.array([2**14 + 1, -(2**14) - 3], draw.dtype),), {}


def argument(draw: Draw) -> Iterable[Case]:
    for shape, axis in (((3, 4), 0), ((2, 3, 4), -2), ((40,), 0), ((3, 70), 1)):
        yield from (((draw(*shape),), {"axis": axis, "select_last_index": last, "keepdims": last}) for last in (0, 1))


def top_k(draw: Draw) -> Iterable[Case]:
    for shape, axis, k in (((3, 4), 0, 2), ((2, 3, 4), 1, 1), ((3, 70), 1, 5), ((3, 700), 1, 60), ((3, 4), 0, 0)):
        yield from (((draw(*shape), ints(k)), {"axis": axis, "largest": largest}) for largest in (0, 1))


def running_sum(draw: Draw) -> Iterable[Case]:
    for shape, axis in (((3, 4), 0), ((2, 3, 4), -2), ((0, 3), 0)):
        for reverse in (0, 1):
            yield from (((draw(*shape), scalar(axis)), {"reverse": reverse, "exclusive": e}) for e in (0, 1))


CASES: Mapping[str, Callable[[Draw], Iterable[Case]]] = {
    **dict.fromkeys(["ReduceMax", "ReduceMin", "ReduceMean", "ReduceL2", "ReduceProd"], reduction),
    **dict.fromkeys(["ReduceSum", "ReduceL1", "ReduceSumSquare"], large_sums),
    **dict.fromkeys(("ArgMax", "ArgMin"), argument),
    "MatMul": matmul,
    "Gemm": gemm,
    "BatchNormalization": batch_normalization,
    "TopK": top_k,
    "CumSum": running_sum,
}


@pytest.mark.parametrize("op", CASES)
def test_fold(runtime: Runtime, op: str) -> None:
    compare(runtime, op, CASES[op], 2 if op == "TopK" else 1)


def test_no_fold_is_left_out() -> None:
    families = LINEAR | NORMALIZATION | REDUCTION
    assert {op for op, entry in families.items() if entry.fold is not None} == set(CASES)
