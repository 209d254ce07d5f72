"""Extents of convolutions, poolings and resizings beside those that ONNX Runtime gives, static and symbolic."""

from collections.abc import Iterable, Mapping, Sequence
from random import Random
from typing import TypeAlias

import numpy as np
import pytest

from planish.ir import Builder, DType, GraphError, TensorType, constant
from planish.ir.dim import Dim, symbol
from planish.ir.types import Array
from planish.runtime.errors import SessionError
from tests.ir.ops.conftest import Attributes, Runtime

Attribute: TypeAlias = int | str | tuple[int, ...]
TRIALS = 300


def window(random: Random, axes: int, *, dilated: bool = True) -> dict[str, Attribute]:
    """Strides, dilations and padding of either kind; some are left to their defaults."""
    found: dict[str, Attribute] = {}
    if random.random() < 0.8:
        found["strides"] = tuple(random.randint(1, 4) for _ in range(axes))
    if dilated and random.random() < 0.5:
        found["dilations"] = tuple(random.randint(1, 3) for _ in range(axes))
    choice = random.random()
    if choice < 0.5:
        found["pads"] = tuple(random.randint(0, 2) for _ in range(2 * axes))
    elif choice < 0.8:
        found["auto_pad"] = random.choice(("SAME_UPPER", "SAME_LOWER", "VALID"))
    return found


def inferred(op: str, shape: Sequence[Dim], others: Iterable[Array | None], attributes: Mapping[str, Attribute]) -> TensorType:
    b = Builder(opset=22)
    dtype = DType.UINT8 if op == "ConvInteger" else DType.FLOAT
    x = b.input("x", dtype, tuple(shape))
    operands = [None if other is None else constant(other) for other in others]
    type = b.node(op, (x, *operands), attributes).tensor_type
    assert type is not None
    return type


def check(
    runtime: Runtime, op: str, shape: tuple[int, ...], others: Sequence[Array | None], attributes: dict[str, Attribute]
) -> bool | None:
    """Whether every extent is known where it is symbolic; None when ONNX Runtime refuses the node."""
    x = np.zeros(shape, np.uint8 if op == "ConvInteger" else np.float32)
    given: Attributes = dict(attributes)
    try:
        results = runtime.run(op, (x, *others), given, 1)
    except SessionError:
        results = None
    if results is None:
        return None
    truth = results[0]
    assert isinstance(truth, np.ndarray)
    static = inferred(op, shape, others, attributes)
    assert static.dtype is DType.of(truth)
    assert static.shape is not None
    pairs = zip(static.shape, truth.shape, strict=True)
    assert all(dim == extent for dim, extent in pairs if isinstance(dim, int)), (static, truth.shape, shape, attributes)
    symbols = tuple(symbol(f"d{axis}") for axis in range(len(shape)))
    free = tuple(symbols[axis] if axis != 1 else shape[1] for axis in range(len(shape)))
    binding = {f"d{axis}": extent for axis, extent in enumerate(shape)}
    bound = [
        dim if isinstance(dim, int) else dim.substitute(binding)
        for dim in inferred(op, free, others, attributes).shape or ()
    ]
    if (attributes.get("kernel_shape") or others) and fits(shape, others, attributes):
        pairs = zip(bound, truth.shape, strict=True)
        assert all(dim == extent for dim, extent in pairs if isinstance(dim, int)), (bound, truth.shape, shape, attributes)
    return all(isinstance(dim, int) for dim in bound)
