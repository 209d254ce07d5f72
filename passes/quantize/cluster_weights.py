"""Weights become a palette of a few numbers and a code of a few bits for each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

from planish.ir import Value
from planish.ir.types import DType
from planish.passes.errors import PipelineError
from planish.passes.manager import RulePass
from planish.passes.quantize.palette import palette
from planish.passes.quantize.weights import PRODUCT, finite, weights_of, with_weights
from planish.passes.rewrite import Contract, Match, Rule

_MOST_BITS = 8
_NEEDS = "weights that a few numbers stand for; measure the results"


def _clustered(options: ClusterWeights, codes: DType, m: Match) -> tuple[Value, ...] | None:
    """MatMul(x, w) -> MatMul(x, Gather(palette, Cast(codes))), and so for Conv, Gemm and recurrent operators"""
    made: dict[int, Value] = {}
    for position in weights_of(m.root):
        weight = _weight(options, codes, m, position)
        if weight is not None:
            made[position] = weight
    return with_weights(m, made) if made else None


def _weight(options: ClusterWeights, codes: DType, m: Match, position: int) -> Value | None:
    operand = m.root.operands[position]
    tensor = None if operand is None else operand.constant
    if operand is None or tensor is None or tensor.size < options.least:
        return m.decline("the weights are few; cluster-weights{least=...} says how many there must be")
    array = finite(m, position)
    if array is None:
        return m.decline("not all weights are finite")
    found = palette(array, 1 << options.bits)
    if tensor.size * codes.bits // 8 + found.numbers.nbytes >= tensor.nbytes:
        return m.decline("the codes would be as large as the weights")
    stored = m.constant(found.codes.astype(codes.numpy), f"{operand.name}_codes" if operand.name else "")
    numbers = m.constant(found.numbers, f"{operand.name}_palette" if operand.name else "")
    return m.add("Gather", (numbers, m.add("Cast", (stored,), {"to": int(DType.INT32)})))


@dataclass(frozen=True)
class ClusterWeights(RulePass):
    """Let the weights of products share a few numbers: a palette for each tensor, and for each weight a code.

    The file shrinks to the bits of the codes: 4, for palettes of up to 16 numbers, where the model's opset can be 21,
    else 8. ONNX Runtime looks the weights up when it opens the model, at every optimization level but the lowest, so
    that it runs as fast as before and takes as much memory. So does fold-constants, which must not come behind. The
    palette is found by k-means on the weights (Han et al. 2016, Deep Compression).

    bits: the palette has up to 2 ** bits numbers, 1 to 8. least: how many weights a tensor has, at least.
    """

    name: ClassVar[str] = "cluster-weights"
    lossy: ClassVar[bool] = True
    bits: int = 4
    least: int = 256

    def __post_init__(self) -> None:
        if not 1 <= self.bits <= _MOST_BITS:
            raise PipelineError(f"cluster-weights takes bits from 1 to {_MOST_BITS}, not {self.bits}")

    def rules(self) -> Sequence[Rule]:
        kinds = {"codes-of-4-bits": DType.UINT4, "codes-of-8-bits": DType.UINT8}
        return tuple(
            Rule(
                name, PRODUCT, Contract.APPROXIMATE, partial(_clustered, self, codes), _clustered.__doc__ or "", _NEEDS
            )
            for name, codes in kinds.items()
            if codes.bits >= self.bits
        )
