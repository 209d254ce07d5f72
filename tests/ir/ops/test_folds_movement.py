"""Operators that pick, place and move elements fold to what ONNX Runtime gives, bit for bit."""

from collections.abc import Callable, Iterable, Mapping

import numpy as np
import pytest

from planish.ir import Node, constant
from planish.ir.ops.indexing import OPERATORS as INDEXING
from planish.ir.ops.placing import OPERATORS as PLACING
from planish.ir.ops.shape import OPERATORS as SHAPE
from planish.ir.ops.table import lookup
from planish.ir.types import Array
from tests.ir.ops.conftest import Case, Draw, Runtime, compare

FAR = 2**63 - 1


def ints(*values: int) -> Array:
    return np.array(values, np.int64)


def scalar(value: int) -> Array:
    return np.array(value, np.int64)


def pad(draw: Draw) -> Iterable[Case]:
    random = np.random.default_rng(1)
    for mode in ("constant", "edge", "reflect", "wrap"):
        for shape in ((3, 4), (1, 5), (0, 3)):
            for low in (0, 0, -2):
                pads = random.integers(low, 4, 2 * len(shape))
                yield (draw(*shape), pads, draw(seed=2)), {"mode": mode}
        yield (draw(3, 4), ints(1, 2), None, ints(-1)), {"mode": mode}
        yield (draw(3, 4), ints(1, 2, 0, 1), draw(), ints(-1, 0)), {"mode": mode}


def indexed(draw: Draw) -> Iterable[Case]:
    x, random = draw(3, 4, 5), np.random.default_rng(2)
    for axis in (0, 1, -1):
        extent = x.shape[axis]
        for low, high in ((-extent, extent), (-extent - 1, extent + 1)):
            yield (x, random.integers(low, high, (2, 3, 4)).astype(np.int32)), {"axis": axis}
            yield (x, random.integers(low, high, (1, 2, 1))), {"axis": axis}


def gather(draw: Draw) -> Iterable[Case]:
    yield from indexed(draw)
    yield (draw(5), scalar(-1)), {}
    yield (draw(3, 4), scalar(1)), {"axis": 1}


def gather_nd(draw: Draw) -> Iterable[Case]:
    x = draw(3, 4, 5)
    for places in ([[0, -1], [2, 3]], [[[0, 1, 2]], [[-1, -1, -1]]], [0], [[3, 0]]):
        yield (x, np.array(places, np.int64)), {}
    yield (x, np.array([[[0], [1]], [[2], [3]], [[-1], [0]]], np.int64)), {"batch_dims": 1}
    yield (draw(5), ints(-1)), {}
    yield (x, np.zeros((0, 2), np.int64)), {}


def scatter_elements(draw: Draw) -> Iterable[Case]:
    x, random = draw(3, 4, 5), np.random.default_rng(3)
    for axis in (0, 1, -1):
        order = np.argsort(random.random(x.shape), axis=axis)
        order = np.where(random.random(x.shape) < 0.5, order, order - x.shape[axis])
        yield (x, order, draw(3, 4, 5, seed=1)), {"axis": axis}
        yield (x, order, draw(3, 4, 5, seed=1)), {"axis": axis, "reduction": "add"}
        yield (x, np.zeros((2, 2, 2), np.int32), draw(2, 2, 2, seed=1)), {"axis": axis}


def scatter_nd(draw: Draw) -> Iterable[Case]:
    for places, shape in (
        ([[0, -1], [2, 3]], (2, 5)),
        ([[0, -1], [0, 3]], (2, 5)),
        ([[0], [-1]], (2, 4, 5)),
        ([[3, 0]], (1, 5)),
    ):
        yield (draw(3, 4, 5), np.array(places, np.int64), draw(*shape, seed=1)), {}
    yield (draw(3, 4, 5), np.zeros((0, 2), np.int64), draw(0, 5, seed=1)), {}


def one_hot(draw: Draw) -> Iterable[Case]:
    for axis in (0, -1):
        for dtype in (np.int64, np.int32):
            yield (np.arange(-7, 8).reshape(3, 5).astype(dtype), ints(5), draw(2)), {"axis": axis}


def triangle(draw: Draw) -> Iterable[Case]:
    for k in (0, 1, -7, 9, FAR, -FAR - 1):
        yield from (((draw(2, 3, 4), scalar(k)), {"upper": upper}) for upper in (0, 1))
    yield (draw(3, 0),), {}


def eye(draw: Draw) -> Iterable[Case]:
    return [((draw(*s),), {"k": k, "dtype": d}) for s in ((3, 4), (0, 3)) for k in (0, -2, 9) for d in (1, 7, 11)]


def split(draw: Draw) -> Iterable[Case]:
    yield (draw(7, 3),), {"num_outputs": 2}
    yield (draw(6, 3), ints(4, 2)), {}
    yield (draw(2, 5), ints(0, 5)), {"axis": -1}


def slices(draw: Draw) -> Iterable[Case]:
    random = np.random.default_rng(4)
    bounds = np.array((-FAR - 1, -FAR, -9, -5, -4, -2, -1, 0, 1, 2, 4, 5, 6, FAR - 1, FAR, 2**31 - 1), np.int64)
    steps = np.array((1, 2, 3, -1, -2, -7, FAR, -FAR), np.int64)
    for _ in range(60):
        start, end, step = random.choice(bounds, 1), random.choice(bounds, 1), random.choice(steps, 1)
        yield (draw(5, 3), start, end, ints(int(random.integers(-2, 2))), step), {}
        yield (draw(0, 3), start, end, ints(0), step), {}


def concat(draw: Draw) -> Iterable[Case]:
    yield (draw(2, 3), draw(0, 3, seed=1)), {"axis": 0}
    yield (draw(2, 3), draw(2, 1, seed=1), draw(2, 2, seed=2)), {"axis": -1}


def reshape(draw: Draw) -> Iterable[Case]:
    for target in ((0, -1), (-1,), (3, 2), (2, 0, -1), (0, 0), (-1, 0), (4, 2), (-1, -1)):
        for shape in ((2, 3), (0, 3)):
            yield from (((draw(*shape), ints(*target)), {"allowzero": allow}) for allow in (0, 1))


def squeeze(draw: Draw) -> Iterable[Case]:
    yield (draw(1, 3, 1),), {}
    yield from (((draw(1, 3, 1), ints(*axes)), {}) for axes in ((), (0,), (-1,), (2, 0), (1,)))


def unsqueeze(draw: Draw) -> Iterable[Case]:
    yield from (((draw(2, 3), ints(*axes)), {}) for axes in ((), (0,), (-1,), (-1, -2), (3, 0), (0, -3)))
    yield (draw(), ints(0)), {}


def flatten(draw: Draw) -> Iterable[Case]:
    return [((draw(*shape),), {"axis": axis}) for shape in ((2, 3, 4), (0, 3)) for axis in (0, 1, 2, -1, -2)]


def transpose(draw: Draw) -> Iterable[Case]:
    yield (draw(2, 3, 4),), {"perm": (2, 0, 1)}
    yield from (((draw(*shape),), {}) for shape in ((2, 3, 4), (), (0, 2)))


def expand(draw: Draw) -> Iterable[Case]:
    shapes = ((3,), (2, 3), (4, 2, 3), (1, 1), (0, 2, 3), (5, 3))
    return [((draw(*shape), ints(*target)), {}) for target in shapes for shape in ((2, 1), (1, 3), (3,), ())]


def tile(draw: Draw) -> Iterable[Case]:
    return [((draw(2, 3), ints(2, 0)), {}), ((draw(2, 3), ints(2, 3)), {}), ((draw(), ints()), {})]


def filled(draw: Draw) -> Iterable[Case]:
    return [((ints(*shape),), {"value": draw(1)}) for shape in ((2, 3), (), (0,))]


def ranges(draw: Draw) -> Iterable[Case]:
    if draw.kind == "tame":
        for bounds in ((0, 5, 1), (0, 5, 2), (0, 6, 3), (5, 0, 1), (2, 2, 1)):
            yield tuple(np.array(bound, draw.dtype) for bound in bounds), {}
        if draw.dtype.kind == "i":
            yield tuple(np.array(bound, draw.dtype) for bound in (5, -4, -2)), {}


CASES: Mapping[str, Callable[[Draw], Iterable[Case]]] = {
    "Pad": pad,
    "Gather": gather,
    "GatherElements": indexed,
    "GatherND": gather_nd,
    "ScatterElements": scatter_elements,
    "ScatterND": scatter_nd,
    "OneHot": one_hot,
    "Trilu": triangle,
    "EyeLike": eye,
    "Split": split,
    "Slice": slices,
    "Concat": concat,
    "Reshape": reshape,
    "Squeeze": squeeze,
    "Unsqueeze": unsqueeze,
    "Flatten": flatten,
    "Transpose": transpose,
    "Expand": expand,
    "Tile": tile,
    "ConstantOfShape": filled,
    "Range": ranges,
}
RESULTS = {"Split": 2}


@pytest.mark.parametrize("op", CASES)
def test_fold(runtime: Runtime, op: str) -> None:
    compare(runtime, op, CASES[op], RESULTS.get(op, 1))


@pytest.mark.parametrize(
    ("op", "indices", "updates"), [("ScatterND", [[0], [-3]], [1.0, 2.0]), ("ScatterElements", [0, -3], [1.0, 2.0])]
)
def test_two_updates_of_one_element_have_no_order(op: str, indices: list[int], updates: list[float]) -> None:
    arrays = [np.zeros(3, np.float32), np.array(indices, np.int64), np.array(updates, np.float32)]
    node = Node(op, [constant(array) for array in arrays])
    fold = lookup(op).fold
    assert fold is not None
    assert fold(node, arrays) is None


def test_no_fold_is_left_out() -> None:
    families = INDEXING | PLACING | SHAPE
    assert {op for op, entry in families.items() if entry.fold is not None} == set(CASES)
