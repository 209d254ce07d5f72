"""A scale and a shift by constants, between convolutions, as one BatchNormalization."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from planish.ir import DType, Node, Value
from planish.passes.fuse.affine import Affine
from planish.passes.fuse.paths import Spread, arithmetic
from planish.passes.manager import RulePass
from planish.passes.pattern import Op
from planish.passes.rewrite import Contract, Match, Rule, rule

_IMAGE = 4
_EPSILON = 2.0**-8
"""Exact in every float type, as is its difference to one; cuDNN takes none below 1e-5."""
_ARITHMETIC = frozenset(("Add", "Sub", "Mul", "Div"))
_READERS = frozenset(("Conv", "ConvTranspose", "GlobalAveragePool"))


def _feeds_a_convolution(node: Node) -> bool:
    """Whether the result of arithmetic goes to a convolution, or to what stands beside one."""
    return node.result.rank == _IMAGE and any(user.op in _READERS for user in node.result.users)


outer = Op(tuple(_ARITHMETIC), where=_feeds_a_convolution)


@rule(outer, contract=Contract.REASSOCIATES, needs="intermediate results that do not overflow")
def scale_shift(m: Match) -> Value | None:
    """x * s + t, before a convolution -> BatchNormalization(x, s, t, 0, 1)

    One node instead of several, and one that runtimes keep in the memory layout of the convolutions around it.
    """
    found = arithmetic(m, m.root)
    if found is None:
        return None
    source, spread = found
    while source.has_one_use and source.producer is not None and source.producer.op in _ARITHMETIC:
        inner = arithmetic(m, source.producer)
        if inner is None:
            break
        m.cover(source.producer)
        source, spread = inner[0], _composed(inner[1], spread)
    channels = None if source.shape is None else source.shape[1]
    affine = spread.channels(channels) if isinstance(channels, int) and channels > 0 else None
    if affine is None or source.dtype is None:
        return m.decline("the constants are neither one number nor one a channel, or the channels are not known")
    if not m.covered and not np.any(affine.shift):
        return m.decline("one scale alone is as well off as it is")
    return _batch_norm(m, source, affine, source.dtype)


def _composed(first: Spread, second: Spread) -> Spread:
    return Spread(first.scale * second.scale, first.shift * second.scale + second.shift)


def _batch_norm(m: Match, source: Value, affine: Affine, dtype: DType) -> Value | None:
    none = np.zeros_like(affine.scale)
    parameters = {"scale": affine.scale, "shift": affine.shift, "mean": none, "variance": none + (1 - _EPSILON)}
    with np.errstate(over="ignore"):
        arrays = {name: part.astype(dtype.numpy) for name, part in parameters.items()}
    if not all(np.isfinite(array).all() for array in arrays.values()):
        return m.decline("scale or shift overflows its element type")
    constants = [m.constant(array, f"{m.root.result.name}_{name}") for name, array in arrays.items()]
    return m.add("BatchNormalization", (source, *constants), {"epsilon": _EPSILON})


@dataclass(frozen=True)
class FuseScaleShift(RulePass):
    """Make one BatchNormalization of a scale and a shift that a convolution behind them cannot absorb.

    For images, [N, C, H, W], with one number or one a channel. Runs behind fuse-affine-conv and fuse-conv-affine, which
    need no node at all.
    """

    name: ClassVar[str] = "fuse-scale-shift"

    def rules(self) -> Sequence[Rule]:
        return (scale_shift,)
