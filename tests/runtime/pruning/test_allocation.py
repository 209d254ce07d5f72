"""The allocation against all allocations there are, on curves and costs that are small enough to try them."""

from __future__ import annotations

import itertools
from collections.abc import Mapping

import numpy as np
import pytest

from planish.runtime.pruning.allocation import Curve, allocate

RNG = np.random.default_rng(0)


def curve(size: int, *errors: float) -> Curve:
    return Curve(size, tuple(range(len(errors))), np.array(errors, np.float64))


def chain(kept: Mapping[str, int]) -> float:
    """Costs of neighbours multiply."""
    counts = [3, *[kept[key] for key in sorted(kept)], 2]
    return float(sum(a * b for a, b in itertools.pairwise(counts)))


def best(curves: Mapping[str, Curve], most: float) -> float:
    """The least sum of errors, by trying all."""
    found = np.inf
    for gone in itertools.product(*[curve.gone for curve in curves.values()]):
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


def rivalled(kept: Mapping[str, int]) -> float:
    """Layers, of which each is a product of its heads and of their elements, beside a group of its own."""
    return float(sum(kept[f"heads{layer}"] * kept[f"elements{layer}"] + 4 * kept[f"inner{layer}"] for layer in "ab"))


RIVALS = {
    name: [rival] for layer in "ab" for name, rival in itertools.permutations((f"heads{layer}", f"elements{layer}"))
}


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("part", [0.8, 0.5, 0.35])
def test_heads_or_their_elements(seed: int, part: float) -> None:
    """Never both of a layer, and nearly as good as the best of all choices."""
    rng = np.random.default_rng(seed)
    curves = {
        f"{kind}{layer}": curve(4, *np.cumsum([0, *rng.exponential(size=3) * np.linspace(0.2, 2, 3)]))
        for layer in "ab"
        for kind in ("heads", "elements", "inner")
    }
    most = part * rivalled(dict.fromkeys(curves, 4))
    found = allocate(curves, rivalled, most, RIVALS)
    least = np.inf
    for gone in itertools.product(range(4), repeat=len(curves)):
        counts = dict(zip(curves, gone, strict=True))
        allowed = not any(counts[name] and counts[rival] for name, (rival,) in RIVALS.items())
        if allowed and rivalled({key: 4 - n for key, n in counts.items()}) <= most:
            least = min(least, sum(float(curves[key].errors[n]) for key, n in counts.items()))
    assert found is not None
    assert not any(found[name] and found[rival] for name, (rival,) in RIVALS.items())
    assert rivalled({key: 4 - n for key, n in found.items()}) <= most
    assert sum(float(curves[key].errors[n]) for key, n in found.items()) <= 1.5 * least


def test_rivals_cannot_be_had_together() -> None:
    """What both would save is more than either does."""
    curves = {name: curve(4, 0, 1, 2, 3) for name in ("headsa", "elementsa")}

    def cost(kept: Mapping[str, int]) -> float:
        return kept["headsa"] * kept["elementsa"]

    assert allocate(curves, cost, 3) is not None
    assert allocate(curves, cost, 3, RIVALS) is None
    assert allocate(curves, cost, 4, RIVALS) in ({"headsa": 3, "elementsa": 0}, {"headsa": 0, "elementsa": 3})


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
