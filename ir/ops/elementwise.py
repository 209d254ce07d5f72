"""Operators that work element by element, with broadcasting."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import reduce

import numpy as np

from planish.ir.dim import Dim
from planish.ir.errors import GraphError
from planish.ir.graph import Node
from planish.ir.ops import dims
from planish.ir.ops.broadcast import broadcast
from planish.ir.ops.operator import Fold, Operator
from planish.ir.types import Array, DType, TensorType, Type

Arrays = Sequence[Array | None]
_EXACT_INT_IN_DOUBLE = 2**53


# Types


def infer_same(node: Node) -> Sequence[Type | None]:
    """The result is of the first operand's type."""
    first = node.operands[0] if node.operands else None
    return (first.type if first is not None else None,)


def infer_broadcast(node: Node) -> Sequence[Type | None]:
    """All operands broadcast together; the element type is theirs."""
    types = [operand.type for operand in node.operands if operand is not None]
    first = types[0] if types else None
    if not isinstance(first, TensorType):
        return (next((TensorType(t.dtype) for t in types if isinstance(t, TensorType)), None),)
    shape = first.shape
    for other in types[1:]:
        if shape is None or not isinstance(other, TensorType) or other.shape is None:
            return (TensorType(first.dtype),)
        shape = broadcast(node, shape, other.shape)
    return (first if shape is first.shape else TensorType(first.dtype, shape),)


def _infer_power(node: Node) -> Sequence[Type | None]:
    """The element type is the base's; the exponent may have another."""
    base = node.operands[0]
    found = infer_broadcast(node)[0]
    if base is None or base.dtype is None:
        return (None,)
    return (TensorType(base.dtype, found.shape if isinstance(found, TensorType) else None),)


def _infer_compare(node: Node) -> Sequence[Type | None]:
    found = infer_broadcast(node)[0]
    return (TensorType(DType.BOOL, found.shape if isinstance(found, TensorType) else None),)


def _infer_bool(node: Node) -> Sequence[Type | None]:
    first = node.operands[0]
    return (TensorType(DType.BOOL, first.shape if first is not None else None),)


def _infer_where(node: Node) -> Sequence[Type | None]:
    condition, x, y = node.operands
    if condition is None or x is None or y is None:
        raise GraphError("Where needs three operands", node)
    dtype = x.dtype or y.dtype
    if dtype is None:
        return (None,)
    if condition.shape is None or x.shape is None or y.shape is None:
        return (TensorType(dtype),)
    return (TensorType(dtype, broadcast(node, broadcast(node, condition.shape, x.shape), y.shape)),)


def _infer_cast(node: Node) -> Sequence[Type | None]:
    first = node.operands[0]
    return (TensorType(DType(node.get_int("to")), first.shape if first is not None else None),)


def _infer_cast_like(node: Node) -> Sequence[Type | None]:
    first, like = node.operands
    if like is None or like.dtype is None:
        return (None,)
    return (TensorType(like.dtype, first.shape if first is not None else None),)


# Elements


def _aligned(node: Node) -> list[tuple[Dim, ...]] | None:
    """The elements of all operands, stretched to one length; None unless all are known."""
    found = [operand.elements if operand is not None else None for operand in node.operands]
    known = [elements for elements in found if elements is not None]
    if len(known) != len(found) or not known:
        return None
    length = max(len(elements) for elements in known)
    if any(len(elements) not in (1, length) for elements in known):
        return None
    return [elements * length if len(elements) == 1 else elements for elements in known]


def _elementwise(apply: Callable[..., Dim | None]) -> Callable[[Node], tuple[Dim, ...] | None]:
    def elements(node: Node) -> tuple[Dim, ...] | None:
        aligned = _aligned(node)
        if aligned is None:
            return None
        found = [apply(*group) for group in zip(*aligned, strict=True)]
        known = tuple([dim for dim in found if dim is not None])
        return known if len(known) == len(found) else None

    return elements


def elements_same(node: Node) -> tuple[Dim, ...] | None:
    first = node.operands[0]
    return first.elements if first is not None else None


def _elements_mod(node: Node) -> tuple[Dim, ...] | None:
    return None if node.get_int("fmod") else _elementwise(dims.remainder)(node)


def _elements_cast(node: Node) -> tuple[Dim, ...] | None:
    """Only where no element can leave the range: dims fit 64 bits, and 32 bits where they are known."""
    found = elements_same(node)
    target = node.results[0].dtype
    if found is None or target is None or target is DType.INT64:
        return found if target is DType.INT64 else None
    if target is DType.INT32 and all(not isinstance(d, int) or -(2**31) <= d < 2**31 for d in found):
        return found
    return None


# Values on constants


def _fold(function: Callable[..., Array | None], *, nan: bool = True) -> Fold:
    """A fold from a function over the arrays; with nan=False it declines where an operand holds one."""

    def fold(_: Node, arrays: Arrays) -> Sequence[Array] | None:
        present = [array for array in arrays if array is not None]
        if len(present) != len(arrays) or (not nan and any(_has_nan(array) for array in present)):
            return None
        with np.errstate(all="ignore"):
            result = function(*present)
        return None if result is None else [np.asarray(result).astype(_result_dtype(result, present), copy=False)]

    return fold


def _result_dtype(result: Array, operands: Sequence[Array]) -> np.dtype[np.generic]:
    return result.dtype if result.dtype == np.bool_ else operands[0].dtype


def _has_nan(array: Array) -> bool:
    return array.dtype.kind not in "biuO" and bool(np.isnan(array).any())


def _is_int(array: Array) -> bool:
    return array.dtype.kind in "iu"


def _divide(a: Array, b: Array) -> Array | None:
    if not _is_int(a):
        return np.divide(a, b)
    if not np.all(b) or (a.dtype.kind == "i" and np.any((a == np.iinfo(a.dtype).min) & (b == -1))):
        return None
    quotient = np.floor_divide(a, b)
    return quotient + ((quotient < 0) & (quotient * b != a)).astype(a.dtype)


def _fold_mod(node: Node, arrays: Arrays) -> Sequence[Array] | None:
    a, b = arrays
    if a is None or b is None or (_is_int(b) and not np.all(b)):
        return None
    with np.errstate(all="ignore"):
        return [np.fmod(a, b) if node.get_int("fmod") else np.mod(a, b)] if _is_int(a) or node.get_int("fmod") else None


def _power(a: Array, b: Array) -> Array | None:
    if _is_int(a):
        result = np.power(a.astype(np.float64), b.astype(np.float64))
        return result.astype(a.dtype) if np.all(np.abs(result) < min(_EXACT_INT_IN_DOUBLE, np.iinfo(a.dtype).max)) else None
    return np.power(a, b.astype(a.dtype))


def _fold_clip(_: Node, arrays: Arrays) -> Sequence[Array] | None:
    """min(max(x, low), high), as the operator defines it where low > high."""
    x = arrays[0]
    if x is None or any(a is not None and _has_nan(a) for a in arrays):
        return None
    low, high = (arrays[i] if i < len(arrays) else None for i in (1, 2))
    x = x if low is None else np.maximum(x, low)
    return [x if high is None else np.minimum(x, high)]


def _fold_cast(node: Node, arrays: Arrays) -> Sequence[Array] | None:
    x = arrays[0]
    target = node.results[0].dtype
    return None if x is None or target is None else cast(x, target)


def cast(x: Array, target: DType) -> Sequence[Array] | None:
    """Declines where the result depends on the runtime: out of range, NaN to integer, text, eight bits or fewer of float."""
    source = DType.of(x)
    plain = (DType.FLOAT, DType.DOUBLE, DType.FLOAT16, DType.BFLOAT16, DType.BOOL)
    if any(t not in plain and not (t.is_integer and t.bits >= 8) for t in (source, target)):  # noqa: PLR2004  a byte
        return None
    if target is DType.BOOL:
        return [x != 0]
    if source.is_float and target.is_integer:
        wide = x.astype(np.float64)
        limits = np.iinfo(target.numpy)
        if not np.all(np.isfinite(wide)) or np.any(np.trunc(wide) < limits.min) or np.any(np.trunc(wide) >= limits.max):
            return None
        return [np.trunc(wide).astype(target.numpy)]
    with np.errstate(all="ignore"):
        return [x.astype(target.numpy)]


def _fold_where(_: Node, arrays: Arrays) -> Sequence[Array] | None:
    condition, x, y = arrays
    return None if condition is None or x is None or y is None else [np.where(condition, x, y).astype(x.dtype)]


def _variadic(function: Callable[[Array, Array], Array]) -> Callable[..., Array]:
    return lambda *arrays: reduce(function, arrays)


def _sigmoid(x: Array) -> Array:
    return (1 / (1 + np.exp(-x))).astype(x.dtype)


def _reciprocal(x: Array) -> Array:
    return np.divide(np.array(1, x.dtype), x)


def _unary(function: Callable[[Array], Array], *, exact: bool = False, nan: bool = True) -> Operator:
    return Operator(infer=infer_same, fold=_fold(function, nan=nan), exact=exact)


def _binary(
    function: Callable[..., Array | None], elements: Callable[..., Dim | None] | None = None, *, exact: bool = True
) -> Operator:
    found = None if elements is None else _elementwise(elements)
    return Operator(infer=infer_broadcast, elements=found, fold=_fold(function), exact=exact)


def _extreme(function: Callable[[Array, Array], Array], choose: Callable[[Dim, Dim], Dim | None]) -> Operator:
    def chosen(first: Dim, *others: Dim) -> Dim | None:
        found: Dim | None = first
        for dim in others:
            found = None if found is None else choose(found, dim)
        return found

    return Operator(infer_broadcast, _elementwise(chosen), _fold(_variadic(function), nan=False), exact=True)


def _comparison(function: Callable[..., Array], elements: Callable[..., Dim | None] | None = None) -> Operator:
    found = None if elements is None else _elementwise(elements)
    return Operator(infer=_infer_compare, elements=found, fold=_fold(function), exact=True)


_SHAPE_KEEPING = (
    "Acos Acosh Asin Asinh Atan Atanh BitwiseNot Celu Cos Cosh Elu Erf Gelu HardSigmoid HardSwish Hardmax LeakyRelu "
    "LogSoftmax Mish PRelu Selu Shrink Sin Sinh Softmax Softplus Softsign Swish Tan ThresholdedRelu LpNormalization LRN "
    "InstanceNormalization MeanVarianceNormalization ReverseSequence"
)

OPERATORS: dict[str, Operator] = {
    **{name: Operator(infer=infer_same) for name in _SHAPE_KEEPING.split()},
    "Abs": Operator(infer_same, _elementwise(dims.magnitude), _fold(np.abs), exact=True),
    "Neg": Operator(infer_same, _elementwise(lambda a: -a), _fold(np.negative), exact=True),
    "Sign": _unary(np.sign, exact=True, nan=False),
    "Floor": _unary(np.floor, exact=True),
    "Ceil": _unary(np.ceil, exact=True),
    "Round": _unary(np.rint, exact=True),
    "Sqrt": _unary(np.sqrt),
    "Reciprocal": _unary(_reciprocal),
    "Relu": _unary(lambda x: np.maximum(x, np.array(0, x.dtype)), exact=True, nan=False),
    "Not": Operator(infer_same, _elementwise(dims.negation), _fold(np.logical_not), exact=True),
    "Exp": _unary(np.exp),
    "Log": _unary(np.log),
    "Tanh": _unary(np.tanh),
    "Sigmoid": _unary(_sigmoid),
    "Clip": Operator(infer=infer_same, fold=_fold_clip, exact=True),
    "Add": _binary(np.add, lambda a, b: a + b),
    "Sub": _binary(np.subtract, lambda a, b: a - b),
    "Mul": _binary(np.multiply, lambda a, b: a * b),
    "Div": _binary(_divide, dims.quotient),
    "Mod": Operator(infer_broadcast, _elements_mod, _fold_mod, exact=True),
    "Pow": Operator(infer=_infer_power, fold=_fold(_power)),
    "Max": _extreme(np.maximum, dims.largest),
    "Min": _extreme(np.minimum, dims.smallest),
    "Sum": Operator(infer=infer_broadcast, fold=_fold(_variadic(np.add))),
    "Mean": Operator(infer=infer_broadcast),
    "And": _comparison(np.logical_and, dims.both),
    "Or": _comparison(np.logical_or, dims.either),
    "Xor": _comparison(np.logical_xor, dims.not_both_alike),
    "Equal": _comparison(np.equal, dims.equal),
    "Less": _comparison(np.less, dims.less),
    "LessOrEqual": _comparison(np.less_equal, dims.less_or_equal),
    "Greater": _comparison(np.greater, lambda a, b: dims.less(b, a)),
    "GreaterOrEqual": _comparison(np.greater_equal, lambda a, b: dims.less_or_equal(b, a)),
    "IsNaN": Operator(infer=_infer_bool),
    "IsInf": Operator(infer=_infer_bool),
    "BitwiseAnd": _binary(np.bitwise_and),
    "BitwiseOr": _binary(np.bitwise_or),
    "BitwiseXor": _binary(np.bitwise_xor),
    "BitShift": Operator(infer=infer_broadcast),
    "Where": Operator(infer=_infer_where, elements=_elementwise(dims.select), fold=_fold_where, exact=True),
    "Cast": Operator(infer=_infer_cast, elements=_elements_cast, fold=_fold_cast, exact=True),
    "CastLike": Operator(infer=_infer_cast_like, elements=_elements_cast, fold=_fold_cast, exact=True),
    "Identity": Operator(infer_same, elements_same, lambda _, arrays: None if arrays[0] is None else [arrays[0]], exact=True),
}
