"""How far noise lets results be off: as far as rounding may lead, in every float type, and no further."""

from __future__ import annotations

import numpy as np
import pytest

from planish.ir import DType
from tests.equivalence import Feeds, model, run
from tests.fuzz.noise import Noise, allowed, allowed_to_kernels
from tests.hostile import Limits

RUNS = 64
FLOATS = (DType.FLOAT, DType.DOUBLE, DType.FLOAT16)
x = np.array([1.0, 3.0, -0.1, 700.0])


def steps_allowed(body: str, dtype: DType) -> list[float]:
    """How many steps of the last bit of 1 each element of a result may be off, the model being of x and x again."""
    name = dtype.name.lower()
    proto = model(f"agraph ({name}[4] x, {name}[4] y) => ({name}[4] z) {{ {body} }}", opset=21)
    fed = x.astype(dtype.numpy)
    feeds: Feeds = {"x": fed, "y": fed}
    bounds = allowed(run(proto, feeds), list(Noise(proto).runs(feeds, RUNS)))[0]
    assert bounds is not None
    return [float(bound) / Limits.of(dtype).epsilon for bound in bounds]


@pytest.mark.parametrize("dtype", FLOATS, ids=lambda dtype: dtype.name)
def test_what_cancels_is_off_by_its_terms(dtype: DType) -> None:
    for found, term in zip(steps_allowed("d = Sub(x, y) z = Neg(d)", dtype), np.abs(x), strict=True):
        assert 4 * term <= found <= 100 * term


@pytest.mark.parametrize("dtype", FLOATS, ids=lambda dtype: dtype.name)
def test_what_does_not_cancel_is_off_by_itself(dtype: DType) -> None:
    for found, term in zip(steps_allowed("s = Add(x, y) z = Neg(s)", dtype), np.abs(x), strict=True):
        assert 16 * term <= found <= 200 * term


def test_an_error_of_a_thousandth_is_not_allowed() -> None:
    steps = np.array(steps_allowed("s = Mul(x, y) z = Neg(s)", DType.FLOAT))
    assert np.all(steps * Limits.of(DType.FLOAT).epsilon < 1e-4 * x**2)


def test_zero_stays_zero() -> None:
    found = steps_allowed("n = Neg(x) m = Relu(n) p = Relu(x) z = Mul(m, p)", DType.DOUBLE)
    assert max(found) < 1e-200


def test_near_one_a_logarithm_is_off_by_the_last_bit_of_one() -> None:
    found = steps_allowed("o = Div(x, y) l = Log(o) z = Identity(l)", DType.DOUBLE)
    assert all(4 <= bound <= 200 for bound in found)


@pytest.mark.parametrize("op", ["Sigmoid", "Swish"])
def test_a_kernel_is_off_by_the_last_bit_of_one(op: str) -> None:
    """Also where another model has no such kernel."""
    proto = model(f"agraph (float[4] x) => (float[4] z) {{ s = {op}(x) z = Neg(s) }}", opset=24)
    feeds: Feeds = {"x": np.array([-12.0, -3.0, 0.0, 5.0], np.float32)}
    bounds = allowed_to_kernels(proto, feeds, run(proto, feeds), RUNS)[0]
    assert bounds is not None
    sizes = np.abs(feeds["x"]) if op == "Swish" else np.ones(4)
    assert np.all(bounds <= 200 * Limits.of(DType.FLOAT).epsilon * np.maximum(sizes, 1e-3))
    assert bounds[0] >= 4 * Limits.of(DType.FLOAT).epsilon


def test_other_kernels_are_off_by_their_results() -> None:
    proto = model("agraph (float[4] x) => (float[4] z) { s = Exp(x) z = Neg(s) }", opset=21)
    feeds: Feeds = {"x": np.array([-12.0, -3.0, 0.0, 5.0], np.float32)}
    plain = run(proto, feeds)
    bounds = allowed_to_kernels(proto, feeds, plain, RUNS)[0]
    assert bounds is not None
    assert np.all(bounds <= 20 * Limits.of(DType.FLOAT).epsilon * np.abs(np.asarray(plain[0], np.float64)))


def test_a_normalization_of_what_is_all_alike_is_off_by_its_terms() -> None:
    """It takes a bias that is small beside the mean over the deviation, and adds the product of both again."""
    proto = model(
        """agraph (float[1,1,4] x) => (float[1,1,4] z) <float[1] w = {2.5}, float[1] b = {1}>
        { z = InstanceNormalization(x, w, b) }""",
        opset=21,
    )
    feeds: Feeds = {"x": np.full((1, 1, 4), 2.5, np.float32)}
    bounds = allowed_to_kernels(proto, feeds, run(proto, feeds), RUNS)[0]
    assert bounds is not None
    term = 2.5 * 2.5 / np.sqrt(1e-5)
    assert np.all(bounds >= term * Limits.of(DType.FLOAT).epsilon)
    assert np.all(bounds <= 200 * term * Limits.of(DType.FLOAT).epsilon)
