"""Facts about operators that decide whether half precision is enough for them."""

from __future__ import annotations

from planish.ir import Node, Value
from planish.ir.graph import RETURN

JUMPS = frozenset(("Ceil", "Floor", "Hardmax", "Mod", "Round", "Shrink", "Sign", "ThresholdedRelu"))
COORDINATES = frozenset(("AffineGrid", "MaxRoiPool", "RoiAlign"))
SIGNALS = frozenset(("DFT", "MelWeightMatrix", "STFT"))
SUMS = frozenset(("CumSum", "ReduceL1", "ReduceLogSum", "ReduceMean", "ReduceSum"))
SQUARES = frozenset(("GlobalLpPool", "LpNormalization", "LpPool", "ReduceL2", "ReduceSumSquare"))
_POWERS = frozenset(("Cosh", "Exp", "Pow", "ReduceLogSumExp", "ReduceProd", "Sinh"))
BOUNDED = frozenset(
    ("Cos", "Erf", "GroupNormalization", "HardSigmoid", "Hardmax", "InstanceNormalization", "LayerNormalization",
     "LpNormalization", "MeanVarianceNormalization", "RMSNormalization", "Sigmoid", "Sign", "Sin", "Softmax",
     "Softsign", "Tanh"),
)  # fmt: skip
"""Whose results are no larger for larger operands."""
_SINGULAR = frozenset(("Log", "Pow", "Reciprocal", "Sqrt"))
_STEPS = 6
_DIVISORS = {"BatchNormalization": (3, 4), "Div": (1,)}
_ADDENDS = {
    "Add": (0, 1),
    "BatchNormalization": (2, 3),
    "Conv": (2,),
    "ConvTranspose": (2,),
    "Gemm": (2,),
    "Sub": (0, 1),
}


_SPREADING = frozenset(("CumSum", "Mul", "ReduceL1", "ReduceProd", "ReduceSum", "ReduceSumSquare", *_POWERS))
_ENDING = frozenset(("Log", "Reciprocal", "ReduceLogSumExp", "Sqrt"))


def spreads(node: Node) -> bool:
    """Whether not only what is summed up, or raised to a power, may be far larger than the operands, but the result."""
    return grows(node) and node.op in _SPREADING - _ENDING


def shrinks(node: Node) -> bool:
    """Whether the result is of ordinary size though an operand is large."""
    return node.op in BOUNDED or node.op in _ENDING


def is_divisor(node: Node, position: int) -> bool:
    """Whether the result is no larger for a larger operand here: what divides, and a normalization's statistics."""
    return position in _DIVISORS.get(node.op, ())


def is_addend(node: Node, position: int) -> bool:
    """Whether an operand is added as it is, so that what rounding leaves of it is off by no more than it is small."""
    return position in _ADDENDS.get(node.op, ())


def divides(value: Value, steps: int = _STEPS) -> bool:
    """Whether a number, or what is made of it and of constants, divides another, or has its root or logarithm taken."""
    for use in value.uses:
        node = use.user
        if node.op in _SINGULAR or (node.op == "Div" and use.position == 1):
            return True
        alone = all(o is None or o is value or o.constant is not None for o in node.operands)
        if alone and node.op != RETURN and steps and any(divides(result, steps - 1) for result in node.results):
            return True
    return False


def grows(node: Node) -> bool:
    """Whether results, or what is summed up on the way to them, may be far larger than the operands."""
    if node.op == "Mul":
        return node.operands[0] is node.operands[1]
    if node.op == "Pow":
        return not _is_root(node.operands[1])
    return node.op in SUMS or node.op in SQUARES or node.op in _POWERS


def _is_root(exponent: Value | None) -> bool:
    """Whether an exponent is known to lie between -1 and 1."""
    power = None if exponent is None or exponent.constant is None else exponent.constant.uniform()
    return power is not None and abs(power) <= 1


def terms(node: Node) -> int | None:
    """How many elements go into one of the result, where both shapes are known."""
    operand = node.operands[0]
    types = (None if operand is None else operand.tensor_type, node.result.tensor_type)
    sizes = [1, 1]
    for place, type in enumerate(types):
        for dim in type.shape if type is not None and type.shape is not None else (None,):
            if not isinstance(dim, int):
                return None
            sizes[place] *= dim
    return sizes[0] if node.op == "CumSum" else sizes[0] // max(sizes[1], 1)
