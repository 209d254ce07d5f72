"""How much goes of each group, so that a model costs no more than it may and its outputs suffer the least.

The sum of errors that groups cause one by one stands for what they cause together, as in SPDY (Frantar and Alistarh
2022, arXiv 2201.13096). Costs are a function of all groups, in which those of neighbours multiply.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from planish.passes.prune.unit_cost import Cost

Doubles = NDArray[np.float64]
Places = Mapping[str, int]
"""Of each group, how far along its curve it is."""
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


def allocate(
    curves: Mapping[str, Curve], cost: Cost, most: float, rivals: Mapping[str, Collection[str]] | None = None
) -> dict[str, int] | None:
    """How many units of each group go for the model to cost no more than `most`; None where it cannot.

    For a price of the cost, each group in turn takes what is best for the sum of error and priced cost, until none
    moves; the price is found by bisection. rivals: of a group, those that lose nothing where it loses some, each named
    by the other.
    """
    search = _Search(curves, cost, rivals or {})
    found = search.within(most)
    return None if found is None else {key: curves[key].gone[place] for key, place in found.items()}


@dataclass(frozen=True)
class _Search:
    curves: Mapping[str, Curve]
    cost: Cost
    rivals: Mapping[str, Collection[str]]

    def within(self, most: float) -> dict[str, int] | None:
        nothing = dict.fromkeys(self.curves, 0)
        if self.cost_of(nothing) <= most:
            return nothing
        last = self.cheapest()
        if self.cost_of(last) > most:
            return None
        steepest = max([float(curve.errors[-1]) for curve in self.curves.values()], default=0.0) or 1.0
        unit = steepest / self.cost_of(nothing)
        low, high = -_DOUBLINGS, _DOUBLINGS
        found: list[dict[str, int]] = [last]
        for _ in range(_HALVINGS):
            middle = (low + high) / 2
            chosen = self.settled(unit * 2.0**middle)
            if self.cost_of(chosen) <= most:
                high = middle
                found.append(self.exchanged(self.refilled(chosen, most), most))
            else:
                low = middle
        return min(found, key=self.error)

    def cheapest(self) -> dict[str, int]:
        """All that may go; of rivals what saves more."""
        places = dict.fromkeys(self.curves, 0)
        for key, curve in self.curves.items():
            trial = self.moved(places, key, len(curve.gone) - 1)
            if self.cost_of(trial) <= self.cost_of(places):
                places = trial
        return places

    def settled(self, price: float) -> dict[str, int]:
        places = dict.fromkeys(self.curves, 0)
        for _ in range(_SWEEPS):
            before = places
            for key, curve in self.curves.items():
                trials = [self.moved(places, key, place) for place in range(len(curve.gone))]
                totals = [self.error(trial) + price * self.cost_of(trial) for trial in trials]
                places = trials[int(np.argmin(totals))]
            if places == before:
                break
        return places

    def refilled(self, places: Places, most: float) -> dict[str, int]:
        """Give back, the largest error saved first, what there is room for."""
        found = dict(places)
        while True:
            saved: dict[str, float] = {}
            for key, curve in self.curves.items():
                place = found[key]
                if place and self.cost_of({**found, key: place - 1}) <= most:
                    saved[key] = float(curve.errors[place] - curve.errors[place - 1])
            if not saved:
                return found
            found[max(saved, key=saved.__getitem__)] -= 1

    def exchanged(self, places: Places, most: float) -> dict[str, int]:
        """Give back a step of one group for the next steps of another, as long as that saves error."""
        found, is_moved = dict(places), True
        while is_moved:
            is_moved = False
            for back in self.curves:
                for key in self.curves if found[back] else ():
                    trial = None if key == back else self.exchange(found, back, key, most)
                    if trial is not None:
                        found, is_moved = trial, True
                        break
        return found

    def exchange(self, places: Places, back: str, key: str, most: float) -> dict[str, int] | None:
        """A step back of one group, and as many steps of another as that takes; None where that saves no error."""
        trial, error = {**places, back: places[back] - 1}, self.error(places)
        while trial[key] + 1 < len(self.curves[key].gone) and self.error(trial) < error and self.cost_of(trial) > most:
            trial = self.moved(trial, key, trial[key] + 1)
        return trial if self.error(trial) < error and self.cost_of(trial) <= most else None

    def moved(self, places: Places, key: str, place: int) -> dict[str, int]:
        """With that place of a group; where it loses some, its rivals lose nothing."""
        rivals = [rival for rival in self.rivals.get(key, ()) if rival in self.curves]
        others = dict.fromkeys(rivals, 0) if place else {}
        return {**places, **others, key: place}

    def error(self, places: Places) -> float:
        return sum(float(self.curves[key].errors[place]) for key, place in places.items())

    def cost_of(self, places: Places) -> float:
        return self.cost({key: curve.size - curve.gone[places[key]] for key, curve in self.curves.items()})
