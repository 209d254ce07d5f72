"""Channels of quantized models go with their codes, scales and zero points."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from onnx.checker import check_model  # pyright: ignore[reportUnknownVariableType]  os.PathLike of anything

from planish import ir
from planish.ir import DType, Graph, Value
from planish.ir.graph import constant
from planish.passes.prune.removal import Removal
from planish.passes.prune.slicing import slice_channels
from planish.passes.run import Run
from tests.equivalence import run
from tests.passes.prune.pruned import analysed, at_random, pruned
from tests.passes.prune.topologies import Net

_CODES = np.uint8
_MIDDLE = 128


class CodeNet(Net):
    """Activations are uint8 around 128, weights int8 around 0."""

    def number(self, value: float) -> Value:
        return self.b.constant(np.array(value, np.float32))

    def code(self, value: int, kind: type[np.integer] = _CODES) -> Value:
        return self.b.constant(np.array(value, kind))

    def codes(self, *shape: int) -> Value:
        return self.b.constant(self.random.integers(-127, 128, shape).astype(np.int8))

    def quantized(self, x: Value, scale: float = 0.05) -> Value:
        return self.op("QuantizeLinear", x, self.number(scale), self.code(_MIDDLE))

    def restored(self, x: Value, scale: float) -> Value:
        return self.op("DequantizeLinear", x, self.number(scale), self.code(_MIDDLE))

    def qconv(self, x: Value, sizes: tuple[int, int], kernel: int, group: int = 1, *, each: bool = True) -> Value:
        """each: a scale and a zero point for each filter."""
        w = self.codes(sizes[1], sizes[0] // group, kernel, kernel)
        scale = self.b.constant(self.random.uniform(0.001, 0.01, sizes[1]).astype(np.float32)) if each else None
        zero = self.b.constant(np.zeros(sizes[1], np.int8)) if each else self.code(0, np.int8)
        bias = self.b.constant(self.random.integers(-900, 900, sizes[1]).astype(np.int32))
        operands = (x, self.number(0.05), self.code(_MIDDLE), w, scale or self.number(0.004), zero)
        pads = (kernel // 2,) * 4
        return self.op("QLinearConv", *operands, self.number(0.05), self.code(_MIDDLE), bias, group=group, pads=pads)

    def qproduct(self, x: Value, sizes: tuple[int, int], *, each: bool) -> Value:
        scale = self.b.constant(self.random.uniform(0.001, 0.01, sizes[1]).astype(np.float32)) if each else None
        zero = self.b.constant(np.zeros(sizes[1], np.int8)) if each else self.code(0, np.int8)
        operands = (x, self.number(0.05), self.code(_MIDDLE), self.codes(*sizes), scale or self.number(0.004), zero)
        return self.op("QLinearMatMul", *operands, self.number(0.05), self.code(_MIDDLE))


def convolutions(*, each: bool) -> Graph:
    n = CodeNet((2, 3, 6, 6))
    x = n.qconv(n.quantized(n.x), (3, 12), 3, each=each)
    x = n.op("MaxPool", x, kernel_shape=(2, 2), strides=(2, 2))
    x = n.qconv(x, (12, 12), 3, 12, each=each)
    x = n.qconv(n.qconv(x, (12, 16), 1, each=each), (16, 16), 3, 4, each=each)
    return n.end(n.restored(n.qconv(x, (16, 4), 1, each=each), 0.05))


def products(*, each: bool) -> Graph:
    n = CodeNet((2, 5, 6))
    x = n.qproduct(n.quantized(n.x), (6, 24), each=each)
    x = n.op("Reshape", x, n.ints(0, 0, 4, 6))
    x = n.qproduct(n.op("Reshape", x, n.ints(0, 0, 24)), (24, 16), each=each)
    return n.end(n.restored(n.qproduct(x, (16, 3), each=each), 0.05))


def dead(graph: Graph, removal: Removal) -> None:
    """Weights and biases of what goes are 0: such channels hold the zero point."""
    for (value, axis), stays in removal.staying.items():
        if value.constant is None or value.dtype not in (DType.INT8, DType.INT32):
            continue
        array = value.constant.array().copy()
        rows = stays if stays.ndim > 1 else stays[None]
        for row, part in zip(rows, np.split(array, len(rows), axis=0), strict=True):
            part[(slice(None),) * axis + (~row,)] = 0
        graph.replace_all_uses_with(value, constant(array, value.name))


CHAINS: dict[str, Callable[[], Graph]] = {
    "convolutions": lambda: convolutions(each=False),
    "convolutions, scales by channel": lambda: convolutions(each=True),
    "products": lambda: products(each=False),
    "products, scales by column": lambda: products(each=True),
}


@pytest.mark.parametrize("name", CHAINS)
def test_codes_alone(name: str) -> None:
    """Bit for bit what the model gives with these channels at the zero point."""
    before = ir.emit(CHAINS[name]())
    for seed in range(3):
        other, again = analysed(before)
        dead(other, at_random(again.groups, 0.5, seed))
        graph, found = analysed(before)
        removal = at_random(found.groups, 0.5, seed)
        assert sum(group.size for group in found.groups) >= 20
        slice_channels(graph, removal, Run())
        after = ir.emit(graph)
        check_model(after, full_check=True)
        shape = [dim.dim_value for dim in before.graph.input[0].type.tensor_type.shape.dim]
        feeds = {"x": np.random.default_rng(seed).normal(0, 2, shape).astype(np.float32)}
        (aim,), (got,) = run(ir.emit(other), feeds), run(after, feeds)
        assert np.array_equal(np.asarray(aim), np.asarray(got))
        assert not np.array_equal(np.asarray(aim), np.asarray(run(before, feeds)[0]))


def dynamic_product(n: CodeNet, x: Value, sizes: tuple[int, int]) -> Value:
    codes, scale, zero = n.b.nodes("DynamicQuantizeLinear", (x,), {}, results=3)
    zeros = n.b.constant(n.random.integers(-9, 9, sizes[1]).astype(np.int8))
    y = n.op("Cast", n.op("MatMulInteger", codes, n.codes(*sizes), zero, zeros), to=int(DType.FLOAT))
    return n.op("Mul", y, n.op("Mul", scale, n.positive(sizes[1])))


def dynamic_convolution(n: CodeNet, x: Value, sizes: tuple[int, int], group: int = 1) -> Value:
    codes, scale, zero = n.b.nodes("DynamicQuantizeLinear", (x,), {}, results=3)
    w = n.codes(sizes[1], sizes[0] // group, 3, 3)
    y = n.op("ConvInteger", codes, w, zero, n.code(3, np.int8), group=group, pads=(1, 1, 1, 1))
    y = n.op("Mul", n.op("Cast", y, to=int(DType.FLOAT)), scale)
    return n.op("Mul", y, n.b.constant(np.full((sizes[1], 1, 1), 0.01, np.float32)))


def test_products_of_codes_made_at_run_time() -> None:
    n = CodeNet(("N", 6))
    x = n.op("Relu", dynamic_product(n, n.x, (6, 24)))
    x = n.op("Tanh", dynamic_product(n, x, (24, 16)))
    found = pruned(n.end(dynamic_product(n, x, (16, 3))), bindings=({"N": 1}, {"N": 4}))
    assert sorted(found.groups.values()) == [16, 24]


def test_convolutions_of_codes_made_at_run_time() -> None:
    n = CodeNet(("N", 3, 6, 6))
    x = n.op("Relu", dynamic_convolution(n, n.x, (3, 8)))
    x = n.op("Relu", dynamic_convolution(n, x, (8, 8), 8))
    x = n.op("Relu", dynamic_convolution(n, x, (8, 12), 4))
    found = pruned(n.end(dynamic_convolution(n, x, (12, 3))), bindings=({"N": 1}, {"N": 3}))
    assert sorted(found.groups.values()) == [8, 12]


def test_scales_by_row_keep_what_they_are_of() -> None:
    n = CodeNet((4, 6))
    x = n.qproduct(n.quantized(n.x), (6, 8), each=False)
    x = n.op("Transpose", x, perm=(1, 0))
    rows = n.b.constant(n.random.uniform(0.01, 0.1, 8).astype(np.float32)), n.b.constant(np.full(8, 128, np.uint8))
    y = n.op("QLinearMatMul", x, *rows, n.codes(4, 3), n.number(0.01), n.code(0, np.int8), *rows)
    graph, found = analysed(ir.emit(n.end(n.op("Cast", y, to=int(DType.FLOAT)))))
    assert not found.groups
    assert any("for each row" in part.reason.text for part in found.frozen)
    assert len(graph)
