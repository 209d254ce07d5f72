"""Which products can be fitted, what they are to give, and that a change lands where it should."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from onnx import parser

from planish import ir
from planish.ir import Graph
from planish.runtime.pruning.fitting import Change
from planish.runtime.pruning.product import Product, products
from planish.runtime.session import Session
from tests.equivalence import PLAIN

Singles = NDArray[np.float32]
RNG = np.random.default_rng(0)
LEFT: NDArray[np.float32] = RNG.standard_normal((5, 4)).astype(np.float32)
IMAGE: NDArray[np.float32] = RNG.standard_normal((2, 4, 5, 5)).astype(np.float32)


def graph(body: str, x: str = "float[n, 4]") -> Graph:
    text = f'<ir_version: 8, opset_import: ["" : 18]> net ({x} x) => ({x.replace("4", "p").replace("5", "q")} y) {body}'
    return ir.load(parser.parse_model(text))


def numbers(*shape: int) -> str:
    drawn = RNG.standard_normal(shape)
    return f"float[{','.join(map(str, shape))}] %s = {{{', '.join(f'{v:.3f}' for v in drawn.ravel())}}}"


def weights(**shapes: tuple[int, ...]) -> str:
    return "<" + ", ".join(numbers(*shape) % name for name, shape in shapes.items()) + ">"


def run(found: Graph, x: Singles) -> NDArray[np.float64]:
    return np.asarray(Session(ir.emit(found).SerializeToString(), PLAIN).run({"x": x})[0], np.float64)


def only(found: Graph) -> Product:
    (product,), left = products(found)
    assert not left
    return product


@pytest.mark.parametrize(
    ("body", "has_bias"),
    [
        (weights(w=(4, 3)) + " { y = MatMul (x, w) }", False),
        (weights(w=(4, 3), b=(3,)) + " { m = MatMul (x, w) y = Add (b, m) }", True),
        (weights(w=(4, 3), b=(1,)) + " { m = MatMul (x, w) y = Add (m, b) }", True),
        (weights(w=(4, 3)) + " { y = Gemm (x, w) }", True),
        (weights(w=(3, 4), b=(3,)) + " { y = Gemm <transB = 1, alpha = 0.5, beta = -2.0> (x, w, b) }", True),
        (weights(w=(4, 3), b=(3,)) + " { y = Gemm <beta = 0.0> (x, w, b) }", False),
        (weights(w=(4, 3), b=(5, 3)) + " { y = Gemm (x, w, b) }", False),
        ("{ w = Constant <value = float[4, 1] {1, 2, 3, 4}> () y = MatMul (x, w) }", False),
    ],
)
def test_a_change_of_a_matrix(body: str, has_bias: bool) -> None:
    found = graph(body)
    before = run(found, LEFT)
    product = only(found)
    assert (product.bias is not None) == has_bias
    columns = before.shape[1]
    change = Change(RNG.standard_normal((1, 4, columns)), has_bias * RNG.standard_normal((1, columns)))
    product.apply(change)
    np.testing.assert_allclose(run(found, LEFT), before + LEFT @ change.weight[0] + change.bias, atol=1e-5)


@pytest.mark.parametrize("group", [1, 2, 4])
@pytest.mark.parametrize("biased", [True, False])
def test_a_change_of_filters(group: int, biased: bool) -> None:
    """Held against a convolution by the change alone."""
    shapes = {"w": (8, 4 // group, 3, 3), **({"b": (8,)} if biased else {})}
    body = weights(**shapes) + f" {{ y = Conv <group = {group}> (x, w{', b' if biased else ''}) }}"
    found = graph(body, "float[2, 4, 5, 5]")
    before = run(found, IMAGE)
    change = Change(RNG.standard_normal((group, 36 // group, 8 // group)), RNG.standard_normal((group, 8 // group)))
    only(found).apply(change)
    start = graph(weights(w=shapes["w"]) + f" {{ y = Conv <group = {group}> (x, w) }}", "float[2, 4, 5, 5]")
    product = only(start)
    tensor = product.weight.constant
    assert tensor is not None
    array = tensor.array().astype(np.float64)
    flat = -array.reshape(group, 8 // group, -1).transpose(0, 2, 1)
    product.apply(Change(flat + change.weight, change.bias))
    np.testing.assert_allclose(run(found, IMAGE) - before, run(start, IMAGE), atol=1e-4)


@pytest.mark.parametrize(
    ("body", "is_known"),
    [
        (weights(w=(4, 3), b=(3,)) + " { m = MatMul (x, w) y = Add (b, m) }", True),
        (weights(w=(4, 3)) + " { y = Gemm <alpha = 2.0> (x, w) }", True),
        (weights(w=(3, 4), b=(3,)) + " { y = Gemm <transB = 1, alpha = 0.5, beta = -2.0> (x, w, b) }", True),
        (weights(w=(3, 4), b=(1,)) + " { y = Gemm <transB = 1> (x, w, b) }", True),
        (weights(w=(4, 3)) + " { y = MatMul (x, w) }", False),
        (weights(w=(4, 3), b=(5, 3)) + " { y = Gemm (x, w, b) }", False),
    ],
)
def test_what_a_product_computes_of_a_row(body: str, is_known: bool) -> None:
    found = graph(body)
    affine = only(found).affine
    assert (affine is not None) == is_known
    if affine is not None:
        np.testing.assert_allclose(LEFT @ affine.weight + affine.bias, run(found, LEFT), atol=1e-5)


@pytest.mark.parametrize(
    ("body", "feeds"),
    [
        ("{ m = MatMul (x, w) a = Add (m, b) y = Softmax (a) }", True),
        ("{ a = Gemm (x, w, b) y = Softmax <axis = 1> (a) }", True),
        ("{ a = MatMul (x, w) y = Softmax (a) }", True),
        ("{ a = Gemm (x, w, b) y = Softmax <axis = 0> (a) }", False),
        ("{ a = Gemm (x, w, b) s = Softmax (a) y = Add (a, s) }", False),
        ("{ a = Gemm (x, w, b) y = LogSoftmax (a) }", False),
        ("{ a = MatMul (x, w) s = Add (a, x) y = Softmax (s) }", False),
    ],
)
def test_what_feeds_a_softmax(body: str, feeds: bool) -> None:
    assert only(graph(weights(w=(4, 4), b=(4,)) + " " + body)).feeds_softmax == feeds


def test_the_sum_with_a_skip_is_what_is_wanted() -> None:
    body = weights(w=(4, 4), v=(4, 4)) + (
        " { a = MatMul (x, w) r = Relu (a) b = MatMul (r, v) s = Add (a, b) y = Relu (s) }"
    )
    found, _ = products(graph(body))
    assert [product.wanted.name for product in found] == ["a", "s"]
    assert [product.level for product in found] == [1, 2]


def test_of_two_branches_of_one_length_each_is_for_itself() -> None:
    body = weights(w=(4, 4), v=(4, 4)) + " { a = MatMul (x, w) b = MatMul (x, v) y = Add (a, b) }"
    found, _ = products(graph(body))
    assert [product.wanted.name for product in found] == ["a", "b"]


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (weights(w=(4, 4)) + " { a = MatMul (x, w) y = MatMul (a, w) }", "other nodes read its weight, too"),
        (weights(w=(4,)) + " { y = MatMul (x, w) }", "its weight is no matrix"),
        (weights(w=(4, 4)) + " { y = Gemm <alpha = 0.0> (x, w) }", "its alpha is 0"),
    ],
)
def test_what_cannot_be_fitted(body: str, reason: str) -> None:
    found, left = products(graph(body))
    assert not found
    assert set(left.values()) == {reason}


def test_what_an_element_type_cannot_hold() -> None:
    found = only(graph(weights(w=(4, 3)) + " { y = MatMul (x, w) }"))
    huge = Change(np.full((1, 4, 3), 1e300), np.zeros((1, 3)))
    assert found.rounded(huge) is None
    assert found.rounded(Change(np.zeros((1, 4, 3)), np.full((1, 3), 3e38))) is None
    small = found.rounded(Change(np.full((1, 4, 3), 1e-30), np.zeros((1, 3))))
    assert small is not None
    assert not small.weight.any()
