"""How much of what a graph costs may stay: multiply-accumulates or parameters, as passes that prune take them.

prune-channels{macs=0.7}
prune-blocks{params=0.8}
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from planish.ir import Expr, Graph
from planish.passes.errors import PipelineError
from planish.passes.prune.dependency import Group
from planish.passes.prune.selection import Step
from planish.passes.prune.unit_cost import Cost, UnitCost, mac_cost, parameter_cost
from planish.passes.run import Run

EXTENT = 128
"""What an extent that inputs leave open counts as."""
_NAMED = 3
_COSTS: Mapping[str, str] = {"macs": "multiply-accumulates", "params": "parameters"}


@dataclass(frozen=True)
class Budget:
    """part: of the cost, which may stay at most. extent: of what `open_extents` cannot tell."""

    option: Literal["macs", "params"]
    part: float
    extent: int = EXTENT

    def cost(self, graph: Graph, groups: Mapping[str, Group]) -> UnitCost:
        """What a graph costs by how many units of its groups, by their keys, are kept."""
        if self.option == "params":
            return parameter_cost(graph, groups)
        return mac_cost(graph, groups, open_extents(graph, self.extent))

    def whole(self, graph: Graph, run: Run) -> float:
        """What a graph costs as it is; nodes that do not count are noted.

        Raises PipelineError where nothing of it can be counted.
        """
        cost = self.cost(graph, {})
        found, left = cost({}), [node.label for node in cost.uncounted]
        if left and not found:
            raise PipelineError(
                f"{self} cannot be told: the shapes of {_listed(left)} are open; fix those of the inputs"
            )
        if left:
            run.note(f"{_listed(left)}: the shapes are open, so that {self.option} leaves what it computes out")
        return found

    def allows(self, cost: float, whole: float) -> bool:
        return whole == 0 or cost / whole <= self.part

    def missed(self, least: float, whole: float, held: Sequence[str]) -> PipelineError:
        """The error for a budget that all that may go does not get to. held: what keeps the rest."""
        stays = f"{least / whole:.3g} of the {_COSTS[self.option]} stay where all goes that may"
        why = f"; {_listed(held)}" if held else ""
        return PipelineError(f"{self} is out of reach: {stays}{why}")

    def __str__(self) -> str:
        return f"{self.option}={self.part:g}"


@dataclass(frozen=True)
class StepCosts:
    """What is left of a cost while units go, step by step."""

    cost: Cost
    groups: Mapping[str, Group]
    steps: Sequence[Step]

    def gone(self, count: int) -> list[float]:
        """How many units of each group so many steps take."""
        found = [0.0] * len(self.groups)
        for place, units in self.steps[:count]:
            found[place] = float(units)
        return found

    def left(self, count: int) -> float:
        """What a graph costs after so many steps."""
        pairs = zip(self.groups.items(), self.gone(count), strict=True)
        return self.cost({key: group.size - int(units) for (key, group), units in pairs})

    def fewest(self, fits: Callable[[float], bool]) -> int:
        """Steps after which the cost fits; one more than there are where it never does."""
        return bisect_left(range(len(self.steps) + 1), True, key=lambda count: fits(self.left(count)))


def check_amounts(name: str, amounts: Mapping[str, object], extent: int) -> None:
    """Raise PipelineError unless what a pass is told of how much goes is fit, and said once.

    amounts: all options that say it, None where one is not given.
    """
    asked = [option for option, amount in amounts.items() if amount is not None]
    if len(asked) > 1:
        raise PipelineError(f"{name} takes one of {', '.join(amounts)}, not {' and '.join(asked)} together")
    for option in _COSTS:
        part = amounts[option]
        if isinstance(part, float | int) and not 0 < part <= 1:
            raise PipelineError(f"{name} takes {option} above 0 and up to 1, not {part}")
    if extent < 1:
        raise PipelineError(f"{name} takes extent of at least 1, not {extent}")


def budget_of(macs: float | None, params: float | None, extent: int) -> Budget | None:
    if macs is not None:
        return Budget("macs", macs, extent)
    return None if params is None else Budget("params", params, extent)


def open_extents(graph: Graph, extent: int) -> dict[str, int]:
    """Extents for the symbols of a graph's inputs: 1 where they are of first axes alone, as batches are.

    A symbol that scales all nodes alike does not matter; a number of tokens or the side of a picture does.
    """
    found: dict[str, int] = {}
    for value in graph.inputs:
        for axis, dim in enumerate(value.shape or ()):
            for name in dim.symbols() if isinstance(dim, Expr) else ():
                found[name] = max(found.get(name, 1), 1 if axis == 0 and len(value.shape or ()) > 1 else extent)
    return found


def _listed(names: Sequence[str]) -> str:
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {more} more" if more > 0 else "")
