"""Which units go: as many as asked for, of each block as many, and never all."""

from __future__ import annotations

import numpy as np
import pytest

from planish.passes.prune.dependency import Group
from planish.passes.prune.removal import Removal
from planish.passes.prune.selection import Scope, select


def group(size: int, blocks: int = 1, name: str = "g") -> Group:
    return Group(name, size, (), np.arange(size) % blocks)


def gone(groups: list[Group], scores: list[list[float]], ratio: float, scope: Scope = "local") -> list[list[int]]:
    chosen = select(groups, [np.array(score, np.float64) for score in scores], ratio, scope=scope)
    Removal(groups, chosen)
    return [np.flatnonzero(part).tolist() for part in chosen]


def test_the_lowest_go_and_of_equals_the_first() -> None:
    assert gone([group(6)], [[3, 1, 1, 2, 1, 9]], 0.5) == [[1, 2, 4]]
    assert gone([group(4)], [[1, 1, 1, 1]], 0.5) == [[0, 1]]


def test_as_many_of_each_block() -> None:
    assert gone([group(6, 2)], [[0, 9, 1, 8, 2, 7]], 1 / 3) == [[0, 5]]


def test_one_threshold_for_all() -> None:
    assert gone([group(4), group(4)], [[1, 2, 3, 4], [10, 20, 30, 40]], 0.5, "global") == [[0, 1, 2], []]
    assert gone([group(4), group(4)], [[1, 2, 3, 4], [10, 20, 30, 40]], 1.0, "global") == [[0, 1, 2], [0, 1, 2]]


def test_units_without_an_opinion_stay() -> None:
    assert gone([group(4)], [[np.inf] * 4], 0.5) == [[]]
    assert gone([group(4), group(2)], [[1, 2, 3, 4], [np.inf] * 2], 1.0, "global") == [[0, 1, 2], []]


@pytest.mark.parametrize("ratio", [0.0, 0.3, 0.99, 1.0])
@pytest.mark.parametrize("size", [1, 2, 3, 8])
def test_one_stays_at_least(ratio: float, size: int) -> None:
    (found,) = gone([group(size)], [list(range(size))], ratio)
    assert len(found) == min(int(ratio * size + 0.5), size - 1)


def test_no_groups() -> None:
    assert gone([], [], 0.5) == []
    assert gone([], [], 0.5, "global") == []
