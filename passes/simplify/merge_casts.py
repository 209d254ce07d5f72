"""Casts in a row become one or none, where the type between them loses nothing that the last one keeps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

from planish.ir import DType, Value
from planish.passes.manager import RulePass
from planish.passes.pattern import Op, Var
from planish.passes.rewrite import Contract, Match, Rule, rule

x, like = Var("x"), Var("like")
first = Op("Cast", (x,), shared=True)
last = Op("Cast", (first,))


class _Format(NamedTuple):
    """Of a float type: the bits of its significand, and the exponents of its largest and its least subnormal number."""

    digits: int
    largest: int
    least: int


_FORMATS = {
    DType.FLOAT16: _Format(11, 16, -24),
    DType.BFLOAT16: _Format(8, 128, -133),
    DType.FLOAT: _Format(24, 128, -149),
    DType.DOUBLE: _Format(53, 1024, -1074),
}
_SIGNED = (DType.INT8, DType.INT16, DType.INT32, DType.INT64)
_UNSIGNED = (DType.UINT8, DType.UINT16, DType.UINT32, DType.UINT64)
_WHOLE = (*_SIGNED, *_UNSIGNED)
_SHORT = (DType.FLOAT16, DType.BFLOAT16)


@rule(last, contract=Contract.EXACT)
def cast_cast(m: Match) -> Value | None:
    """Cast(Cast(x)) -> Cast(x), or x where its type comes back"""
    source, middle, target = m[x].dtype, m[first].result.dtype, m.root.result.dtype
    if source is None or middle is None or target is None:
        return m.decline("the type of the operand is not known")
    if not _same_as_direct(source, middle, target):
        named = " to ".join(dtype.name.lower() for dtype in (source, middle, target))
        return m.decline(f"{named} is not the same for every number as a direct cast")
    if source is target:
        return m[x]
    if not m[first].result.has_one_use:
        return m.decline("the first Cast has other readers, so none would be saved")
    return m.add("Cast", (m[x],), m.root.attributes)


def _same_as_direct(source: DType, middle: DType, target: DType) -> bool:
    """Whether a cast by way of `middle` gives the bits of a direct one for every value.

    From floats to integers it must not matter what a runtime makes of numbers beyond them, and it does not where the
    runtime's own way leads over the type between: both float types of 16 bits are widened to float first.
    """
    if holds(middle, source):
        if target is source or target is DType.BOOL or target in _FORMATS:
            return True
        if target not in _WHOLE:
            return False
        if source in _FORMATS:
            return source in _SHORT and middle is DType.FLOAT
        return middle not in _FORMATS or holds(target, source)
    if source not in _WHOLE:
        return False
    if target is DType.BOOL:
        return middle in _FORMATS or (middle in _WHOLE and middle.bits >= source.bits)
    return middle in _WHOLE and target in _WHOLE and target.bits <= middle.bits


def holds(wide: DType, narrow: DType) -> bool:
    """Whether every value of `narrow` is one of `wide`, among numbers of 8 bits or more and booleans."""
    if wide is narrow or narrow is DType.BOOL:
        return wide in _FORMATS or wide in _WHOLE or wide is DType.BOOL
    if narrow in _WHOLE:
        value_bits = narrow.bits - (narrow in _SIGNED)
        if wide in _FORMATS:
            return value_bits <= _FORMATS[wide].digits
        fits = wide in _WHOLE and value_bits <= wide.bits - (wide in _SIGNED)
        return fits and (narrow in _UNSIGNED or wide in _SIGNED)
    if narrow not in _FORMATS or wide not in _FORMATS:
        return False
    a, b = _FORMATS[narrow], _FORMATS[wide]
    return a.digits <= b.digits and a.largest <= b.largest and a.least >= b.least


@rule(Op("CastLike", (x, like)), contract=Contract.EXACT)
def cast_like(m: Match) -> Value | None:
    """CastLike(x, like) -> Cast(x) to the type of `like`"""
    target = m[like].dtype
    if target is None:
        return m.decline("the type of the second operand is not known")
    if target not in _FORMATS and target not in _WHOLE and target is not DType.BOOL:
        return m.decline("the cast of this type has options that depend on the opset")
    return m.add("Cast", (m[x],), {"to": int(target)})


@dataclass(frozen=True)
class MergeCasts(RulePass):
    """Make one Cast of two, or none where the type comes back, and a Cast of a CastLike.

    Only where the type between holds every value of the first one, or where what it loses the last one loses too:
    float to double and back, int64 to int32 to int8, but neither float to float16 and back nor int64 by way of float.
    """

    name: ClassVar[str] = "merge-casts"

    def rules(self) -> Sequence[Rule]:
        return (cast_cast, cast_like)
