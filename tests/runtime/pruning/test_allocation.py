"""The allocation against all allocations there are, on curves and costs that are small enough to try them."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise, product

import numpy as np
import pytest

from planish.runtime.pruning.allocation import Curve, allocate

RNG = np.random.default_rng(0)


def curve(size: int, *errors: float) -> Curve:
    return Curve(size, tuple(range(len(errors))), np.array(errors, np.float64))


def chain(kept: Mapping[str, int]) -> float:
    """Costs of neighbours multiply."""
    counts = [3, *[kept[key] for key in sorted(kept)], 2]
    return float(sum(a * b for a, b in pairwise(counts)))


def best(curves: Mapping[str, Curve], most: float) -> float:
    """The least sum of errors, by trying all."""
    found = np.inf
    for gone in product(*[curve.gone for curve in curves.values()]):
        kept = {key: curve.size - n for (key, curve), n in zip(curves.items(), gone, strict=True)}
        if chain(kept) <= most:
            found = min(found, sum(float(c.errors[n]) for c, n in zip(curves.values(), gone, strict=True)))
    return found


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("part", [0.8, 0.5, 0.3])
def test_nearly_the_best_there_is(seed: int, part: float) -> None:
    rng = np.random.default_rng(seed)
    curves = {key: curve(8, *np.cumsum(rng.exponential(size=8) * np.linspace(0, 2, 8))) for key in "abcd"}
    most = part * chain(dict.fromkeys(curves, 8))
    found = allocate(curves, chain, most)
    assert found is not None
    assert chain({key: 8 - n for key, n in found.items()}) <= most
    error = sum(float(curves[key].errors[n]) for key, n in found.items())
    assert error <= 1.5 * best(curves, most)


def test_what_is_free_goes_and_what_hurts_stays() -> None:
    curves = {"free": curve(8, *[0.0] * 8), "dear": curve(8, 0, *[1e9] * 7)}
    found = allocate(curves, lambda kept: kept["free"] + kept["dear"], 12)
    assert found == {"free": 4, "dear": 0}


def test_what_cannot_be_had_and_what_need_not_be_done() -> None:
    curves = {"a": curve(4, 0, 1, 2, 3)}
    assert allocate(curves, lambda kept: kept["a"], 0.5) is None
    assert allocate(curves, lambda kept: kept["a"], 4) == {"a": 0}
    assert allocate({}, lambda _: 1.0, 0.5) is None
    assert allocate({}, lambda _: 1.0, 1.0) == {}


@pytest.mark.parametrize("scale", [1e-12, 1e12])
def test_scales_do_not_matter(scale: float) -> None:
    curves = {key: curve(8, *(scale * np.arange(8.0) ** 2 * (1 + place))) for place, key in enumerate("ab")}
    plain = {key: curve(8, *(np.arange(8.0) ** 2 * (1 + place))) for place, key in enumerate("ab")}
    assert allocate(curves, chain, 60) == allocate(plain, chain, 60)


def test_steps() -> None:
    """Only what a curve holds may go."""
    curves = {"a": Curve(64, (0, 16, 32, 48), np.arange(4.0)), "b": Curve(64, (0, 32), np.array([0, 9.0]))}
    found = allocate(curves, lambda kept: kept["a"] + kept["b"], 70)
    assert found == {"a": 32, "b": 32}


@pytest.mark.parametrize(("gone", "errors"), [((), []), ((1, 2), [0.0, 1.0]), ((0, 1), [0.0])])
def test_no_curve(gone: tuple[int, ...], errors: list[float]) -> None:
    with pytest.raises(ValueError, match="nothing gone"):
        Curve(8, gone, np.array(errors))
