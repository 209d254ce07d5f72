"""Constants that channels without filters carry, and what becomes of them where the channels go.

A channel whose filter is 0 still holds its bias, and behind a Relu what that makes of it. Where all of its readers sum
over channels, and add the same everywhere, what they add moves into their biases: what stays then computes what the
model does with those filters at 0. Of other units nothing is moved: it computes what the model does with these at 0.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from planish.ir import Graph, Node, Value
from planish.ir.graph import constant
from planish.ir.ops.channels.atoms import Flags, Ids
from planish.ir.ops.channels.tracker import Doubles, Filters
from planish.ir.ops.cost import weights
from planish.ir.ops.table import lookup
from planish.ir.types import Array
from planish.passes.prune.removal import Removal
from planish.passes.replacing import erase_unread


class Place(NamedTuple):
    """Where a bias is written: an operand of a node, which is multiplied by a factor."""

    node: Node
    position: int
    factor: float


@dataclass(frozen=True, eq=False)
class Addition:
    """What is added to the bias of a node, for each channel that its result keeps."""

    place: Place
    amounts: Doubles


@dataclass(frozen=True, eq=False)
class Carried:
    """merged: for each group, the units that go whose constants are moved; the others go as if they held 0."""

    merged: Sequence[Flags]
    additions: Sequence[Addition]


def carried(graph: Graph, removal: Removal) -> Carried:
    """Find what may be moved, before the channels go."""
    return _Carrying(graph, removal).found()


def add_to_biases(additions: Iterable[Addition]) -> None:
    """Write what was moved, once the channels are gone."""
    for addition in additions:
        node, position, factor = addition.place
        old = node.operand(position)
        amounts = addition.amounts / factor
        if old is not None and old.constant is not None:
            array = old.constant.array()
            new = constant((array.astype(np.float64) + amounts).astype(array.dtype), old.name)
        else:
            dtype = node.result.dtype
            new = constant(amounts.astype(np.float32 if dtype is None else dtype.numpy))
        _set_operand(node, position, new)
        erase_unread(() if old is None else (old,))


def added_elements(graph: Graph, additions: Iterable[Addition]) -> int:
    """Elements of the biases that nodes do not have yet, or share with others."""
    holders = Counter(tensor for value, tensor in weights(graph).items() for _ in value.readers)
    added = 0
    for addition in additions:
        old = addition.place.node.operand(addition.place.position)
        if old is None or old.constant is None or holders[old.constant] > 1:
            added += addition.amounts.size
    return added


def _set_operand(node: Node, position: int, value: Value) -> None:
    """In a node of its own where it has no such operand yet."""
    graph = node.graph
    if graph is None:
        return
    if position < len(node.operands):
        graph.set_operand(node, position, value)
        return
    new = Node(node.op, (*node.operands, value), node.attributes, [result.name for result in node.results], node.name)
    new.origin, new.source = node.origin, node.source
    graph.insert(new, before=node)
    for old, result in zip(node.results, new.results, strict=True):
        result.type, result.source = old.type, old.source
        graph.replace_all_uses_with(old, result)
    graph.erase(node)


class _Carrying:
    def __init__(self, graph: Graph, removal: Removal) -> None:
        self.graph = graph
        self.removal = removal
        self.merged = [gone.copy() for gone in removal.gone]
        self.units: dict[tuple[Value, int], list[tuple[int, Ids]]] = {}
        for index, group in enumerate(removal.groups):
            for member in group.members if removal.gone[index].any() else ():
                self.units.setdefault((member.value, member.axis), []).append((index, member.units))
        self.constants: dict[Value, Doubles] = {}
        """Of each index of the one axis that shrinks, what its channel holds; NaN where it stays or is not known."""

    def found(self) -> Carried:
        for node in self.graph.walk():
            self.make(node)
        consumed = list(self.consumed())
        for node, value in consumed:
            found = self.constants[value]
            if self.contribution(node, value) is None or _place(node) is None:
                self.drop(value, found != 0)
        additions = [addition for node, value in consumed if (addition := self.addition(node, value)) is not None]
        return Carried(self.merged, additions)

    def axis(self, value: Value | None) -> int | None:
        """The one axis of an activation that shrinks."""
        axes = () if value is None or value.constant is not None else self.removal.values.get(value, ())
        return axes[0] if len(axes) == 1 else None

    def make(self, node: Node) -> None:
        """Work out what the channels of a node's results hold; units of which that is not known go as if at 0."""
        for result in node.results:
            axes = self.removal.values.get(result, ())
            if not axes or result.constant is not None:
                continue
            axis = self.axis(result)
            found = None if axis is None else self.of(node, result, axis)
            for other in axes:
                gone = ~self.removal.staying[result, other]
                self.drop(result, gone if found is None else gone & ~np.isfinite(found), other)
            if found is not None:
                self.constants[result] = found

    def of(self, node: Node, result: Value, axis: int) -> Doubles | None:
        rule = lookup(node.op).channels
        if rule is None:
            return None
        if _filters(node) is not None:
            return self.bias(node, result)
        if rule.pointwise:
            return self.folded(node, result, axis)
        return self.spread(node, result, axis) if rule.spreads else None

    def bias(self, node: Node, result: Value) -> Doubles | None:
        """What is left of a channel without its filter."""
        filters = _filters(node)
        shape, axis = result.shape, self.axis(result)
        if filters is None or shape is None or axis is None or axis != filters.channel % len(shape):
            return None
        extent = shape[axis]
        b = None if filters.bias is None else node.operand(filters.bias)
        if not isinstance(extent, int) or (b is not None and b.constant is None):
            return None
        array = np.zeros(1) if b is None or b.constant is None else b.constant.array().astype(np.float64)
        if array.size not in (1, extent):
            return None
        return np.broadcast_to(array.ravel() * filters.factor, (extent,)).copy()

    def folded(self, node: Node, result: Value, axis: int) -> Doubles | None:
        """By the operator itself, over a tensor with one element a channel."""
        fold, rank = lookup(node.op).fold, result.rank or 0
        arrays: list[Array | None] = []
        for operand in node.operands:
            array = None if operand is None else self.array(operand, rank - axis)
            if operand is not None and array is None:
                return None
            arrays.append(array)
        unknown = [np.isnan(self.constants[operand]) for operand in node.operands if operand in self.constants]
        made = None if fold is None else fold(node, arrays)
        if not made or made[0].ndim != rank or made[0].dtype.kind != "f" or not unknown:
            return None
        rows = np.moveaxis(made[0].astype(np.float64), axis, 0).reshape(made[0].shape[axis], -1)
        if rows.shape[0] != len(unknown[0]) or not rows.size:
            return None
        same = (rows == rows[:, :1]).all(axis=1)
        return np.where(same & ~np.any(unknown, axis=0), rows[:, 0], np.nan)

    def array(self, operand: Value, from_end: int) -> Array | None:
        """An operand with one element a channel; what is not known of it is 0, which `folded` puts right."""
        if operand.constant is not None:
            return operand.constant.array()
        axis, found = self.axis(operand), self.constants.get(operand)
        if axis is None or found is None or operand.rank is None or operand.dtype is None:
            return None
        if operand.rank - axis != from_end:
            return None
        shape = [-1 if place == axis else 1 for place in range(operand.rank)]
        return (np.where(np.isfinite(found), found, 0.0) + 0.0).astype(operand.dtype.numpy).reshape(shape)

    def spread(self, node: Node, result: Value, axis: int) -> Doubles | None:
        """Every index of a unit holds what the unit holds, where that is one number in all operands."""
        held = [np.full(len(gone), np.nan) for gone in self.removal.gone]
        clash = [np.zeros(len(gone), np.bool_) for gone in self.removal.gone]
        for operand in dict.fromkeys(node.operands):
            where = self.axis(operand)
            if operand is None or where is None or operand not in self.constants:
                continue
            for group, units in self.units[operand, where]:
                ours = units >= 0
                places, numbers = units[ours], self.constants[operand][ours]
                fresh = np.isnan(held[group][places])
                held[group][places[fresh]] = numbers[fresh]
                np.logical_or.at(clash[group], places, held[group][places] != numbers)
        found = np.full(len(self.removal.staying[result, axis]), np.nan)
        for group, units in self.units[result, axis]:
            numbers = np.where(clash[group], np.nan, held[group])
            found = np.where(units >= 0, numbers[units], found)
        return found

    def consumed(self) -> Iterator[tuple[Node, Value]]:
        """Nodes, and the operands whose channels end there; where they go on only in part, the units are dropped."""
        for node in self.graph.walk():
            for value in dict.fromkeys(node.operands):
                axis = self.axis(value)
                if value is None or axis is None or value not in self.constants:
                    continue
                ends = self.ends(node, value, axis)
                if ends.all():
                    yield node, value
                elif ends.any():
                    self.drop(value, ~self.removal.staying[value, axis])

    def ends(self, node: Node, value: Value, axis: int) -> Flags:
        """For each index that goes, whether the node sums over it, or its unit lies on no result."""
        filters = _filters(node)
        gone = ~self.removal.staying[value, axis]
        if filters is not None and node.operands[0] is value and axis == filters.reads % (value.rank or 1):
            return np.ones(int(gone.sum()), np.bool_)
        goes_on = [np.zeros(len(part), np.bool_) for part in self.removal.gone]
        for result in node.results:
            for other in self.removal.values.get(result, ()):
                for group, units in self.units[result, other]:
                    goes_on[group][units[units >= 0]] = True
        parts = [(group, units[gone & (units >= 0)]) for group, units in self.units[value, axis]]
        return np.concatenate([~goes_on[group][units] for group, units in parts])

    def contribution(self, node: Node, value: Value) -> Doubles | None:
        """What the units that are still merged add to each channel of the result."""
        rule = lookup(node.op).channels
        if rule is None or rule.contribution is None or node.operands[0] is not value or value in node.operands[1:]:
            return None
        axis, filters = self.axis(value), _filters(node)
        if axis is None or filters is None or axis != filters.reads % (value.rank or 1):
            return None
        going = np.zeros(len(self.constants[value]), np.bool_)
        for group, units in self.units[value, axis]:
            going |= (units >= 0) & self.merged[group][units]
        return rule.contribution(node, np.where(going, np.nan_to_num(self.constants[value]), 0.0))

    def addition(self, node: Node, value: Value) -> Addition | None:
        amounts, place, filters = self.contribution(node, value), _place(node), _filters(node)
        if amounts is None or place is None or filters is None or not amounts.any():
            return None
        kept = self.removal.positions(node.result, filters.channel)
        return Addition(place, amounts if kept is None else amounts[kept])

    def drop(self, value: Value, which: Flags, axis: int | None = None) -> None:
        """Let the units at some indices of a value go as if they held 0."""
        axis = self.axis(value) if axis is None else axis
        for group, units in () if axis is None else self.units[value, axis]:
            self.merged[group][units[which & (units >= 0)]] = False


def _filters(node: Node) -> Filters | None:
    rule = lookup(node.op).channels
    return None if rule is None or rule.filters is None else rule.filters(node)


def _place(node: Node) -> Place | None:
    """The bias of a node that has or may have one, else that of the Add which alone reads its result."""
    filters = _filters(node)
    if filters is None:
        return None
    if filters.bias is not None:
        bias, width = node.operand(filters.bias), _width(node.result, filters.channel)
        fits = bias is None or (bias.constant is not None and _is_vector(bias, width))
        return Place(node, filters.bias, filters.factor) if fits and filters.factor else None
    reader = node.result.users[0] if node.result.has_one_use else None
    if reader is None or reader.op != "Add":
        return None
    for position, operand in enumerate(reader.operands):
        if operand is not None and operand.constant is not None and _is_vector(operand, _width(node.result, -1)):
            return Place(reader, position, 1.0)
    return None


def _width(value: Value, axis: int) -> int | None:
    dim = None if value.shape is None else value.shape[axis]
    return dim if isinstance(dim, int) else None


def _is_vector(value: Value, width: int | None) -> bool:
    """Whether a constant has one element for each channel of the last axis, or is the vector of a bias."""
    shape = () if value.constant is None else value.constant.shape
    return bool(shape) and shape[-1] == width and all(extent == 1 for extent in shape[:-1])
