"""Operators that work element by element fold to what ONNX Runtime computes."""

from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
import pytest

from planish.ir import DType
from planish.ir.ops.elementwise import OPERATORS as ELEMENTWISE
from planish.ir.ops.quantization import OPERATORS as QUANTIZATION
from tests.ir.ops.conftest import Case, Draw, Runtime, compare

FLOATS = tuple(np.dtype(name) for name in ("float32", "float64", "float16"))
INTEGERS = tuple(np.dtype(name) for name in ("int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64"))
BOOL = np.dtype(np.bool_)


def unary(draw: Draw) -> Iterable[Case]:
    for shape in ((37,), (3, 5), (0,), ()):
        yield (draw(*shape),), {}


def binary(draw: Draw) -> Iterable[Case]:
    for seed, (a, b) in enumerate(
        (((64,), (64,)), ((37,), (37,)), ((3, 1), (1, 4)), ((), (3,)), ((0,), (1,)), ((), ()))
    ):
        yield (draw(*a, seed=seed), draw(*b, seed=seed + 50)), {}


def attributed(**choices: Sequence[int | str]) -> Callable[[Draw], Iterable[Case]]:
    ((name, values),) = choices.items()
    return lambda draw: [(operands, {name: value}) for operands, _ in binary(draw) for value in values]


def is_inf(draw: Draw) -> Iterable[Case]:
    return [((draw(37),), {"detect_negative": n, "detect_positive": p}) for n in (0, 1) for p in (0, 1)]


def variadic(draw: Draw) -> Iterable[Case]:
    yield from binary(draw)
    yield (draw(5), draw(3, 1, seed=1), draw(seed=2)), {}


def clip(draw: Draw) -> Iterable[Case]:
    for seed in range(3):
        low, high = draw(seed=seed + 9), draw(seed=seed + 19)
        yield from (((draw(37, seed=seed), *bounds), {}) for bounds in ((low, high), (None, high), (low,), ()))


def casts(draw: Draw) -> Iterable[Case]:
    for target in (*FLOATS, *INTEGERS, BOOL):
        yield (draw(64), np.zeros(1, target)), {"to": int(DType.of(np.empty(0, target)))}
    if draw.dtype == np.float64:
        # Doubles that single precision rounds onto the middle between two half-precision numbers.
        ties = (1 + 2**-11 + 2**-30, 1 + 2**-11 - 2**-30, 65519.9999999, 2**-25 + 2**-60)
        yield (np.array(ties), np.zeros(1, np.float16)), {"to": int(DType.FLOAT16)}


def cast(draw: Draw) -> Iterable[Case]:
    return [(operands[:1], attributes) for operands, attributes in casts(draw)]


def cast_like(draw: Draw) -> Iterable[Case]:
    return [(operands, {}) for operands, _ in casts(draw)]


def where(draw: Draw) -> Iterable[Case]:
    yield (draw(3, 5, dtype=BOOL), draw(5), draw(3, 1, seed=1)), {}
    yield (draw(37, dtype=BOOL), draw(37), draw(37, seed=1)), {}


def quantize(draw: Draw) -> Iterable[Case]:
    for codes in (np.uint8, np.int8, np.uint16, np.int16):
        zero = draw(37, dtype=np.dtype(codes))
        single = np.dtype(np.float32)
        scales = np.abs(Draw(draw.dtype, "tame")(37))
        yield (draw(5, 37), scales[:1].reshape(()), zero[:1].reshape(())), {}
        yield (draw(5, 37), np.abs(draw(1, dtype=single)), zero[:1]), {}
        yield (draw(5, 37), scales, zero), {}
        yield (draw(5, 3, 7), scales[:3], zero[:3]), {"axis": -2}
        yield ((np.arange(-20, 20) / 4).astype(draw.dtype), np.array(0.5, draw.dtype), zero[:1].reshape(())), {}
    yield (draw(5, 37), np.array(0.25, draw.dtype)), {}


def dequantize(draw: Draw) -> Iterable[Case]:
    scales = Draw(np.dtype(np.float32), draw.kind)(37)
    for x, zero in ((draw(5, 37), draw(37, seed=1)), (draw(5, 37), None)):
        first = () if zero is None else (zero[:1].reshape(()),)
        yield (x, scales[:1].reshape(()), *first), {}
        yield (x, scales, *(() if zero is None else (zero,))), {}
        yield (x[:, :3], scales[:5], *(() if zero is None else (zero[:5],))), {"axis": 0}


_UNARY = "Abs Neg Sign Floor Ceil Round Sqrt Reciprocal Relu Not Exp Log Tanh Sigmoid Identity IsNaN"
_BINARY = "Add Sub Mul Div And Or Xor Equal Less LessOrEqual Greater GreaterOrEqual BitwiseAnd BitwiseOr BitwiseXor Pow"
CASES: Mapping[str, Callable[[Draw], Iterable[Case]]] = {
    **dict.fromkeys(_UNARY.split(), unary),
    **dict.fromkeys(_BINARY.split(), binary),
    **dict.fromkeys(["Max", "Min", "Sum"], variadic),
    "Mod": attributed(fmod=(0, 1)),
    "BitShift": attributed(direction=("LEFT", "RIGHT")),
    "IsInf": is_inf,
    "Clip": clip,
    "Cast": cast,
    "CastLike": cast_like,
    "Where": where,
    "QuantizeLinear": quantize,
    "DequantizeLinear": dequantize,
}


@pytest.mark.parametrize("op", CASES)
def test_fold(runtime: Runtime, op: str) -> None:
    compare(runtime, op, CASES[op])


def test_no_fold_is_left_out() -> None:
    families = ELEMENTWISE | QUANTIZATION
    assert {op for op, entry in families.items() if entry.fold is not None} == set(CASES)
