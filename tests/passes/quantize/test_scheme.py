"""Codes are those of exact arithmetic, of ONNX's reference, and of ONNX Runtime."""

from collections.abc import Iterable
from dataclasses import replace
from fractions import Fraction
from functools import cache

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx.checker import check_model  # pyright: ignore[reportUnknownVariableType]  os.PathLike of anything
from onnx.reference import ReferenceEvaluator

from planish import ir
from planish.ir import DType
from planish.passes.quantize.scheme import Floats, Parameters, Scheme, dequantize, parameters, quantize
from planish.runtime.session import Session
from tests.equivalence import PLAIN
from tests.hostile import Kind, hostile

Array = NDArray[np.generic]

INTEGERS = (*(DType.INT2, DType.UINT2, DType.INT4, DType.UINT4), *(DType.INT8, DType.UINT8, DType.INT16, DType.UINT16))
EIGHT_BIT_FLOATS = (DType.FLOAT8E4M3FN, DType.FLOAT8E5M2)
PLAIN_SCHEMES = (
    *(Scheme(dtype, symmetric) for dtype in INTEGERS for symmetric in (True, False)),
    *(Scheme(dtype, symmetric=True) for dtype in EIGHT_BIT_FLOATS),
)
SCHEMES = (
    *PLAIN_SCHEMES,
    *(replace(scheme, narrow=True) for scheme in PLAIN_SCHEMES if not scheme.dtype.is_float),
    *(replace(scheme, power_of_two=True) for scheme in PLAIN_SCHEMES),
)
SHARED = ((None, 0), (0, 0), (1, 0), (-1, 0), (0, 2), (1, 3), (1, 4), (-2, 9))
"""Axes and blocks; of the tensor [5, 7], blocks that do not divide it, and one that is longer than it."""
LARGEST = float(np.finfo(np.float32).max)
TINY = float(np.finfo(np.float32).tiny)
SUBNORMAL = float(np.finfo(np.float32).smallest_subnormal)
BEYOND_INT32 = 2.0**31
"""From here on a quotient x / scale is INT_MIN to ONNX Runtime's kernels for axes and for 2 bits, and to numpy."""

numbers = st.floats(width=32, allow_nan=False)
finite = st.floats(width=32, allow_nan=False, allow_infinity=False)
schemes = st.sampled_from(SCHEMES)


def name(scheme: Scheme) -> str:
    marks = ["symmetric"] * scheme.symmetric + ["narrow"] * scheme.narrow + ["shift"] * scheme.power_of_two
    return " ".join([scheme.dtype.name.lower(), *marks])


def singles(values: Iterable[float]) -> Floats:
    return np.clip(list(values), -LARGEST, LARGEST).astype(np.float32)


def tensor(shape: tuple[int, ...], kind: Kind, seed: int = 0) -> Floats:
    return hostile(DType.FLOAT, shape, kind, seed).astype(np.float32)


def ranged(scheme: Scheme, x: Array) -> Parameters:
    return parameters(scheme, scheme.reduce(np.minimum, x), scheme.reduce(np.maximum, x))


@cache
def floats_of(dtype: DType) -> tuple[tuple[Fraction, int], ...]:
    """Every finite number of a type of 8 bits, and its bits."""
    values = np.arange(256, dtype=np.uint8).view(dtype.numpy).astype(np.float64).tolist()
    return tuple((Fraction(value), bits) for bits, value in enumerate(values) if np.isfinite(value))


def exact_code(x: float, scale: float, zero_point: int, scheme: Scheme) -> int | float:
    """The quotient is rounded to float32, as operators divide; of normal numbers, by way of double, that is exact."""
    least, largest = scheme.limits
    if np.isinf(x):
        return largest if x > 0 else least
    ratio = float(Fraction(x) / Fraction(scale))
    quotient = Fraction(float(np.float32(ratio))) if abs(ratio) <= LARGEST else Fraction(ratio)
    if not scheme.dtype.is_float:
        return int(min(max(round(quotient) + zero_point, least), largest))
    saturated = min(max(quotient, Fraction(least)), Fraction(largest))
    return float(min(floats_of(scheme.dtype), key=lambda each: (abs(each[0] - saturated), each[1] % 2))[0])


@settings(max_examples=150)
@given(schemes, finite, finite, st.lists(numbers, min_size=1, max_size=8))
@example(Scheme(DType.INT8, symmetric=True), -1.0, 1.0, [0.5 / 127, 1.5 / 127, -0.0, np.inf, -np.inf, SUBNORMAL])
@example(Scheme(DType.UINT2, symmetric=False), -LARGEST, LARGEST, [LARGEST, -LARGEST])
@example(Scheme(DType.UINT16, symmetric=False), 0.0, SUBNORMAL, [SUBNORMAL, 1.0, -LARGEST])
def test_codes_are_those_of_exact_arithmetic(scheme: Scheme, low: float, high: float, values: list[float]) -> None:
    low, high = min(low, high), max(low, high)
    if scheme.power_of_two:
        low, high = np.clip([low, high], -(2.0**127), 2.0**127).tolist()
    chosen = parameters(scheme, low, high)
    scale, zero_point = float(chosen.scale), int(chosen.zero_point.astype(np.float32))
    ends = [*values, *singles([low, high, scale / 2, scale * 1.5, -scale * 2.5]).tolist()]
    codes = quantize(np.array(ends, np.float32), chosen)
    assert DType.of(codes) is scheme.dtype
    expected = [exact_code(x, scale, zero_point, scheme) for x in ends]
    assert codes.astype(np.float64).tolist() == expected
    reals = [float(np.float32(float((Fraction(code) - zero_point) * Fraction(scale)))) for code in expected]
    assert dequantize(codes, chosen).tolist() == reals


@given(schemes, finite, finite, st.floats(0, 1))
@example(Scheme(DType.INT2, symmetric=True), -1.0, 0.0, 1.0)
@example(Scheme(DType.INT4, symmetric=False), 3.0, 3.0, 0.5)
@example(Scheme(DType.INT4, symmetric=False), SUBNORMAL, SUBNORMAL, 0.5)
def test_ranges_are_held_and_zero_is_exact(scheme: Scheme, low: float, high: float, part: float) -> None:
    low, high = min(low, high), max(low, high)
    if scheme.power_of_two:
        low, high = np.clip([low, high], -(2.0**127), 2.0**127).tolist()
    chosen = parameters(scheme, low, high)
    scale = float(chosen.scale)
    assert chosen.scale.dtype == np.float32
    assert DType.of(chosen.zero_point) is scheme.dtype
    assert scale >= TINY
    assert np.isfinite(scale)
    inside = singles([0.0, -0.0, low, high, low * (1 - part) + high * part])
    reals = dequantize(quantize(inside, chosen), chosen).astype(np.float64)
    assert np.isfinite(reals).all()
    assert reals[:2].tolist() == [0, 0]
    if scheme.dtype.is_float:
        step = 2.0 ** (-4 if scheme.dtype is DType.FLOAT8E4M3FN else -3)
        assert (np.abs(reals - inside) <= step * np.abs(inside) * 1.0001 + 2.0**-10 * scale).all()
    else:
        reach = 0.5 if scheme.symmetric else 1.0
        assert (np.abs(reals - inside) <= reach * scale * 1.0001).all()


@given(st.sampled_from([s for s in SCHEMES if s.power_of_two]), finite, finite)
def test_a_power_of_two_is_the_smallest_that_holds_the_range(scheme: Scheme, low: float, high: float) -> None:
    low, high = np.clip([min(low, high, 0.0), max(low, high, 0.0)], -(2.0**127), 2.0**127).tolist()
    scale = float(parameters(scheme, low, high).scale)
    least, largest = scheme.limits

    def holds(step: Fraction) -> bool:
        if not scheme.symmetric:
            return Fraction(high) - Fraction(low) <= step * Fraction(largest - least)
        middle = Fraction(scheme.middle)
        return (Fraction(least) - middle) * step <= Fraction(low) and Fraction(high) <= (largest - middle) * step

    assert np.frexp(scale)[0] == 0.5
    assert holds(Fraction(scale))
    assert low == high or scale == TINY or not holds(Fraction(scale) / 2)


@pytest.mark.parametrize("scheme", PLAIN_SCHEMES, ids=name)
def test_an_empty_range_has_scale_one(scheme: Scheme) -> None:
    chosen = parameters(scheme, 0.0, 0.0)
    assert chosen.scale == 1
    assert dequantize(quantize(np.zeros(3, np.float32), chosen), chosen).tolist() == [0, 0, 0]


def test_scales_and_zero_points_that_are_known() -> None:
    relu = parameters(Scheme(DType.UINT8, symmetric=False), 0.0, 6.0)
    assert (float(relu.scale), int(relu.zero_point)) == (float(np.float32(6 / 255)), 0)
    signed = parameters(Scheme(DType.INT8, symmetric=False), 0.0, 6.0)
    assert int(signed.zero_point) == -128
    assert int(parameters(Scheme(DType.UINT8, symmetric=True), -1.0, 0.5).zero_point) == 128
    assert float(parameters(Scheme(DType.INT8, symmetric=True), -1.0, 0.5).scale) == 1 / 128
    assert float(parameters(Scheme(DType.INT8, symmetric=True, narrow=True), -1.0, 0.5).scale) == np.float32(1 / 127)
    assert float(parameters(Scheme(DType.FLOAT8E4M3FN, symmetric=True), -7.0, 0.0).scale) == 7 / 448
    assert float(parameters(Scheme(DType.INT8, symmetric=True, power_of_two=True), -0.3, 0.25).scale) == 2**-8


def test_narrow_leaves_out_the_lowest_code() -> None:
    chosen = parameters(Scheme(DType.INT4, symmetric=True, narrow=True), -7.0, 7.0)
    assert quantize(singles([-9, -7, 7, 9]), chosen).astype(int).tolist() == [-7, -7, 7, 7]


BROKEN = {
    "NaN": (Scheme(DType.INT8, symmetric=True), np.nan, 1.0, "not finite"),
    "infinity": (Scheme(DType.INT8, symmetric=True), 0.0, np.inf, "not finite"),
    "turned around": (Scheme(DType.INT8, symmetric=True), 1.0, -1.0, "turned around"),
    "double": (Scheme(DType.INT8, symmetric=True), 0.0, 1e300, "beyond float32"),
    "shift": (Scheme(DType.INT8, symmetric=True, power_of_two=True), 0.0, 3e38, "beyond 2\\^127"),
    "shapes": (Scheme(DType.INT8, symmetric=True), np.zeros(2), np.ones(3), "one shape"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_broken_ranges_are_refused(case: str) -> None:
    scheme, low, high, message = BROKEN[case]
    with pytest.raises(ValueError, match=message):
        parameters(scheme, low, high)


def test_schemes_that_mean_nothing_are_refused() -> None:
    with pytest.raises(ValueError, match="no scheme quantizes to float16"):
        Scheme(DType.FLOAT16, symmetric=True)
    with pytest.raises(ValueError, match="symmetric, not narrow"):
        Scheme(DType.FLOAT8E5M2, symmetric=False)
    with pytest.raises(ValueError, match="need an axis"):
        Scheme(DType.INT4, symmetric=True, block=32)
    with pytest.raises(ValueError, match="no axis 2"):
        Scheme(DType.INT4, symmetric=True, axis=2).shape((3, 4))
    chosen = Parameters(np.ones(3, np.float32), np.zeros(3, np.int8), Scheme(DType.INT8, symmetric=True, axis=0))
    with pytest.raises(ValueError, match=r"parameters of shape \(4,\)"):
        quantize(np.zeros((4, 3), np.float32), chosen)


def test_nan_has_no_integer_code() -> None:
    with pytest.raises(ValueError, match="NaN has no code of type int4"):
        quantize(np.array([1, np.nan], np.float32), parameters(Scheme(DType.INT4, symmetric=True), -1.0, 1.0))
    kept = quantize(np.array([1, np.nan], np.float32), parameters(Scheme(DType.FLOAT8E5M2, symmetric=True), -1.0, 1.0))
    assert np.isnan(kept.astype(np.float32)).tolist() == [False, True]


@pytest.mark.parametrize("shape", [(0, 7), (5, 0), (0, 0), (1, 1), (5, 7)])
@pytest.mark.parametrize(("axis", "block"), SHARED)
def test_parameters_have_the_shape_of_the_operators(axis: int | None, block: int, shape: tuple[int, int]) -> None:
    scheme = Scheme(DType.INT8, symmetric=True, axis=axis, block=block)
    x = tensor(shape, "ordinary")
    chosen = ranged(scheme, x)
    if axis is None:
        expected: tuple[int, ...] = ()
    elif not block:
        expected = (shape[axis],)
    else:
        expected = tuple(-(-extent // block) if i == axis % 2 else extent for i, extent in enumerate(shape))
    assert chosen.scale.shape == chosen.zero_point.shape == scheme.shape(shape) == expected
    assert quantize(x, chosen).shape == shape


@pytest.mark.parametrize(("axis", "block"), SHARED)
def test_each_group_is_quantized_by_itself(axis: int | None, block: int) -> None:
    scheme = Scheme(DType.UINT4, symmetric=False, axis=axis, block=block)
    x = tensor((5, 7), "extreme")
    together = dequantize(quantize(x, ranged(scheme, x)), ranged(scheme, x))
    alone = Scheme(DType.UINT4, symmetric=False)
    groups = scheme.spread(np.arange(int(np.prod(scheme.shape(x.shape)))).reshape(scheme.shape(x.shape)), x.shape)
    groups = np.broadcast_to(groups, x.shape)
    for group in np.unique(groups):
        part = x[groups == group]
        chosen = ranged(alone, part)
        assert together[groups == group].tolist() == dequantize(quantize(part, chosen), chosen).tolist()


def reference(model: bytes, x: Floats) -> Iterable[object]:
    return ReferenceEvaluator(model).run(None, {"x": x})  # pyright: ignore[reportUnknownMemberType]  dicts of Any


def emitted(x: Floats, chosen: Parameters, opset: int) -> bytes:
    """x -> Q -> DQ, and the weight x as codes -> DQ, checked."""
    scheme = chosen.scheme
    b = ir.Builder(opset=opset)
    attributes = ({} if scheme.axis is None else {"axis": scheme.axis}) | (
        {"block_size": scheme.block} if scheme.block else {}
    )
    given_x = b.input("x", DType.FLOAT, x.shape)
    both = b.constant(chosen.scale), b.constant(chosen.zero_point)
    codes = b.node("QuantizeLinear", (given_x, *both), attributes)
    b.output("y", b.node("DequantizeLinear", (codes, *both), attributes))
    b.output("w", b.node("DequantizeLinear", (b.constant(quantize(x, chosen)), *both), attributes))
    model = ir.emit(b.graph())
    check_model(model, full_check=True)
    return model.SerializeToString()


@pytest.mark.parametrize("scheme", PLAIN_SCHEMES, ids=name)
@pytest.mark.parametrize(("axis", "block"), SHARED)
def test_codes_are_those_of_the_reference_and_of_onnx_runtime(scheme: Scheme, axis: int | None, block: int) -> None:
    scheme = replace(scheme, axis=axis, block=block)
    x = tensor((5, 7), "ordinary", seed=scheme.dtype)
    x[2] = 0
    chosen = ranged(scheme, x / 2)
    ends = singles([TINY, SUBNORMAL, -0.0, 0.5, -0.5, 2.5, -2.5, 1e3, -1e3])
    x.ravel()[: len(ends)] = ends
    expected = dequantize(quantize(x, chosen), chosen)
    assert (np.abs(x / scheme.spread(chosen.scale, x.shape)) < BEYOND_INT32).all()
    runs = reference(emitted(x, chosen, 25), x), Session(emitted(x, chosen, scheme.opset), PLAIN).run({"x": x})
    for y in (y for run in runs for y in run):
        np.testing.assert_array_equal(np.asarray(y), expected)
