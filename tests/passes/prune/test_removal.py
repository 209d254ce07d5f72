"""A choice of units is held against what their groups allow."""

from __future__ import annotations

import numpy as np
import pytest

from planish.ir import DType, TensorType, Value
from planish.passes.prune.dependency import Group, Member
from planish.passes.prune.removal import Removal


def group(size: int, blocks: int = 1, *members: Member) -> Group:
    return Group("g", size, members, np.arange(size) % blocks)


def test_a_removal_that_empties_or_tilts_is_refused() -> None:
    with pytest.raises(ValueError, match="not all"):
        Removal([group(2)], [np.array([True, True])])
    with pytest.raises(ValueError, match="as many of each block"):
        Removal([group(4, 2)], [np.array([True, False, False, False])])
    with pytest.raises(ValueError, match="4 units, and 3 were judged"):
        Removal([group(4)], [np.zeros(3, np.bool_)])


def test_two_groups_on_one_axis() -> None:
    x = Value("x", TensorType(DType.FLOAT, (2, 6)))
    first = group(2, 1, Member(x, 1, np.array([0, 1, -1, -1, 0, -1])))
    second = group(2, 1, Member(x, 1, np.array([-1, -1, 0, 1, -1, -1])))
    removal = Removal([first, second], [np.array([True, False]), np.array([False, True])])
    for axis in (1, -1):
        positions = removal.positions(x, axis)
        assert positions is not None
        assert positions.tolist() == [1, 2, 5]
    assert removal.positions(x, 0) is None
    assert (removal.extent(x, 1), removal.extent(x, 0)) == (3, 2)
    assert dict(removal.values) == {x: (1,)}


def test_nothing_goes() -> None:
    assert Removal([], []).is_empty
    assert not Removal([group(3)], [np.zeros(3, np.bool_)]).values
