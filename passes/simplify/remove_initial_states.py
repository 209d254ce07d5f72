"""What a recurrent layer is given and would assume anyway: states of zeros to start from, sequences of full length."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import copysign
from typing import ClassVar

import numpy as np

from planish.ir import Node, Value
from planish.ir.dim import Dim
from planish.passes.manager import RulePass
from planish.passes.pattern import Op
from planish.passes.rewrite import Contract, Match, Rule, rule
from planish.passes.simplify.filled import filled

_RECURRENT = ("GRU", "LSTM", "RNN", "com.microsoft::DynamicQuantizeLSTM")
_DATA, _WEIGHTS, _LENGTHS, _STATES = 0, 2, 4, (5, 6)


@rule(Op(_RECURRENT), contract=Contract.EXACT)
def zero_state(m: Match) -> tuple[Value, ...] | None:
    """LSTM(x, w, r, b, , zeros, zeros) -> LSTM(x, w, r, b); GRU likewise, and RNN where its weights are finite"""
    zeros = [place for place in _STATES if _is_zero(filled(m.root.operand(place)))]
    if not zeros:
        return m.decline("a state is not zero, or not surely")
    if m.root.op == "RNN" and not _is_finite(m.root.operand(_WEIGHTS)):
        return m.decline("a runtime multiplies no state that is not there, and the weights may not be finite")
    return _without(m, zeros)


@rule(Op(_RECURRENT), contract=Contract.EXACT)
def full_length(m: Match) -> tuple[Value, ...] | None:
    """LSTM(x, w, r, b, lengths) whose every length is that of x -> LSTM(x, w, r, b); GRU and RNN likewise"""
    data, lengths = m.root.operand(_DATA), m.root.operand(_LENGTHS)
    if lengths is None:
        return None
    if data is None or data.shape is None or len(data.shape) != 3:
        return m.decline("the shape of what it reads is not known")
    layout = m.root.attribute("layout") or 0
    if not isinstance(layout, int) or filled(lengths) != data.shape[layout]:
        return m.decline("a sequence may be shorter than the others")
    return _without(m, [_LENGTHS])


def _without(m: Match, places: Sequence[int]) -> tuple[Value, ...]:
    operands = [None if place in places else operand for place, operand in enumerate(m.root.operands)]
    while operands[-1] is None:
        operands.pop()
    return m.add_node(Node(m.root.op, operands, m.root.attributes, len(m.root.results))).results


def _is_zero(found: Dim | float | None) -> bool:
    """Whether it is a zero of positive sign."""
    return isinstance(found, int | float) and found == 0 and copysign(1, found) == 1


def _is_finite(weights: Value | None) -> bool:
    tensor = None if weights is None else weights.constant
    return tensor is not None and bool(np.isfinite(tensor.array().astype(np.float64)).all())


@dataclass(frozen=True)
class RemoveInitialStates(RulePass):
    """Take from LSTM, GRU and RNN the initial states that are zero and the lengths that are full: both are the default.

    Exporters make them of the size of the batch, in several nodes for each layer.
    """

    name: ClassVar[str] = "remove-initial-states"

    def rules(self) -> Sequence[Rule]:
        return (zero_state, full_length)
