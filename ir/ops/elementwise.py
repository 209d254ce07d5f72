"""Operators that work element by element, with broadcasting."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from functools import partial, reduce

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
_ELEMENT_TYPES = frozenset(int(dtype) for dtype in DType if dtype is not DType.UNDEFINED)


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


def element_type(node: Node, attribute: str) -> DType:
    """The element type that an attribute asks for, by its number; raises GraphError for none that there is."""
    number = node.get_int(attribute)
    if number not in _ELEMENT_TYPES:
        raise GraphError(f"{node.op} has {attribute}={number}, which is no element type", node)
    return DType(number)


def _infer_cast(node: Node) -> Sequence[Type | None]:
    first = node.operands[0]
    return (TensorType(element_type(node, "to"), first.shape if first is not None else None),)


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


def _fold(function: Callable[..., Array | None], kinds: str = "iuf", *, ordered: bool = False) -> Fold:
    """A fold from a function over arrays of numpy's `kinds`; an ordered one declines where order is not total."""

    def fold(_: Node, arrays: Arrays) -> Sequence[Array] | None:
        present = [array for array in arrays if array is not None and _kind(array) in kinds]
        if len(present) != len(arrays) or (ordered and any(_is_unordered(array) for array in present)):
            return None
        with np.errstate(all="ignore"):
            result = function(*present)
        return None if result is None else [np.asarray(result).astype(_result_dtype(result, present), copy=False)]

    return fold


def _result_dtype(result: Array, operands: Sequence[Array]) -> np.dtype[np.generic]:
    return result.dtype if result.dtype == np.bool_ else operands[0].dtype


def _kind(array: Array) -> str:
    """Numpy's letter; "V" for what is narrower than a byte or has eight bits of float."""
    return "f" if array.dtype == DType.BFLOAT16.numpy else array.dtype.kind


def _is_unordered(array: Array) -> bool:
    """Whether there is a NaN, or a -0.0, of which runtimes say now that it equals 0.0 and now that it is less."""
    return _has_negative_zero(array) or (_kind(array) == "f" and bool(np.isnan(array).any()))


def _has_negative_zero(array: Array) -> bool:
    return _kind(array) == "f" and bool(np.any(np.signbit(array) & (array == 0)))


def _is_int(array: Array) -> bool:
    return array.dtype.kind in "iu"


def integer_limits(dtype: np.dtype[np.generic]) -> tuple[int, int]:
    """The least and the largest integer of a type of whole bytes."""
    bits, signed = dtype.itemsize * 8, dtype.kind == "i"
    return (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) if signed else (0, (1 << bits) - 1)


def _traps(a: Array, b: Array) -> bool:
    """Whether the least integer is divided by -1, which has no result and stops a processor."""
    return a.dtype.kind == "i" and bool(np.any((a == integer_limits(a.dtype)[0]) & (b == -1)))


def _divide(a: Array, b: Array) -> Array | None:
    if not _is_int(a):
        return np.divide(a, b)
    if not np.all(b) or _traps(a, b):
        return None
    quotient = np.floor_divide(a, b)
    return quotient + ((quotient < 0) & (quotient * b != a)).astype(a.dtype)


def _fold_mod(node: Node, arrays: Arrays) -> Sequence[Array] | None:
    """Integers under `fmod` pass through double in ONNX Runtime; floats without it have no meaning."""
    a, b = arrays
    if a is None or b is None or _kind(a) not in "iuf":
        return None
    if not _is_int(a):
        with np.errstate(all="ignore"):
            return [np.fmod(a, b)] if node.get_int("fmod") else None
    if not np.all(b) or _traps(a, b):
        return None
    if node.get_int("fmod"):
        wide = all(np.all(np.abs(side.astype(np.float64)) < _EXACT_INT_IN_DOUBLE) for side in (a, b))
        return [np.fmod(a, b)] if wide else None
    return [np.mod(a, b)]


def _shift(a: Array, b: Array, *, left: bool) -> Array | None:
    """None for a shift by all bits or more, which C++ leaves undefined."""
    if np.any(np.greater_equal(b, a.dtype.itemsize * 8)):
        return None
    return np.left_shift(a, b) if left else np.right_shift(a, b)


def _fold_shift(node: Node, arrays: Arrays) -> Sequence[Array] | None:
    return _fold(partial(_shift, left=node.get_str("direction") == "LEFT"), "u")(node, arrays)


def _fold_is_inf(node: Node, arrays: Arrays) -> Sequence[Array] | None:
    x = arrays[0]
    if x is None or _kind(x) != "f":
        return None
    found = np.isinf(x)
    found = found if node.get_int("detect_negative") else found & ~np.signbit(x)
    return [found if node.get_int("detect_positive") else found & np.signbit(x)]


def _power(a: Array, b: Array) -> Array | None:
    if _is_int(a):
        result = np.power(a.astype(np.float64), b.astype(np.float64))
        fits = np.all(np.abs(result) < min(_EXACT_INT_IN_DOUBLE, integer_limits(a.dtype)[1]))
        return result.astype(a.dtype) if fits else None
    return np.power(a, b.astype(a.dtype))


def _fold_clip(_: Node, arrays: Arrays) -> Sequence[Array] | None:
    """min(max(x, low), high), as the operator defines it where low > high.

    ONNX Runtime takes the largest finite number for a bound that is absent, which an infinity would show.
    """
    x, low, high = (*arrays, None, None)[:3]
    if x is None or _kind(x) not in "iuf" or any(a is not None and _is_unordered(a) for a in arrays):
        return None
    if (low is None or high is None) and not _is_int(x) and np.any(np.isinf(x)):
        return None
    x = x if low is None else np.maximum(x, low)
    return [x if high is None else np.minimum(x, high)]


def _fold_cast(node: Node, arrays: Arrays) -> Sequence[Array] | None:
    x = arrays[0]
    target = node.results[0].dtype
    return None if x is None or target is None else cast(x, target)


def cast(x: Array, target: DType) -> Sequence[Array] | None:
    """Declines where the result depends on the runtime: out of range, NaN to integer, text, floats of a byte or less.

    Half precision is reached by way of single, as ONNX Runtime does: a double is rounded twice.
    """
    source = DType.of(x)
    if any(t.bits < 8 or (t.is_float and t.bits < 16) or t.numpy.kind in "Oc" for t in (source, target)):
        return None
    if target is DType.BOOL:
        return [x != 0]
    if source.is_float and target.is_integer:
        wide = x.astype(np.float64)
        least, largest = integer_limits(target.numpy)
        if not np.all(np.isfinite(wide)) or np.any(np.trunc(wide) < least) or np.any(np.trunc(wide) >= largest):
            return None
        return [np.trunc(wide).astype(target.numpy)]
    with np.errstate(all="ignore"):
        halves = target in (DType.FLOAT16, DType.BFLOAT16) and source is not target
        return [(x.astype(np.float32) if halves else x).astype(target.numpy)]


def _fold_where(_: Node, arrays: Arrays) -> Sequence[Array] | None:
    """ONNX Runtime adds what each side selects, so that a -0.0 comes out as 0.0."""
    condition, x, y = arrays
    if condition is None or x is None or y is None or _has_negative_zero(x) or _has_negative_zero(y):
        return None
    return [np.where(condition, x, y).astype(x.dtype)]


def _fold_identity(_: Node, arrays: Arrays) -> Sequence[Array] | None:
    return None if arrays[0] is None else [arrays[0]]


def _variadic(function: Callable[[Array, Array], Array]) -> Callable[..., Array]:
    return lambda *arrays: reduce(function, arrays)


def _sigmoid(x: Array) -> Array:
    return np.reciprocal(1 + np.exp(np.negative(x))).astype(x.dtype)


def _rectify(x: Array) -> Array:
    return np.maximum(x, np.zeros((), x.dtype))


def _reciprocal(x: Array) -> Array:
    return np.divide(np.array(1, x.dtype), x)


def _unary(function: Callable[[Array], Array], kinds: str = "f", *, exact: bool = False) -> Operator:
    return Operator(infer=infer_same, fold=_fold(function, kinds), exact=exact)


def _binary(
    function: Callable[..., Array | None], elements: Callable[..., Dim | None] | None = None, kinds: str = "iuf"
) -> Operator:
    found = None if elements is None else _elementwise(elements)
    return Operator(infer=infer_broadcast, elements=found, fold=_fold(function, kinds), exact=True)


def _extreme(function: Callable[[Array, Array], Array], choose: Callable[[Dim, Dim], Dim | None]) -> Operator:
    def chosen(first: Dim, *others: Dim) -> Dim | None:
        found: Dim | None = first
        for dim in others:
            found = None if found is None else choose(found, dim)
        return found

    return Operator(infer_broadcast, _elementwise(chosen), _fold(_variadic(function), ordered=True), exact=True)


def _comparison(function: Callable[..., Array], elements: Callable[..., Dim | None], kinds: str = "iuf") -> Operator:
    return Operator(_infer_compare, _elementwise(elements), _fold(function, kinds), exact=True)


_SHAPE_KEEPING = (
    "Acos Acosh Asin Asinh Atan Atanh BitwiseNot Celu Cos Cosh Elu Erf Gelu HardSigmoid HardSwish Hardmax "
    "LeakyRelu LogSoftmax Mish PRelu Selu Shrink Sin Sinh Softmax Softplus Softsign Swish Tan ThresholdedRelu "
    "LpNormalization LRN InstanceNormalization MeanVarianceNormalization ReverseSequence"
)

OPERATORS: dict[str, Operator] = {
    **{name: Operator(infer=infer_same) for name in _SHAPE_KEEPING.split()},
    "Abs": Operator(infer_same, _elementwise(dims.magnitude), _fold(np.abs), exact=True),
    "Neg": Operator(infer_same, _elementwise(dims.negative), _fold(np.negative, "if"), exact=True),
    "Sign": Operator(infer_same, fold=_fold(np.sign, ordered=True), exact=True),
    "Floor": _unary(np.floor, exact=True),
    "Ceil": _unary(np.ceil, exact=True),
    "Round": _unary(np.rint, exact=True),
    "Sqrt": _unary(np.sqrt),
    "Reciprocal": _unary(_reciprocal),
    "Relu": Operator(infer_same, fold=_fold(_rectify, ordered=True), exact=True),
    "Not": Operator(infer_same, _elementwise(dims.negation), _fold(np.logical_not, "b"), exact=True),
    "Exp": _unary(np.exp),
    "Log": _unary(np.log),
    "Tanh": _unary(np.tanh),
    "Sigmoid": _unary(_sigmoid),
    "Clip": Operator(infer=infer_same, fold=_fold_clip, exact=True),
    "Add": _binary(np.add, operator.add),
    "Sub": _binary(np.subtract, operator.sub),
    "Mul": _binary(np.multiply, operator.mul),
    "Div": _binary(_divide, dims.quotient),
    "Mod": Operator(infer_broadcast, _elements_mod, _fold_mod, exact=True),
    "Pow": Operator(infer=_infer_power, fold=_fold(_power)),
    "Max": _extreme(np.maximum, dims.largest),
    "Min": _extreme(np.minimum, dims.smallest),
    "Sum": Operator(infer=infer_broadcast, fold=_fold(_variadic(np.add), "f")),
    "Mean": Operator(infer=infer_broadcast),
    "And": _comparison(np.logical_and, dims.both, "b"),
    "Or": _comparison(np.logical_or, dims.either, "b"),
    "Xor": _comparison(np.logical_xor, dims.not_both_alike, "b"),
    "Equal": _comparison(np.equal, dims.equal, "biufO"),
    "Less": _comparison(np.less, dims.less),
    "LessOrEqual": _comparison(np.less_equal, dims.less_or_equal),
    "Greater": _comparison(np.greater, dims.greater),
    "GreaterOrEqual": _comparison(np.greater_equal, dims.greater_or_equal),
    "IsNaN": Operator(_infer_bool, fold=_fold(np.isnan, "f"), exact=True),
    "IsInf": Operator(_infer_bool, fold=_fold_is_inf, exact=True),
    "BitwiseAnd": _binary(np.bitwise_and, kinds="iu"),
    "BitwiseOr": _binary(np.bitwise_or, kinds="iu"),
    "BitwiseXor": _binary(np.bitwise_xor, kinds="iu"),
    "BitShift": Operator(infer_broadcast, fold=_fold_shift, exact=True),
    "Where": Operator(infer=_infer_where, elements=_elementwise(dims.select), fold=_fold_where, exact=True),
    "Cast": Operator(infer=_infer_cast, elements=_elements_cast, fold=_fold_cast, exact=True),
    "CastLike": Operator(infer=_infer_cast_like, elements=_elements_cast, fold=_fold_cast, exact=True),
    "Identity": Operator(infer_same, elements_same, _fold_identity, exact=True),
}
