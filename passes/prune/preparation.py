"""What is done to a graph before its channels are followed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from planish.ir import Graph, Node, Value
from planish.ir.graph import RETURN, constant
from planish.passes.run import Run
from planish.passes.simplify.fold_shapes import FoldShapes


class Copy(NamedTuple):
    """A constant of one reader alone, in the place of one that it shared."""

    reader: Node
    original: Value
    value: Value


def prepare(graph: Graph, run: Run) -> tuple[Copy, ...]:
    """Fold what is computed of shapes, and give each reader a vector of its own.

    Layers that share a vector of ones by chance, as merged duplicates do, would else have to lose the same channels.
    Matrices stay shared: they are tied on purpose, and large.
    """
    FoldShapes().run(graph, run)
    return tuple(_copies(graph))


def restore(copies: Sequence[Copy]) -> None:
    """Share again the copies that are as they were, where the original is, too."""
    for reader, original, value in copies:
        home = original.graph
        if reader.graph is None or not (original.is_used or (home is not None and original in home.initializers)):
            continue
        for position, operand in enumerate(reader.operands):
            if operand is value:
                reader.graph.set_operand(reader, position, original)


def _copies(graph: Graph) -> Iterator[Copy]:
    for node in graph.walk():
        for value in dict.fromkeys(node.operands):
            if value is None or value.constant is None or len(value.constant.shape) != 1 or value.constant.size < 2:
                continue
            if len(value.readers) < 2 or not value.constant.dtype.is_float or any(u.op == RETURN for u in value.users):
                continue
            copy = constant(value.constant, value.name)
            for position, operand in enumerate(node.operands):
                if operand is value and node.graph is not None:
                    node.graph.set_operand(node, position, copy)
            yield Copy(node, value, copy)
