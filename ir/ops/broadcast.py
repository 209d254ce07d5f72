"""Numpy-style broadcasting over symbolic shapes."""

from __future__ import annotations

from itertools import zip_longest

from planish.ir.dim import Dim, Shape, is_capped
from planish.ir.errors import GraphError
from planish.ir.graph import Node
from planish.ir.ops.operator import unknown_dim


def broadcast(node: Node, left: Shape, right: Shape) -> Shape:
    """The shape of an elementwise result; raises GraphError when the operands cannot be broadcast."""
    if left == right or not right:
        return left
    if not left:
        return right
    dims = [_dim(node, a, b) for a, b in zip_longest(reversed(left), reversed(right), fillvalue=1)]
    return tuple(reversed(dims))


def _dim(node: Node, a: Dim, b: Dim) -> Dim:
    if b in (a, 1):
        return a
    if a == 1:
        return b
    if isinstance(a, int):
        if isinstance(b, int):
            raise GraphError(f"{node.op} cannot broadcast an axis of {a} with one of {b}", node)
        return a
    if isinstance(b, int) or is_capped(a, b):
        return b
    return a if is_capped(b, a) else unknown_dim(node)


def broadcasts_to(shape: Shape, target: Shape) -> bool:
    """Whether a tensor of `shape` surely leaves the shape `target` as it is when the two are broadcast."""
    if len(shape) > len(target):
        return False
    return all(dim in (1, aim) for dim, aim in zip(reversed(shape), reversed(target), strict=False))
