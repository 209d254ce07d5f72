"""Gram matrices against rows that are cut out one by one, and against what the products themselves compute."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from numpy.typing import NDArray

from planish import ir
from planish.ir import DType, Node
from planish.passes.quantize.gram import Gram, Window
from planish.runtime.patches import GramObserver, Rows
from planish.runtime.session import Session

Floats = NDArray[np.float64]
F32 = NDArray[np.float32]
Attributes = dict[str, int | str | tuple[int, ...]]

CONVS: dict[str, tuple[tuple[int, ...], tuple[int, ...], Attributes]] = {
    "plain": ((2, 3, 6, 7), (4, 3, 3, 3), {}),
    "1x1": ((2, 3, 6, 7), (4, 3, 1, 1), {}),
    "strided": ((1, 2, 9, 8), (3, 2, 3, 2), {"strides": (2, 3)}),
    "dilated": ((1, 2, 9, 9), (3, 2, 3, 2), {"dilations": (2, 3)}),
    "padded on one side": ((2, 2, 5, 5), (3, 2, 3, 3), {"pads": (1, 0, 2, 3)}),
    "all at once": (
        (1, 4, 9, 8), (6, 2, 3, 2), {"strides": (2, 1), "dilations": (1, 2), "pads": (1, 2, 0, 1), "group": 2}
    ),
    "grouped": ((2, 6, 5, 5), (9, 2, 3, 3), {"group": 3}),
    "depthwise": ((2, 4, 5, 5), (8, 1, 3, 3), {"group": 4, "pads": (1, 1, 1, 1)}),
    "1-D": ((2, 3, 11), (4, 3, 4), {"strides": (2,), "pads": (3, 0)}),
    "3-D": ((1, 2, 4, 5, 6), (3, 2, 2, 3, 2), {"strides": (1, 2, 1), "pads": (0, 1, 0, 1, 0, 1)}),
    "same upper": ((1, 2, 6, 7), (3, 2, 3, 2), {"auto_pad": "SAME_UPPER", "strides": (2, 2)}),
    "same lower": ((1, 2, 6, 7), (3, 2, 4, 2), {"auto_pad": "SAME_LOWER", "strides": (2, 1)}),
    "valid": ((1, 2, 6, 7), (3, 2, 3, 2), {"auto_pad": "VALID"}),
    "kernel as large as the image": ((2, 2, 3, 3), (3, 2, 3, 3), {}),
}  # fmt: skip


def convolution(shape: tuple[int, ...], weight: F32, attributes: Attributes) -> tuple[ir.Graph, Node]:
    b = ir.Builder()
    x = b.input("x", DType.FLOAT, shape)
    y = b.node("Conv", (x, b.initializer("w", weight)), attributes, result="y")
    b.output("y", y)
    graph = b.graph()
    return graph, graph.nodes[0]


def explicit(x: F32, window: Window) -> Floats:
    """[groups, rows, k], each number of each window picked by itself out of the padded image."""
    assert window.auto_pad == "NOTSET"
    count = len(window.kernel)
    pads = [(0, 0), (0, 0), *zip(window.pads[:count], window.pads[count:], strict=True)]
    padded = np.pad(x, pads).astype(np.float64)
    depth = x.shape[1] // window.group
    spans = [(k - 1) * d + 1 for k, d in zip(window.kernel, window.dilations, strict=True)]
    places = [range(0, e - s + 1, t) for e, s, t in zip(padded.shape[2:], spans, window.strides, strict=True)]
    groups: list[list[list[float]]] = []
    for group in range(window.group):
        rows: list[list[float]] = []
        for image in padded:
            for place in itertools.product(*places):
                row: list[float] = []
                for channel, *offsets in itertools.product(range(depth), *map(range, window.kernel)):
                    at = [p + o * d for p, o, d in zip(place, offsets, window.dilations, strict=True)]
                    row.append(float(image[(group * depth + channel, *at)]))
                rows.append(row)
        groups.append(rows)
    return np.asarray(groups, np.float64).reshape(window.group, -1, depth * math.prod(window.kernel))


def gram_of(rows: Rows, *arrays: NDArray[np.generic]) -> Gram:
    observer = GramObserver(rows)
    for array in arrays:
        observer.observe(array)
    found = observer.gram()
    assert found is not None
    return found


def agree(found: Gram, rows: Floats) -> None:
    assert found.count == rows.shape[1]
    assert found.matrix.shape == (rows.shape[0], rows.shape[2], rows.shape[2])
    expected = np.einsum("gnk,gnl->gkl", rows, rows)
    np.testing.assert_allclose(found.matrix, expected, rtol=1e-13, atol=1e-13 * np.abs(expected).max())
    np.testing.assert_allclose(found.mean, rows.mean(axis=1), rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("name", [name for name, (_, _, more) in CONVS.items() if "auto_pad" not in more])
def test_windows_are_those_cut_out_one_by_one(name: str) -> None:
    shape, weight, attributes = CONVS[name]
    rng = np.random.default_rng(0)
    x = rng.standard_normal(shape).astype(np.float32)
    _, node = convolution(shape, rng.standard_normal(weight).astype(np.float32), attributes)
    window = Window.of(node)
    assert window is not None
    agree(gram_of(Rows(window=window), x), explicit(x, window))


@pytest.mark.parametrize("name", CONVS)
def test_rows_by_the_weight_are_what_the_convolution_computes(name: str) -> None:
    """w^T (X^T X) w is the sum of squares of the output, and the mean row times w its mean: on ONNX Runtime's own."""
    shape, weight_shape, attributes = CONVS[name]
    rng = np.random.default_rng(1)
    x, weight = (rng.standard_normal(s).astype(np.float32) for s in (shape, weight_shape))
    graph, node = convolution(shape, weight, attributes)
    window = Window.of(node)
    assert window is not None
    found = gram_of(Rows(window=window), x)
    (y,) = Session(ir.emit(graph).SerializeToString()).run({"x": x})
    assert isinstance(y, np.ndarray)
    filters = weight.astype(np.float64).reshape(window.group, weight_shape[0] // window.group, -1)
    outputs = np.moveaxis(y.astype(np.float64), 1, 0).reshape(weight_shape[0], -1)
    squares = np.einsum("gfk,gkl,gfl->gf", filters, found.matrix, filters).reshape(-1)
    means = np.einsum("gfk,gk->gf", filters, found.mean).reshape(-1)
    assert found.count == outputs.shape[1]
    np.testing.assert_allclose(squares, (outputs**2).sum(axis=1), rtol=1e-4)
    np.testing.assert_allclose(means, outputs.mean(axis=1), atol=1e-4)


@pytest.mark.parametrize("shape", [(5,), (4, 5), (2, 3, 5), (2, 0, 5), (700_000, 2), (1, 5)])
def test_matrix_products_take_rows_along_the_last_axis(shape: tuple[int, ...]) -> None:
    x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    if not x.size:
        observer = GramObserver(Rows())
        observer.observe(x)
        assert observer.gram() is None
        return
    agree(gram_of(Rows(), x), x.reshape(1, -1, shape[-1]).astype(np.float64))


def test_a_transposed_operand_gives_its_columns() -> None:
    x = np.random.default_rng(0).standard_normal((4, 6)).astype(np.float32)
    agree(gram_of(Rows(transposed=True), x), x.T[None].astype(np.float64))


def test_runs_add_up_and_parts_merge() -> None:
    arrays = [np.random.default_rng(i).standard_normal((3, 4)).astype(np.float16) for i in range(4)]
    rows = np.concatenate(arrays)[None].astype(np.float64)
    agree(gram_of(Rows(), *arrays), rows)
    total = GramObserver(Rows())
    for array in arrays:
        part = GramObserver(Rows())
        part.observe(array)
        total.merge(part)
    found = total.gram()
    assert found is not None
    agree(found, rows)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_rows_that_are_not_finite_are_left_out_and_counted(bad: float) -> None:
    x = np.random.default_rng(0).standard_normal((6, 3)).astype(np.float32)
    x[2, 1] = bad
    found = gram_of(Rows(), x)
    assert (found.count, found.skipped) == (5, 1)
    agree(found, np.delete(x, 2, axis=0)[None].astype(np.float64))


def test_an_image_smaller_than_the_kernel_has_no_windows() -> None:
    observer = GramObserver(Rows(window=Window((3,), (1,), (1,), (0, 0), 1, "NOTSET")))
    observer.observe(np.ones((1, 1, 2), np.float32))
    assert observer.gram() is None


def test_of_a_large_image_windows_of_every_phase_are_taken() -> None:
    """Channels are 1 on one phase each of what was upsampled by 2, and by 4."""
    rows, columns = np.mgrid[:300, :401]
    phases = [(rows % 2 == y) & (columns % 2 == x) for y in range(2) for x in range(2)]
    phases += [(rows % 4 == y) & (columns % 4 == x) for y in range(4) for x in range(4)]
    x = np.stack(phases)[None].astype(np.float32)
    _, node = convolution(x.shape, np.ones((1, len(phases), 1, 1), np.float32), {})
    window = Window.of(node)
    assert window is not None
    found = gram_of(Rows(window=window), x)
    assert 1000 < found.count <= 2048
    np.testing.assert_allclose(found.mean[0], [1 / 4] * 4 + [1 / 16] * 16, rtol=0.2)
    np.testing.assert_allclose(found.matrix[0].diagonal() / found.count, found.mean[0])


@pytest.mark.parametrize("name", CONVS)
@pytest.mark.parametrize("most", [1, 3, 7, 10_000])
def test_windows_at_places_are_those_of_the_result(name: str, most: int) -> None:
    """Rows times weights are the results at the same places; in turn, all of them are taken."""
    shape, weight_shape, attributes = CONVS[name]
    rng = np.random.default_rng(1)
    x, weight = (rng.standard_normal(s).astype(np.float32) for s in (shape, weight_shape))
    graph, node = convolution(shape, weight, attributes)
    window = Window.of(node)
    assert window is not None
    y = np.asarray(Session(ir.emit(graph).SerializeToString()).run({"x": x})[0], np.float64)
    filters = weight.astype(np.float64).reshape(window.group, weight_shape[0] // window.group, -1)
    seen = np.zeros(y.shape[2:], np.bool_)
    for turn in range(y.size):
        places = Rows(window=window).places(x, most, turn)
        rows = np.concatenate(list(Rows(window=window).of(x, places)), axis=1)
        assert 0 < rows.shape[1] <= most * len(x)
        made = np.matmul(rows, filters.transpose(0, 2, 1)).transpose(0, 2, 1).reshape(weight_shape[0], len(x), -1)
        at = y[(slice(None), slice(None), *places)]
        np.testing.assert_allclose(made.transpose(1, 0, 2), at.reshape(len(x), weight_shape[0], -1), atol=1e-4)
        seen[places] = True
    assert seen.all()


@pytest.mark.parametrize("transposed", [False, True])
def test_rows_of_a_matrix_at_places(transposed: bool) -> None:
    x = np.arange(40, dtype=np.float32).reshape(10, 4)
    rows = Rows(transposed)
    places = rows.places(x.T if transposed else x, 4, 2)
    (found,) = rows.of(x.T if transposed else x, places)
    np.testing.assert_array_equal(found[0], x[2::3])
