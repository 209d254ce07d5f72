"""What of a model would vanish together: channels, heads and blocks, and what keeps the others; as text and as data."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from planish import ir
from planish.ir import Value
from planish.passes.prune.dependency import Dependencies, Group, dependencies
from planish.passes.prune.preparation import prepare
from planish.passes.prune.prune_heads import PruneHeads
from planish.passes.prune.residual import Block, residual_blocks
from planish.passes.run import Run
from planish.runtime.report import number, table

_SHOWN = 3


@dataclass(frozen=True)
class GroupRow:
    """Units that lie on the same axes."""

    name: str
    """The first node that makes them."""
    units: int
    blocks: int
    """Of each of so many blocks as many units must go."""
    parameters: int
    """Elements of constants that vanish with one unit."""
    weights: tuple[str, ...]
    """Constants that shrink with the group, as name[axis]."""
    tensors: int
    """Values that nodes make and that shrink with the group."""

    def as_dict(self) -> dict[str, object]:
        return {
            "name": self.name,
            "units": self.units,
            "blocks": self.blocks,
            "parameters_per_unit": self.parameters,
            "weights": list(self.weights),
            "tensors": self.tensors,
        }


@dataclass(frozen=True)
class BlockRow:
    """A residual block."""

    name: str
    """Of what its sum gives."""
    nodes: int
    """That go with it."""
    parameters: int
    """Elements of the constants that these alone read."""

    def as_dict(self) -> dict[str, object]:
        return {"name": self.name, "nodes": self.nodes, "parameters": self.parameters}


@dataclass(frozen=True)
class FrozenRow:
    """Axes of weights that stay, by the reason."""

    reason: str
    weights: tuple[str, ...]
    nodes: tuple[str, ...]
    """Nodes, inputs and outputs that keep them."""

    def as_dict(self) -> dict[str, object]:
        return {"reason": self.reason, "weights": list(self.weights), "because_of": list(self.nodes)}


@dataclass(frozen=True)
class ChannelGroups:
    path: Path
    groups: tuple[GroupRow, ...]
    heads: tuple[GroupRow, ...]
    """Of attention, in the place of groups over the same axes."""
    blocks: tuple[BlockRow, ...]
    frozen: tuple[FrozenRow, ...]

    def as_dict(self) -> dict[str, object]:
        return {
            "path": str(self.path),
            "groups": [row.as_dict() for row in self.groups],
            "heads": [row.as_dict() for row in self.heads],
            "blocks": [row.as_dict() for row in self.blocks],
            "frozen": [row.as_dict() for row in self.frozen],
        }


def channel_groups(path: str | os.PathLike[str]) -> ChannelGroups:
    """Read the model in a file; raises GraphError when it is not valid."""
    graph = ir.load(Path(path), functions="inline")
    prepare(graph, Run())
    found, heads = dependencies(graph), PruneHeads().find(graph)
    groups, whole = ([_row(group) for group in part.groups] for part in (found, heads))
    blocks = [_block(block) for block in residual_blocks(graph)]
    return ChannelGroups(Path(path), tuple(groups), tuple(whole), tuple(blocks), _frozen(found))


def _row(group: Group) -> GroupRow:
    weights = [_axis(member.value, member.axis) for member in group.constants]
    tensors = len({id(member.value) for member in group.members if not member.is_constant})
    return GroupRow(group.name, group.size, group.block_count, group.parameters, tuple(weights), tensors)


def _block(block: Block) -> BlockRow:
    nodes = set(block.nodes)
    read = dict.fromkeys(value for node in block.nodes for value in node.operands if value is not None)
    own = [value.constant for value in read if value.constant is not None and nodes.issuperset(value.users)]
    return BlockRow(block.name, len(nodes), sum(tensor.size for tensor in own))


def _frozen(found: Dependencies) -> tuple[FrozenRow, ...]:
    """Weights of at least two axes: the others follow them."""
    weights: dict[str, dict[str, None]] = {}
    nodes: dict[str, dict[str, None]] = {}
    for part in found.frozen:
        if part.value.rank is not None and part.value.rank > 1:
            weights.setdefault(part.reason.text, {})[_axis(part.value, part.axis)] = None
            nodes.setdefault(part.reason.text, {})[part.reason.node] = None
    return tuple([FrozenRow(text, tuple(weights[text]), tuple(filter(None, nodes[text]))) for text in weights])


def _axis(value: Value, axis: int) -> str:
    readers = [user.label for user in value.users]
    name = value.name or (f"a constant of {readers[0]}" if readers else "a constant")
    return f"{name}[{axis}]"


def groups_text(found: ChannelGroups) -> str:
    """A line for each group, and one for each reason for which axes of weights stay."""
    header = ("group", "units", "blocks", "parameters per unit", "tensors", "weights[axis]")
    groups, heads = ([_cells(row) for row in rows] for rows in (found.groups, found.heads))
    lines = [
        f"{found.path}: {len(groups)} groups of channels that vanish together",
        "",
        table(header, groups, left=True),
    ]
    if heads:
        lines += ["", table(("heads (prune-heads)", *header[1:]), heads, left=True)]
    blocks = [(row.name, str(row.nodes), number(row.parameters)) for row in found.blocks]
    if blocks:
        lines += ["", table(("residual block (prune-blocks)", "nodes", "parameters"), blocks, left=True)]
    kept = [(row.reason, str(len(row.weights)), _few(row.nodes), _few(row.weights)) for row in found.frozen]
    if kept:
        lines += ["", table(("what stays, because", "axes", "of", "weights[axis]"), kept, left=True)]
    return "\n".join(lines)


def _cells(row: GroupRow) -> tuple[str, ...]:
    return (row.name, str(row.units), str(row.blocks), number(row.parameters), str(row.tensors), _few(row.weights))


def _few(names: Sequence[str]) -> str:
    more = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {more} more" if more > 0 else "")
