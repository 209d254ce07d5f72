"""Which axes of a Reshape hold the same elements, in every run."""

from __future__ import annotations

import pytest

from planish.ir.dim import Dim, symbol
from planish.ir.ops.channels.reshape import segments

_N, _H, _W = symbol("N"), symbol("H"), symbol("W")
Shape = tuple[Dim, ...]


@pytest.mark.parametrize(
    ("before", "after", "expected", "left"),
    [
        ((_N, 12, 8), (_N, 3, 4, 8), [([0], [0]), ([1], [1, 2]), ([2], [3])], []),
        ((_N, 3, 4, 8), (_N, 96), [([0], [0]), ([1, 2, 3], [1])], []),
        ((_N, 1, 12), (1, _N, 12, 1), [([0], [1]), ([2], [2])], []),
        ((4, 6), (2, 12), [([0, 1], [0, 1])], []),
        ((_N, 16, _H, _W), (_N, 16, _H * _W), [([0], [0]), ([1], [1]), ([2, 3], [2])], []),
        ((_N, 16, _H), (_N * 16, _H), [([0, 1], [0]), ([2], [1])], []),
        ((_N, 16, _H), (_N, 8, _H * 2), [([0], [0]), ([1, 2], [1, 2])], []),
        ((_N, 8), (_W, 8), [([1], [1])], [0]),
        ((_N, 0, 8), (_N, 8, 0), [], [0, 1, 2]),
        ((), (), [], []),
        ((1,), (), [], []),
    ],
)
def test_segments(before: Shape, after: Shape, expected: list[tuple[list[int], list[int]]], left: list[int]) -> None:
    assert segments(before, after) == (expected, left)
