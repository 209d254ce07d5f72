"""What several steps took of a group, by the name that it had first."""

from __future__ import annotations

from planish.runtime.pruning.candidate import GroupLoss
from planish.runtime.pruning.stage import first_name, joined


def test_names() -> None:
    names = ("a", "a_pruned", "a_pruned_pruned", "a_pruned#2", "_pruned_x")
    assert [first_name(name) for name in names] == ["a", "a", "a", "a#2", "_pruned_x"]


def test_losses_are_counted_from_the_first_model() -> None:
    before = (GroupLoss("a", 16, 4), GroupLoss("b", 8, 1))
    after = (GroupLoss("a_pruned", 12, 2), GroupLoss("c", 10, 5))
    assert joined(before, after) == (GroupLoss("a", 16, 6), GroupLoss("b", 8, 1), GroupLoss("c", 10, 5))
    assert joined((), ()) == ()


def test_heads_and_their_elements_are_counted_apart() -> None:
    before, after = (GroupLoss("a", 12, 4, True),), (GroupLoss("a_pruned", 8, 1, True), GroupLoss("a_pruned", 32, 8))
    assert joined(before, after) == (GroupLoss("a", 12, 5, True), GroupLoss("a", 32, 8))
