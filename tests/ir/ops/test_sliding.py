"""Extents of convolutions, poolings and resizings beside those that ONNX Runtime gives, static and symbolic."""

from collections import Counter
from collections.abc import Mapping, Sequence
from random import Random
from typing import TypeAlias

import numpy as np
import pytest

from planish.ir import Builder, DType, TensorType, constant
from planish.ir.dim import Dim, symbol
from planish.ir.types import Array
from planish.runtime.errors import SessionError
from tests.ir.ops.conftest import Runtime

Attributes: TypeAlias = Mapping[str, int | str | tuple[int, ...]]
TRIALS = 150


def inferred(op: str, shape: Sequence[Dim], others: Sequence[Array | None], attributes: Attributes) -> TensorType:
    b = Builder(opset=22)
    x = b.input("x", DType.UINT8 if op == "ConvInteger" else DType.FLOAT, shape)
    operands = [None if other is None else constant(other) for other in others]
    found = b.node(op, (x, *operands), attributes).tensor_type
    assert found is not None
    return found


def holds(found: Sequence[Dim] | None, truth: Sequence[int], binding: Mapping[str, int]) -> bool | None:
    """Whether inferred extents are those of this run; None when some depend on more than the operands' extents."""
    assert found is not None
    bound = [dim if isinstance(dim, int) else dim.substitute(binding) for dim in found]
    pairs = list(zip(bound, truth, strict=True))
    if any(isinstance(dim, int) and dim != extent for dim, extent in pairs):
        return False
    return True if all(isinstance(dim, int) for dim in bound) else None


def check(
    runtime: Runtime, op: str, shape: tuple[int, ...], others: Sequence[Array | None], attributes: Attributes
) -> str:
    """What came of one node: known or unknown for symbolic operands, or refused by ONNX Runtime."""
    x = np.zeros(shape, np.uint8 if op == "ConvInteger" else np.float32)
    try:
        results = runtime.run(op, (x, *others), attributes, 1)
    except SessionError:
        return "refused"
    truth = results[0] if results is not None else None
    assert isinstance(truth, np.ndarray)
    static = inferred(op, shape, others, attributes)
    assert static.dtype is DType.of(truth)
    assert holds(static.shape, truth.shape, {}) is not False, f"{op} {shape} {attributes}: {static} for {truth.shape}"
    free = tuple(extent if axis == 1 else symbol(f"d{axis}") for axis, extent in enumerate(shape))
    symbolic = inferred(op, free, others, attributes)
    verdict = holds(symbolic.shape, truth.shape, {f"d{axis}": extent for axis, extent in enumerate(shape)})
    assert verdict is not False, f"{op} {shape} {attributes}: {symbolic} for {truth.shape}"
    return "known" if verdict else "unknown"


def window(random: Random, axes: int) -> dict[str, int | str | tuple[int, ...]]:
    """Strides, dilations and padding of either kind, some of them left to their defaults."""
    found: dict[str, int | str | tuple[int, ...]] = {}
    if random.random() < 0.8:
        found["strides"] = tuple(random.randint(1, 4) for _ in range(axes))
    if random.random() < 0.4:
        found["dilations"] = tuple(random.randint(1, 3) for _ in range(axes))
    choice = random.random()
    if choice < 0.5:
        found["pads"] = tuple(random.randint(0, 1) for _ in range(2 * axes))
    elif choice < 0.8:
        found["auto_pad"] = random.choice(("SAME_UPPER", "SAME_LOWER", "VALID"))
    return found


@pytest.mark.parametrize("op", ["MaxPool", "AveragePool", "LpPool"])
def test_pools(runtime: Runtime, op: str) -> None:
    random, outcomes = Random(op), Counter[str]()
    for _ in range(TRIALS):
        axes = random.randint(1, 2)
        kernel = tuple(random.randint(2, 3) for _ in range(axes))
        attributes = window(random, axes) | {"kernel_shape": kernel, "ceil_mode": random.randint(0, 1)}
        shape = (random.randint(0, 2), 2, *(random.randint(7, 19) for _ in range(axes)))
        outcomes[check(runtime, op, shape, (), attributes)] += 1
    assert outcomes["known"] > TRIALS / 2, outcomes


@pytest.mark.parametrize("op", ["Conv", "ConvInteger", "ConvTranspose"])
def test_convolutions(runtime: Runtime, op: str) -> None:
    random, outcomes = Random(op), Counter[str]()
    for _ in range(TRIALS):
        axes = random.randint(1, 2)
        kernel = tuple(random.randint(1, 3) for _ in range(axes))
        attributes = window(random, axes)
        if random.random() < 0.5:
            attributes["kernel_shape"] = kernel
        group = random.randint(1, 2)
        channels = (4, 2 // group) if op == "ConvTranspose" else (4, 4 // group)
        if op == "ConvTranspose" and random.random() < 0.5:
            attributes["output_padding"] = tuple(random.randint(0, 2) for _ in range(axes))
        weight = np.zeros((*channels, *kernel), np.uint8 if op == "ConvInteger" else np.float32)
        shape = (random.randint(1, 2), 4, *(random.randint(7, 19) for _ in range(axes)))
        outcomes[check(runtime, op, shape, (weight,), attributes | {"group": group})] += 1
    assert outcomes["known"] > TRIALS / 2, outcomes


def test_resizes(runtime: Runtime) -> None:
    random, outcomes = Random("Resize"), Counter[str]()
    for _ in range(TRIALS):
        shape = (1, 1, random.randint(1, 40), random.randint(1, 40))
        factors = [random.choice((0.5, 0.25, 1.0, 2.0, 3.0, 1.5, 0.75, 1 / 3, 0.1, 0.7, 2.3)) for _ in range(2)]
        if random.random() < 0.5:
            scales = np.array([1, 1, *factors], np.float32)
            outcomes[check(runtime, "Resize", shape, (None, scales), {"mode": "nearest"})] += 1
        else:
            policy = random.choice(("stretch", "not_larger", "not_smaller"))
            sizes = np.array([random.randint(1, 30) for _ in range(2)], np.int64)
            attributes: Attributes = {"mode": "linear", "axes": (2, -1), "keep_aspect_ratio_policy": policy}
            outcomes[check(runtime, "Resize", shape, (None, None, sizes), attributes)] += 1
    assert outcomes["known"] > TRIALS / 3, outcomes


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("extent", [1, 2, 3])
@pytest.mark.parametrize("ceil_mode", [0, 1])
def test_a_pool_larger_than_its_axis_is_what_onnx_runtime_makes_of_it(
    runtime: Runtime, stride: int, extent: int, ceil_mode: int
) -> None:
    attributes: Attributes = {"kernel_shape": (4,), "strides": (stride,), "ceil_mode": ceil_mode}
    try:
        results = runtime.run("MaxPool", (np.zeros((1, 1, extent), np.float32),), attributes, 1)
    except SessionError:
        return
    truth = results[0] if results is not None else None
    assert isinstance(truth, np.ndarray)
    assert inferred("MaxPool", (1, 1, extent), (), attributes).shape == truth.shape
