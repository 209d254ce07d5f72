"""What is held out is not fitted to, and the task says so."""

from __future__ import annotations

import pytest

from planish.models.tasks import load
from planish.runtime.pruning.held_out import HeldOut, apart, held_out, is_held_out
from planish.runtime.samples import Parts, parts_of


def test_the_second_of_three() -> None:
    assert [number for number in range(9) if is_held_out(number)] == [1, 4, 7]
    parts = held_out(parts_of([{} for _ in range(8)], None))
    assert [item[0] for part in parts.parts for item in part if isinstance(item, tuple)] == [1, 4, 7]


def test_of_one_sample_all_is_held_out() -> None:
    assert held_out(parts_of([{}], None)).count == 1


@pytest.mark.parametrize(
    ("count", "most", "judging"),
    [(1, 16, [0]), (2, 16, [1]), (3, 16, [1]), (7, 16, [1, 5]), (24, 2, [6, 18]), (24, 16, list(range(1, 24, 3)))],
)
def test_those_that_judge_are_no_others(count: int, most: int, judging: list[int]) -> None:
    found = [numbers(part) for part in apart(parts_of([{} for _ in range(count)], None), most)]
    assert found[1] == judging
    assert found[0] == ([number for number in range(count) if number not in judging] or [0])


def numbers(parts: Parts[object]) -> list[object]:
    return [item[0] for part in parts.parts for item in part if isinstance(item, tuple)]


def test_a_task_of_them_alone() -> None:
    task = load("digits")
    chosen = HeldOut(task, parts_of(task, 10))
    every = task.samples("calibration")
    assert chosen.places == [len(every) * index // 10 for index in (1, 4, 7)]
    assert [s.label for s in chosen.samples("calibration")] == [every[place].label for place in chosen.places]
    assert len(chosen.samples("test")) == len(task.samples("test"))
    assert chosen.reference() is None
