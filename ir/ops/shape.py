"""Operators that move elements without changing them, and those that compute with shapes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from planish.ir.dim import Dim, Shape, ceil_div, floor_div, is_nonnegative, product
from planish.ir.errors import GraphError
from planish.ir.graph import Node, Value
from planish.ir.ops import forms
from planish.ir.ops.broadcast import broadcast
from planish.ir.ops.control import is_inference
from planish.ir.ops.elementwise import elements_same
from planish.ir.ops.operator import Operator, unknown_dim, unknown_shape
from planish.ir.ops.reshape import first_type, fold_reshape, infer_reshape, rank_of_elements
from planish.ir.tensor import ELEMENTS, Tensor
from planish.ir.types import Array, DType, TensorType, Type

Arrays = Sequence[Array | None]
Types = Sequence[Type | None]
_LARGE = 1 << 14
"""Elements from which on a transposed constant stays a view of the one that it is made of until it is written."""


def normalize_axis(node: Node, axis: int, rank: int) -> int:
    """An axis counted from the front; raises GraphError when the tensor has no such axis."""
    if not -rank <= axis < rank:
        raise GraphError(f"{node.op} names axis {axis} of a tensor of rank {rank}", node)
    return axis % rank if rank else 0


def constant_ints(value: Value | None) -> tuple[int, ...] | None:
    """The elements of an integer operand when all are known; reads no file."""
    if value is None:
        return None
    if value.elements is not None:
        known = tuple([dim for dim in value.elements if isinstance(dim, int)])
        return known if len(known) == len(value.elements) else None
    tensor = value.constant
    return tensor.ints() if tensor is not None and tensor.in_memory and tensor.dtype.is_integer else None


def _shape_range(node: Node, rank: int) -> slice:
    start, end = node.attribute("start"), node.attribute("end")
    first = start if isinstance(start, int) else 0
    last = end if isinstance(end, int) else rank
    first, last = (min(max(i + rank if i < 0 else i, 0), rank) for i in (first, last))
    return slice(first, max(first, last))


def _infer_shape(node: Node) -> Types:
    first = first_type(node)
    if first is None or first.shape is None:
        return (TensorType(DType.INT64, unknown_shape(node, 1)),)
    window = _shape_range(node, len(first.shape))
    return (TensorType(DType.INT64, (window.stop - window.start,)),)


def _elements_shape(node: Node) -> tuple[Dim, ...] | None:
    first = first_type(node)
    return None if first is None or first.shape is None else first.shape[_shape_range(node, len(first.shape))]


def _infer_size(_: Node) -> Types:
    return (TensorType(DType.INT64, ()),)


def _elements_size(node: Node) -> tuple[Dim, ...] | None:
    first = first_type(node)
    return None if first is None or first.shape is None else (product(first.shape),)


# Reshape and its kin


def _axes(node: Node, index: int) -> tuple[int, ...] | None:
    return constant_ints(node.operand(index))


def _infer_squeeze(node: Node) -> Types:
    first = first_type(node)
    if first is None or first.shape is None:
        return (None if first is None else TensorType(first.dtype),)
    axes = _axes(node, 1)
    if node.operand(1) is None or axes == ():
        if not first.is_static:
            return (TensorType(first.dtype),)
        return (TensorType(first.dtype, tuple([dim for dim in first.shape if dim != 1])),)
    if axes is None:
        return (TensorType(first.dtype),)
    gone = {normalize_axis(node, axis, len(first.shape)) for axis in axes}
    for axis in gone:
        if isinstance(first.shape[axis], int) and first.shape[axis] != 1:
            raise GraphError(f"Squeeze of axis {axis}, which has {first.shape[axis]} elements", node)
    return (TensorType(first.dtype, tuple([dim for axis, dim in enumerate(first.shape) if axis not in gone])),)


def _infer_unsqueeze(node: Node) -> Types:
    first, axes = first_type(node), _axes(node, 1)
    if first is None or first.shape is None or axes is None:
        return (None if first is None else TensorType(first.dtype),)
    rank = len(first.shape) + len(axes)
    new = {normalize_axis(node, axis, rank) for axis in axes}
    if len(new) != len(axes):
        raise GraphError("Unsqueeze names one axis twice", node)
    rest = iter(first.shape)
    return (TensorType(first.dtype, tuple([1 if axis in new else next(rest) for axis in range(rank)])),)


def _infer_flatten(node: Node) -> Types:
    first = first_type(node)
    if first is None or first.shape is None:
        return (None if first is None else TensorType(first.dtype, unknown_shape(node, 2)),)
    rank, axis = len(first.shape), node.get_int("axis")
    if not -rank <= axis <= rank:
        raise GraphError(f"Flatten names axis {axis} of a tensor of rank {rank}", node)
    cut = axis + rank if axis < 0 else axis
    return (TensorType(first.dtype, (product(first.shape[:cut]), product(first.shape[cut:]))),)


def _elements_small(node: Node) -> tuple[Dim, ...] | None:
    """The elements of a rearrangement that keeps their order, where the result has at most one axis."""
    result = node.results[0]
    return elements_same(node) if result.shape is not None and len(result.shape) < 2 else None


# Transpose, Expand, Tile


def _infer_transpose(node: Node) -> Types:
    first = first_type(node)
    if first is None or first.shape is None:
        return (first,)
    order = node.get_ints("perm") or tuple(reversed(range(len(first.shape))))
    if sorted(order) != list(range(len(first.shape))):
        raise GraphError(f"Transpose by {list(order)} of a tensor of rank {len(first.shape)}", node)
    return (TensorType(first.dtype, tuple([first.shape[axis] for axis in order])),)


def _fold_transpose(node: Node, arrays: Arrays) -> Sequence[Array] | None:
    if arrays[0] is None:
        return None
    turned = arrays[0].transpose(node.get_ints("perm") or None)
    return [turned if turned.size >= _LARGE else np.asarray(turned, order="C")]


def _infer_expand(node: Node) -> Types:
    first, target = first_type(node), node.operands[1]
    if first is None or target is None:
        return (None,)
    if first.shape is None or target.elements is None:
        rank = rank_of_elements(target)
        if rank is None or first.shape is None:
            return (TensorType(first.dtype),)
        return (TensorType(first.dtype, unknown_shape(node, max(rank, len(first.shape)))),)
    return (TensorType(first.dtype, broadcast(node, first.shape, _extents(node, target.elements))),)


def _extents(node: Node, elements: Shape) -> Shape:
    """What a shape operand asks for."""
    if any(isinstance(dim, int) and dim < 0 for dim in elements):
        raise GraphError(f"{node.op} to a shape with a negative extent: {list(elements)}", node)
    return elements


def _elements_expand(node: Node) -> tuple[Dim, ...] | None:
    found, shape = elements_same(node), node.results[0].shape
    if found is None or shape is None or len(shape) != 1 or not isinstance(shape[0], int):
        return None
    return found * shape[0] if len(found) == 1 else found


def _fold_expand(_: Node, arrays: Arrays) -> Sequence[Array] | None:
    x, target = arrays
    if x is None or target is None:
        return None
    return [np.asarray(np.broadcast_to(x, np.broadcast_shapes(x.shape, tuple(target.tolist()))), order="C")]


def _infer_tile(node: Node) -> Types:
    first, repeats = first_type(node), node.operands[1]
    if first is None or first.shape is None:
        return (first,)
    if repeats is None or repeats.elements is None:
        return (TensorType(first.dtype, unknown_shape(node, len(first.shape))),)
    if len(repeats.elements) != len(first.shape):
        raise GraphError(f"Tile has {len(repeats.elements)} repeats for a tensor of rank {len(first.shape)}", node)
    return (TensorType(first.dtype, tuple([a * b for a, b in zip(first.shape, repeats.elements, strict=True)])),)


def _fold_tile(_: Node, arrays: Arrays) -> Sequence[Array] | None:
    x, repeats = arrays
    return None if x is None or repeats is None else [np.tile(x, tuple(repeats.tolist()))]


# Made from shapes


def _infer_constant_of_shape(node: Node) -> Types:
    value, target = node.attributes.get("value"), node.operands[0]
    dtype = value.dtype if isinstance(value, Tensor) else DType.FLOAT
    if target is None or target.elements is None:
        rank = rank_of_elements(target)
        return (TensorType(dtype, None if rank is None else unknown_shape(node, rank)),)
    return (TensorType(dtype, _extents(node, target.elements)),)


def _elements_constant_of_shape(node: Node) -> tuple[Dim, ...] | None:
    value, shape = node.attributes.get("value"), node.results[0].shape
    if not isinstance(value, Tensor) or value.dtype not in (DType.INT64, DType.INT32) or shape is None:
        return None
    if len(shape) > 1 or not all(isinstance(dim, int) and dim <= ELEMENTS for dim in shape):
        return None
    return value.ints() * product_of_ints(shape)


def product_of_ints(shape: Shape) -> int:
    total = product(shape)
    return total if isinstance(total, int) else 0


def _fold_constant_of_shape(node: Node, arrays: Arrays) -> Sequence[Array] | None:
    value, target = node.attributes.get("value"), arrays[0]
    if target is None:
        return None
    fill = value.array().reshape(-1)[0] if isinstance(value, Tensor) else np.float32(0)
    return [np.full(tuple(target.tolist()), fill, dtype=fill.dtype)]


def _infer_range(node: Node) -> Types:
    start, limit, delta = node.operands
    dtype = start.dtype if start is not None else None
    if dtype is None:
        return (None,)
    found = [o.elements[0] if o is not None and o.elements else None for o in (start, limit, delta)]
    first, last, step = found
    if first is None or last is None or not isinstance(step, int) or step == 0:
        return (TensorType(dtype, unknown_shape(node, 1)),)
    count = ceil_div(last - first, step)
    count = max(count, 0) if isinstance(count, int) else count
    return (TensorType(dtype, (count if is_nonnegative(count) else unknown_dim(node),)),)


def _elements_range(node: Node) -> tuple[Dim, ...] | None:
    found = [constant_ints(operand) for operand in node.operands]
    start, limit, delta = [part[0] if part else None for part in found]
    if start is None or limit is None or not delta or (limit - start) // delta >= ELEMENTS:
        return None
    return tuple(range(start, limit, delta))


def _fold_range(_: Node, arrays: Arrays) -> Sequence[Array] | None:
    given = [array.reshape(-1) for array in arrays if array is not None and array.size == 1]
    if len(given) != len(arrays) or given[0].dtype.kind not in "iu" or not given[2][0]:
        return None
    return [np.arange(*[int(array[0]) for array in given]).astype(given[0].dtype)]


def _infer_depth_to_space(node: Node) -> Types:
    first, block = first_type(node), node.get_int("blocksize")
    if first is None or first.shape is None or len(first.shape) != 4:
        return (first,)
    n, c, h, w = first.shape
    return (TensorType(first.dtype, (n, floor_div(c, block * block), h * block, w * block)),)


def _infer_space_to_depth(node: Node) -> Types:
    first, block = first_type(node), node.get_int("blocksize")
    if first is None or first.shape is None or len(first.shape) != 4:
        return (first,)
    n, c, h, w = first.shape
    return (TensorType(first.dtype, (n, c * (block * block), floor_div(h, block), floor_div(w, block))),)


def _infer_dropout(node: Node) -> Types:
    first = first_type(node)
    return (first, TensorType(DType.BOOL, first.shape if first is not None else None))


def _infer_constant(node: Node) -> Types:
    name, value = next(iter(node.attributes.items()), ("", 0))
    tensor = value if isinstance(value, Tensor) else forms.constant_tensor(name, value)
    return (None if tensor is None else TensorType(tensor.dtype, tensor.shape),)


OPERATORS: dict[str, Operator] = {
    "Constant": Operator(_infer_constant),
    "Shape": Operator(_infer_shape, _elements_shape),
    "Size": Operator(_infer_size, _elements_size),
    "Reshape": Operator(infer_reshape, _elements_small, fold_reshape, exact=True),
    "Squeeze": Operator(_infer_squeeze, _elements_small, fold_reshape, exact=True),
    "Unsqueeze": Operator(_infer_unsqueeze, _elements_small, fold_reshape, exact=True),
    "Flatten": Operator(_infer_flatten, fold=fold_reshape, exact=True),
    "Transpose": Operator(_infer_transpose, fold=_fold_transpose, exact=True),
    "Expand": Operator(_infer_expand, _elements_expand, _fold_expand, exact=True),
    "Tile": Operator(_infer_tile, fold=_fold_tile, exact=True),
    "ConstantOfShape": Operator(
        _infer_constant_of_shape, _elements_constant_of_shape, _fold_constant_of_shape, exact=True
    ),
    "Range": Operator(_infer_range, _elements_range, _fold_range, exact=True),
    "DepthToSpace": Operator(_infer_depth_to_space, pure=lambda _: True),
    "SpaceToDepth": Operator(_infer_space_to_depth, pure=lambda _: True),
    "Dropout": Operator(_infer_dropout, pure=is_inference),
}
