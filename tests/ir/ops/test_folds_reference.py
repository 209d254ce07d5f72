"""Operators that onnx's reference evaluator may fold are those on which it agrees with ONNX Runtime."""

from collections.abc import Callable, Iterable, Mapping

import numpy as np
import pytest

from planish.ir.ops import reference
from planish.ir.ops.table import lookup
from tests.ir.ops.conftest import Case, Draw, Runtime, compare


def unary(draw: Draw) -> Iterable[Case]:
    return [((draw(*shape),), {}) for shape in ((37,), (3, 5), (2, 3, 4))]


def compress(draw: Draw) -> Iterable[Case]:
    kept = np.array([True, False, True])
    return [((draw(5, 3), kept), {}), ((draw(5, 3), kept), {"axis": 0}), ((draw(5, 3), kept), {"axis": -1})]


def blocks(draw: Draw) -> Iterable[Case]:
    yield (draw(2, 8, 2, 4),), {"blocksize": 2}


def modes_of_blocks(draw: Draw) -> Iterable[Case]:
    return [((draw(2, 8, 2, 3),), {"blocksize": 2, "mode": mode}) for mode in ("DCR", "CRD")]


def reverse_sequence(draw: Draw) -> Iterable[Case]:
    lengths = np.array([4, 2, 1], np.int64)
    yield (draw(4, 3), lengths), {}
    yield (draw(3, 4, 2), lengths), {"batch_axis": 0, "time_axis": 1}


def crop(draw: Draw) -> Iterable[Case]:
    yield (draw(5, 6), np.array([3, 9], np.int64)), {}
    yield (draw(5, 6), np.array([8], np.int64)), {"axes": (-1,)}


def integer_matmul(draw: Draw) -> Iterable[Case]:
    if draw.dtype.kind in "iu" and draw.dtype.itemsize == 1:
        for other in ("uint8", "int8"):
            a, b = draw(3, 4), draw(4, 5, dtype=np.dtype(other), seed=1)
            yield (a, b), {}
            yield (a, b, draw(seed=2), draw(seed=3, dtype=np.dtype(other))), {}


def integer_conv(draw: Draw) -> Iterable[Case]:
    if draw.dtype.kind in "iu" and draw.dtype.itemsize == 1:
        x, w = draw(1, 2, 5, 5), draw(3, 2, 3, 3, dtype=np.dtype("uint8"), seed=1)
        zero = draw(seed=3, dtype=np.dtype("uint8"))
        yield (x, w, draw(seed=2), zero), {"pads": (1, 0, 0, 1), "strides": (2, 1)}
        yield (x, w), {"dilations": (2, 1)}


def softmax(draw: Draw) -> Iterable[Case]:
    return [((draw(3, 4, 5),), {"axis": axis}) for axis in (-1, 0, 1)]


def einsum(draw: Draw) -> Iterable[Case]:
    yield (Draw(draw.dtype, "tame")(3, 4), Draw(draw.dtype, "tame")(4, 2)), {"equation": "ij,jk->ik"}


def window(_: Draw) -> Iterable[Case]:
    return [((np.array(size, np.int64),), {"periodic": periodic}) for size in (9, 16) for periodic in (0, 1)]


def mel(_: Draw) -> Iterable[Case]:
    counts = [np.array(count, np.int64) for count in (8, 16, 8192)]
    yield (*counts, np.array(0, np.float32), np.array(4096, np.float32)), {}


_UNARY = (
    "Acos Acosh Asin Asinh Atan Atanh BitwiseNot Celu Cos Cosh Elu Erf HardSigmoid HardSwish LeakyRelu NonZero "
    "Selu Sin Sinh Softplus Softsign Tan ThresholdedRelu"
)
CASES: Mapping[str, Callable[[Draw], Iterable[Case]]] = {
    **dict.fromkeys(_UNARY.split(), unary),
    **dict.fromkeys(["BlackmanWindow", "HammingWindow", "HannWindow"], window),
    "CenterCropPad": crop,
    "Compress": compress,
    "ConvInteger": integer_conv,
    "DepthToSpace": modes_of_blocks,
    "Einsum": einsum,
    "MatMulInteger": integer_matmul,
    "MelWeightMatrix": mel,
    "ReverseSequence": reverse_sequence,
    "Softmax": softmax,
    "SpaceToDepth": blocks,
}


@pytest.mark.parametrize("op", CASES)
def test_fold(runtime: Runtime, op: str) -> None:
    assert lookup(op).fold is None
    assert reference.agreement(op) is not None
    compare(runtime, op, CASES[op])
