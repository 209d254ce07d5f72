"""Random valid models, drawn so that one that fails shrinks to a few nodes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import onnx
from hypothesis import strategies as st

from planish import ir
from planish.ir import Builder, DType, GraphError
from tests.fuzz.control import CONTROL, conditional
from tests.fuzz.idioms.activations import ACTIVATIONS
from tests.fuzz.idioms.arithmetic import ARITHMETIC
from tests.fuzz.idioms.attention import ATTENTION
from tests.fuzz.idioms.branches import BRANCHES
from tests.fuzz.idioms.images import IMAGES
from tests.fuzz.idioms.logic import LOGIC
from tests.fuzz.idioms.moves import MOVES
from tests.fuzz.idioms.normalizations import NORMALIZATIONS
from tests.fuzz.idioms.products import PRODUCTS
from tests.fuzz.idioms.recurrent import RECURRENT
from tests.fuzz.layers import LAYERS, affine_chain
from tests.fuzz.layouts import LAYOUTS, nothings, shape_arithmetic, slices, transposes
from tests.fuzz.operators import OPERATORS, Move, dropout, expand, filled, reduce, reshape, transpose
from tests.fuzz.writer import SHAPES, SkipError, Writer

IDIOMS: Mapping[Move, Sequence[str]] = {
    **ACTIVATIONS, **ARITHMETIC, **ATTENTION, **BRANCHES, **IMAGES, **LOGIC, **MOVES, **NORMALIZATIONS, **PRODUCTS,
    **RECURRENT,
}  # fmt: skip
AIMS: Mapping[Move, Sequence[str]] = {
    **IDIOMS,
    **dict.fromkeys((dropout, reduce, expand, reshape, transpose), ("remove-noops",)),
    affine_chain: ("fuse-conv-bn", "fuse-conv-transpose-bn", "fuse-conv-affine", "fuse-affine-conv"),
    conditional: ("inline-constant-if", "fold-constants"),
    filled: ("fold-constants",),
    nothings: ("remove-noops",),
    shape_arithmetic: ("fold-shapes", "fold-constants"),
    slices: ("merge-slices",),
    transposes: ("merge-transposes", "move-transposes"),
}
"""The passes that a move invites."""
FAMILIES: Sequence[Sequence[Move]] = (OPERATORS, tuple(IDIOMS), LAYOUTS, LAYERS, CONTROL)
_MIXES: Sequence[Sequence[int]] = (
    *((0, 1, 2, 3, 0, 1, 2, 3, 4), (0, 2, 2, 2), (1, 1, 0), (3, 3, 3, 0), (4, 0, 4, 2)),
    *((1, 1, 1, 2), (1,)),
)
_OPSETS = (21, 17, 23, 21, 20, 18, 23, 13, 15, 24)
_TYPES = (DType.FLOAT,) * 8 + (DType.DOUBLE, DType.INT64, DType.BOOL, DType.FLOAT16, DType.INT32, DType.UINT8)
MOST_MOVES = 14
_MOST_OUTPUTS = 5


@dataclass(frozen=True)
class Fuzzed:
    """smooth: no rounding of a float is made into a jump, so that rewrites that reassociate can be judged.

    aims: the passes that its idioms invite.
    """

    model: onnx.ModelProto
    smooth: bool
    aims: tuple[str, ...] = ()


def inviting(passes: Sequence[str]) -> tuple[Move, ...]:
    """The moves that invite any of these passes."""
    return tuple(move for move, aims in AIMS.items() if not set(aims).isdisjoint(passes))


@st.composite
def fuzzed(draw: st.DrawFn, most: int = MOST_MOVES, only: Sequence[Move] = ()) -> Fuzzed:
    """A model whose outputs are any of its values, an input, a constant, and some under two names.

    only: the moves that it may be made of; all by default.
    """
    smooth = draw(st.booleans())
    builder = Builder("fuzz", opset=draw(st.sampled_from(_OPSETS)))
    writer = Writer(draw, builder, smooth=smooth)
    first = draw(st.sampled_from(SHAPES[:6]))
    writer.keep(builder.input("x", DType.FLOAT, first))
    families = (only,) if only else [FAMILIES[place] for place in draw(st.sampled_from(_MIXES))]
    aims: dict[str, None] = {}
    moves = 0
    while moves < most and draw(st.integers(0, 99)) >= 8:
        aims.update(dict.fromkeys(draw(_steps(writer, families))))
        moves += 1
    _outputs(writer)
    return Fuzzed(ir.emit(builder.graph()), smooth, tuple(aims))


@st.composite
def _steps(draw: st.DrawFn, writer: Writer, families: Sequence[Sequence[Move]]) -> Sequence[str]:
    """One move, whole, so that shrinking can take it away whole; the passes that it invites."""
    if draw(st.integers(0, 99)) >= 92:
        shape, dtype = draw(st.sampled_from(SHAPES)), draw(st.sampled_from(_TYPES))
        writer.keep(writer.b.input(writer.name("x"), dtype, shape))
        return ()
    move = draw(st.sampled_from(draw(st.sampled_from(families))))
    try:
        move(writer)
    except (SkipError, GraphError):
        return ()
    return AIMS.get(move, ())


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
