"""How much of what a graph costs may stay: multiply-accumulates, parameters or time, as passes that prune take it.

prune-channels{macs=0.7}
prune-blocks{params=0.8}
prune-heads{latency=0.9,times=operator-times.json}
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from planish.ir import Expr, Graph
from planish.passes.errors import PipelineError
from planish.passes.prune.dependency import Group
from planish.passes.prune.graph_times import GraphTimes
from planish.passes.prune.operator_table import OperatorTable
from planish.passes.prune.selection import Step
from planish.passes.prune.unit_cost import UnitCost, mac_cost, parameter_cost
from planish.passes.run import Run

EXTENT = 128
"""What an extent that inputs leave open counts as."""
_NAMED = 3
_COSTS: Mapping[str, str] = {"macs": "multiply-accumulates", "params": "parameters", "latency": "time"}


@dataclass(frozen=True)
class Budget:
    """option: macs, params or latency. part: of the cost, which may stay at most. extent: see `open_extents`."""

    option: str
    part: float
    extent: int = EXTENT
    times: OperatorTable | None = None

    def cost(self, graph: Graph, groups: Mapping[str, Group]) -> UnitCost | GraphTimes:
        """What a graph costs by how many units of its groups, by their keys, are kept.

        Raises PipelineError where times are to decide and are not given.
        """
        if self.option == "params":
            return parameter_cost(graph, groups)
        extents = open_extents(graph, self.extent)
        if self.option == "macs":
            return mac_cost(graph, groups, extents)
        if self.times is None:
            raise PipelineError(f"{self} takes times, which `planish profile-target MODEL --pipeline` measures")
        return GraphTimes(graph, groups, extents, self.times)

    def whole(self, cost: UnitCost | GraphTimes, run: Run) -> float:
        """What a graph costs as it is; nodes that do not count are noted.

        Raises PipelineError where nothing of it can be counted.
        """
        found, left = cost({}), [node.label for node in cost.uncounted]
        why = "shapes are open" if self.option == "macs" else "shapes are open, or numbers no 32-bit floats"
        if left and not found:
            raise PipelineError(f"{self} cannot be told: of {_listed(left)} the {why}")
        if left:
            run.note(f"{_listed(left)}: the {why}, so that it does not count in {self}")
        return found

    def allows(self, cost: float, whole: float) -> bool:
        return whole == 0 or cost / whole <= self.part

    def missed(self, least: float, whole: float, held: Sequence[str]) -> PipelineError:
        """The error for a budget that all that may go does not get to. held: what keeps the rest."""
        stays = f"{least / whole:.3g} of the {_COSTS[self.option]} stay where all goes that may"
        why = f"; what keeps the rest: {_listed(held)}" if held else ""
        return PipelineError(f"{self} is out of reach: {stays}{why}; `planish inspect --groups` says more")

    def __str__(self) -> str:
        return f"{self.option}={self.part:g}"


@dataclass(frozen=True)
class StepCosts:
    """What is left of a cost while units go, step by step."""

    cost: UnitCost | GraphTimes
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

    def require(self, times: OperatorTable | None) -> None:
        """Raise MissingTimesError where a time is needed at any step, and not there."""
        if isinstance(self.cost, GraphTimes) and times is not None:
            times.require(call for kept, key in self._kept() for call in self.cost.calls(kept, key))

    def fewest(self, budget: Budget, whole: float) -> int:
        """Steps after which the budget holds; one more than there are where it never does."""
        if isinstance(self.cost, UnitCost):
            every = range(len(self.steps) + 1)
            return bisect_left(every, True, key=lambda count: budget.allows(self.left(count), whole))
        holding = (count for count, (kept, _) in enumerate(self._kept()) if budget.allows(self.cost(kept), whole))
        return next(holding, len(self.steps) + 1)  # times need not fall with the units

    def _kept(self) -> Iterator[tuple[Mapping[str, int], str | None]]:
        """How many units of each group stay, at first and after each step, and which of them lost some."""
        kept = {key: group.size for key, group in self.groups.items()}
        yield kept, None
        keys = list(kept)
        for place, gone in self.steps:
            kept[keys[place]] = self.groups[keys[place]].size - gone
            yield kept, keys[place]


def check_amounts(
    name: str, amounts: Mapping[str, object], extent: int = EXTENT, times: OperatorTable | None = None
) -> None:
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
    if times is not None and amounts["latency"] is None:
        raise PipelineError(f"{name} takes times with latency")


def budget_of(amounts: Mapping[str, float | None], extent: int, times: OperatorTable | None) -> Budget | None:
    """amounts: by the names of costs, of which one is given at most."""
    given = [Budget(option, part, extent, times) for option, part in amounts.items() if part is not None]
    return given[0] if given else None


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
