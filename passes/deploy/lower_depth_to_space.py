"""Small blocks of pixels out of a convolution's channels, put in their places by a faster operator."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from planish.ir import Node, Value
from planish.passes.deploy.interleave import LARGEST, interleaved
from planish.passes.manager import RulePass
from planish.passes.pattern import Op, Var
from planish.passes.rewrite import Contract, Match, Rule, rule

_POINTWISE = frozenset(("Clip", "HardSigmoid", "HardSwish", "LeakyRelu", "Relu", "Sigmoid", "Tanh"))

x = Var("x")


@rule(Op("DepthToSpace", (x,)), contract=Contract.REASSOCIATES, needs="finite values; zeros may lose their sign")
def small_blocks(m: Match) -> Value | None:
    """DepthToSpace(x, k), x from a convolution -> ConvTranspose(x, w), stride k, w of ones and zeros"""
    factor, source = m.root.get_int("blocksize"), m[x]
    if factor > LARGEST:
        return m.decline(f"blocks of more than {LARGEST} pixels are no faster")
    if source.dtype is None or not source.dtype.is_float or source.shape is None or len(source.shape) != 4:
        return m.decline("its type is not known, or is no float")
    channels = source.shape[1]
    if not isinstance(channels, int):
        return m.decline("how many channels it has is not known")
    results = channels // (factor * factor)
    if m.root.get_str("mode") != "CRD" and results != 1:
        return m.decline("the channels of a pixel do not lie together: its mode is DCR")
    if not _comes_from_convolution(source.producer):
        return m.decline("what it reads may have no pixels, which a convolution refuses and this does not")
    return interleaved(m, source, results, factor)


def _comes_from_convolution(node: Node | None) -> bool:
    while node is not None and node.op in _POINTWISE:
        node = None if node.operands[0] is None else node.operands[0].producer
    return node is not None and node.op == "Conv"


@dataclass(frozen=True)
class LowerDepthToSpace(RulePass):
    """Make of a DepthToSpace behind a convolution a transposed convolution that only puts pixels in their places.

    For blocks of 2 and 3 pixels, as sub-pixel convolutions have them.
    """

    name: ClassVar[str] = "lower-depth-to-space"

    def rules(self) -> Sequence[Rule]:
        return (small_blocks,)
