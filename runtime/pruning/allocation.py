"""How much goes of each group, so that a model costs no more than it may and its outputs suffer the least.

The sum of errors that groups cause one by one stands for what they cause together, as in SPDY (Frantar and Alistarh
2022, arXiv 2201.13096). Costs are a function of all groups, in which those of neighbours multiply.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from planish.passes.prune.unit_cost import Cost

Doubles = NDArray[np.float64]
_SWEEPS = 8
_DOUBLINGS = 40.0
_HALVINGS = 16


@dataclass(frozen=True, eq=False)
class Curve:
    """Of one group: the numbers of units that may go, 0 first, and the error that each causes, which never falls."""

    size: int
    gone: tuple[int, ...]
    errors: Doubles

    def __post_init__(self) -> None:
        if len(self.gone) != len(self.errors) or not self.gone or self.gone[0] != 0:
            raise ValueError(f"a curve begins with nothing gone: {self.gone} with {len(self.errors)} errors")


def allocate(curves: Mapping[str, Curve], cost: Cost, most: float) -> dict[str, int] | None:
    """How many units of each group go for the model to cost no more than `most`; None where it cannot.

    For a price of the cost, each group in turn takes what is best for the sum of error and priced cost, until none
    moves; the price is found by bisection.
    """
    if cost(_kept(curves, {})) <= most:
        return dict.fromkeys(curves, 0)
    last = {key: len(curve.gone) - 1 for key, curve in curves.items()}
    if cost(_kept(curves, last)) > most:
        return None
    steepest = max([float(curve.errors[-1]) for curve in curves.values()], default=0.0) or 1.0
    unit = steepest / cost(_kept(curves, {}))
    low, high = -_DOUBLINGS, _DOUBLINGS
    found: list[dict[str, int]] = [last]
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        chosen = _settled(curves, cost, unit * 2.0**middle)
        if cost(_kept(curves, chosen)) <= most:
            high = middle
            found.append(_exchanged(curves, cost, most, _refilled(curves, cost, most, chosen)))
        else:
            low = middle
    best = min(found, key=lambda places: _error(curves, places))
    return {key: curves[key].gone[place] for key, place in best.items()}


def _settled(curves: Mapping[str, Curve], cost: Cost, price: float) -> dict[str, int]:
    places = dict.fromkeys(curves, 0)
    for _ in range(_SWEEPS):
        before = dict(places)
        for key, curve in curves.items():
            totals = [
                float(curve.errors[place]) + price * cost(_kept(curves, {**places, key: place}))
                for place in range(len(curve.gone))
            ]
            places[key] = int(np.argmin(totals))
        if places == before:
            break
    return places


def _refilled(curves: Mapping[str, Curve], cost: Cost, most: float, places: Mapping[str, int]) -> dict[str, int]:
    """Give back, the largest error saved first, what there is room for."""
    found = dict(places)
    while True:
        saved: dict[str, float] = {}
        for key, curve in curves.items():
            place = found[key]
            if place and cost(_kept(curves, {**found, key: place - 1})) <= most:
                saved[key] = float(curve.errors[place] - curve.errors[place - 1])
        if not saved:
            return found
        found[max(saved, key=saved.__getitem__)] -= 1


def _exchanged(curves: Mapping[str, Curve], cost: Cost, most: float, places: Mapping[str, int]) -> dict[str, int]:
    """Give back a step of one group for the next steps of another, as long as that saves error."""
    found, moved = dict(places), True
    while moved:
        moved = False
        for back in [key for key, place in found.items() if place]:
            for key, curve in curves.items():
                trial = {**found, back: found[back] - 1}
                while (
                    key != back and trial[key] + 1 < len(curve.gone) and _error(curves, trial) < _error(curves, found)
                ):
                    if cost(_kept(curves, trial)) <= most:
                        break
                    trial[key] += 1
                if _error(curves, trial) < _error(curves, found) and cost(_kept(curves, trial)) <= most:
                    found, moved = trial, True
                    break
    return found


def _error(curves: Mapping[str, Curve], places: Mapping[str, int]) -> float:
    return sum(float(curves[key].errors[place]) for key, place in places.items())


def _kept(curves: Mapping[str, Curve], places: Mapping[str, int]) -> dict[str, int]:
    return {key: curve.size - curve.gone[places.get(key, 0)] for key, curve in curves.items()}
