"""Random valid models, drawn so that one that fails shrinks to a few nodes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import onnx
from hypothesis import strategies as st

from planish import ir
from planish.ir import Builder, DType, GraphError
from tests.fuzz.control import CONTROL
from tests.fuzz.idioms import IDIOMS
from tests.fuzz.layers import LAYERS
from tests.fuzz.layouts import LAYOUTS
from tests.fuzz.operators import OPERATORS, Move
from tests.fuzz.writer import SHAPES, SkipError, Writer

FAMILIES: Sequence[Sequence[Move]] = (OPERATORS, IDIOMS, LAYOUTS, LAYERS, CONTROL)
_MIXES: Sequence[Sequence[int]] = ((0, 1, 2, 3, 0, 1, 2, 3, 4), (0, 2, 2, 2), (1, 1, 0), (3, 3, 3, 0), (4, 0, 4, 2))
_OPSETS = (21, 17, 20, 21, 23, 18, 20, 13, 15)
_TYPES = (DType.FLOAT,) * 8 + (DType.DOUBLE, DType.INT64, DType.BOOL, DType.FLOAT16, DType.INT32, DType.UINT8)
MOST_MOVES = 14
_MOST_OUTPUTS = 5


@dataclass(frozen=True)
class Fuzzed:
    """smooth: no rounding of a float is made into a jump, so that rewrites that reassociate can be judged."""

    model: onnx.ModelProto
    smooth: bool


@st.composite
def fuzzed(draw: st.DrawFn, most: int = MOST_MOVES) -> Fuzzed:
    """A model whose outputs are any of its values, an input, a constant, and some under two names."""
    smooth = draw(st.booleans())
    builder = Builder("fuzz", opset=draw(st.sampled_from(_OPSETS)))
    writer = Writer(draw, builder, smooth=smooth)
    first = draw(st.sampled_from(SHAPES[:6]))
    writer.keep(builder.input("x", DType.FLOAT, first))
    mix = draw(st.sampled_from(_MIXES))
    moves = 0
    while moves < most and draw(st.integers(0, 99)) >= 8:
        draw(_steps(writer, mix))
        moves += 1
    _outputs(writer)
    return Fuzzed(ir.emit(builder.graph()), smooth)


@st.composite
def _steps(draw: st.DrawFn, writer: Writer, mix: Sequence[int]) -> None:
    """One move, whole, so that shrinking can take it away whole."""
    if draw(st.integers(0, 99)) >= 92:
        shape, dtype = draw(st.sampled_from(SHAPES)), draw(st.sampled_from(_TYPES))
        writer.keep(writer.b.input(writer.name("x"), dtype, shape))
        return
    move = draw(st.sampled_from(FAMILIES[draw(st.sampled_from(mix))]))
    try:
        move(writer)
    except (SkipError, GraphError):
        return


def _outputs(writer: Writer) -> None:
    """What nothing reads yet, so that little is dead, and other values, which makes them shared."""
    unread = [value for value in writer.values if not value.is_used]
    chosen = [value for value in unread[::-1] if not writer.often(15)][:_MOST_OUTPUTS] or [writer.values[-1]]
    while writer.often(30):
        chosen.append(writer.pick())
    if writer.often(10):
        chosen.append(chosen[0])
    for index, value in enumerate(chosen):
        writer.b.output(f"o{index}", value)
