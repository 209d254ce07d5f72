"""An entry of the operator table."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from planish.ir.dim import Dim, Expr, fresh_symbol
from planish.ir.errors import GraphError
from planish.ir.graph import Node
from planish.ir.ops.channels.tracker import Channels
from planish.ir.types import Array, Type

Infer = Callable[[Node], Sequence[Type | None]]
Elements = Callable[[Node], tuple[Dim, ...] | None]
Fold = Callable[[Node, Sequence[Array | None]], Sequence[Array] | None]
Pure = Callable[[Node], bool]


@dataclass(frozen=True, slots=True)
class Operator:
    """What the IR knows of one operator in its canonical form. Everything that is absent falls back on onnx.

    infer: the types of the results from those of the operands; raises GraphError when the operands cannot be right.
    elements: what the first result holds, as dims, when it is a small integer tensor (shape arithmetic).
    fold: the results on constant operands; None declines. `exact` says that ONNX Runtime gives the same bits.
    pure: whether equal operands give equal results and nothing else happens, where that depends on the node.
    channels: how those of the operands hang together with those of the results; None where nothing is known.
    kept: whether runtimes look for it beside its readers (a quantized weight), so that no pass should fold it away.
    """

    infer: Infer | None = None
    elements: Elements | None = None
    fold: Fold | None = None
    exact: bool = False
    pure: Pure | None = None
    kept: bool = False
    channels: Channels | None = None


def unknown_dim(node: Node) -> Expr:
    """An extent of which nothing is known, unlike every other one; the node must be in a graph."""
    if node.graph is None:
        raise GraphError(f"the types of {node.op} can be inferred once it is in a graph", node)
    return fresh_symbol(node.graph.fresh_name())


def unknown_shape(node: Node, rank: int) -> tuple[Dim, ...]:
    return tuple([unknown_dim(node) for _ in range(rank)])
