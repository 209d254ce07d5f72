"""What a Reshape gives: extents that are copied, that are asked for, and one that is worked out of the others."""

from __future__ import annotations

from collections.abc import Sequence

from planish.ir.dim import Dim, Shape, floor_div, is_nonnegative, is_positive, product, vanishes_with
from planish.ir.errors import GraphError
from planish.ir.graph import Node, Value
from planish.ir.ops.operator import unknown_dim, unknown_shape
from planish.ir.types import Array, TensorType, Type

Arrays = Sequence[Array | None]
Types = Sequence[Type | None]


def first_type(node: Node) -> TensorType | None:
    operand = node.operands[0] if node.operands else None
    return operand.tensor_type if operand is not None else None


def rank_of_elements(value: Value | None) -> int | None:
    """How many elements a 1-D operand has."""
    if value is None or value.shape is None or len(value.shape) != 1:
        return None
    return value.shape[0] if isinstance(value.shape[0], int) else None


# Shape, Size


def infer_reshape(node: Node) -> Types:
    first, target = first_type(node), node.operands[1]
    dtype = first.dtype if first is not None else None
    if dtype is None or target is None:
        return (None,)
    if target.elements is None:
        rank = rank_of_elements(target)
        return (TensorType(dtype, None if rank is None else _partly_known(node, target, rank)),)
    shape = first.shape if first is not None else None
    return (TensorType(dtype, reshaped(node, shape, target.elements)),)


def _partly_known(node: Node, target: Value, rank: int) -> Shape:
    """The extents that a Reshape is given as numbers by some parts of a Concat, though others are not known."""
    joined = target.producer
    parts: list[Dim | None] = []
    for part in joined.operands if joined is not None and joined.op == "Concat" else ():
        count = None if part is None else rank_of_elements(part)
        if part is None or count is None:
            return unknown_shape(node, rank)
        parts += part.elements or [None] * count
    parts = parts if len(parts) == rank else [None] * rank
    return tuple([dim if isinstance(dim, int) and dim > 0 else unknown_dim(node) for dim in parts])


def reshaped(node: Node, shape: Shape | None, target: Shape) -> Shape:
    """The result shape of a Reshape: 0 copies the dim (unless allowzero), -1 takes what is left."""
    copies = not node.get_int("allowzero")
    dims: list[Dim] = []
    for axis, dim in enumerate(target):
        if dim == 0 and copies:
            if shape is not None and axis >= len(shape):
                raise GraphError(f"Reshape copies axis {axis} of a tensor of rank {len(shape)}", node)
            dims.append(unknown_dim(node) if shape is None else shape[axis])
        else:
            dims.append(dim if is_nonnegative(dim) else -1)
    unknown = [axis for axis, dim in enumerate(dims) if dim == -1]
    if not unknown:
        _check_size(node, shape, dims)
    ambiguous = _ambiguous(shape, target, dims) if copies else set[int]()
    if not unknown or ambiguous:
        return tuple([unknown_dim(node) if d == -1 or axis in ambiguous else d for axis, d in enumerate(dims)])
    if len(unknown) > 1 or target[unknown[0]] != -1:
        return tuple([unknown_dim(node) if dim == -1 else dim for dim in dims])
    rest = product(dim for dim in dims if dim != -1)
    if shape is None or rest == 0:
        dims[unknown[0]] = unknown_dim(node)
    else:
        total = product(shape)
        if isinstance(total, int) and isinstance(rest, int) and total % rest:
            raise GraphError(f"Reshape cannot arrange {total} elements as {list(target)}", node)
        dims[unknown[0]] = floor_div(total, rest)
    return tuple(dims)


def _ambiguous(shape: Shape | None, target: Shape, dims: Sequence[Dim]) -> set[int]:
    """The axes that a Reshape may take for ones to copy: those asked for by a symbol that is 0 while the operand has
    elements there.

    That goes unnoticed only where the result is as empty all the same: another dim is 0 or worked out of nothing.
    """
    risky = {
        axis
        for axis, dim in enumerate(dims)
        if not isinstance(dim, int) and not is_positive(dim) and not _is_copy(shape, axis, dim)
    }
    if len(risky) == 1 and -1 not in target:
        others = [dim for axis, dim in enumerate(dims) if axis not in risky]
        return set() if all(is_positive(dim) for dim in others) else risky
    return risky


def _is_copy(shape: Shape | None, axis: int, dim: Dim) -> bool:
    """Whether the operand has no elements on the axis whenever the dim is 0, or no such axis, which is an error."""
    return shape is not None and (axis >= len(shape) or vanishes_with(shape[axis], dim))


def _check_size(node: Node, shape: Shape | None, dims: Sequence[Dim]) -> None:
    """Raise GraphError where the extents are all known and do not hold as many elements as the operand."""
    if shape is None or not all(isinstance(dim, int) for dim in (*shape, *dims)):
        return
    if product(shape) != product(dims):
        raise GraphError(f"Reshape cannot arrange {product(shape)} elements as {list(dims)}", node)


def fold_reshape(node: Node, arrays: Arrays) -> Sequence[Array] | None:
    shape = node.results[0].shape
    first = arrays[0]
    if first is None or shape is None or not all(isinstance(dim, int) for dim in shape):
        return None
    return [first.reshape([dim for dim in shape if isinstance(dim, int)])]
