"""Which nodes go back to float: groups around tensors, in order of worth, and no more of them than the budget needs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from planish import ir, runtime
from planish.ir import DType
from planish.passes.quantize.calibration import Calibration
from planish.passes.quantize.plan import Plan
from planish.passes.quantize.quantize_static import QuantizeStatic
from planish.runtime.fidelity import Fidelity, References
from planish.runtime.progress import silent
from planish.runtime.providers import Target
from planish.runtime.quantization import floating
from planish.runtime.quantization.candidate import Candidate
from planish.runtime.quantization.coding_switches import Switch
from planish.runtime.quantization.floating import Group, groups, order, within, works
from planish.runtime.quantization.trials import Budget, Trial, Trials
from tests.equivalence import PLAIN
from tests.passes.quantize.topologies import Net


def planned(net: Net) -> tuple[Plan, Calibration]:
    graph = ir.load(ir.emit(net.b.graph()))
    feeds = [{"x": np.random.default_rng(0).standard_normal((1, 3, 8, 8)).astype(np.float32)}]
    seen = runtime.calibrate(graph, feeds, target=PLAIN)
    return QuantizeStatic(ranges=seen).plan(graph), seen


def tensor(plan: Plan, *names: str) -> Switch:
    return Switch("/".join(names), names, next(iter(plan.parameters.values())))


def weight(name: str) -> Switch:
    return Switch(f"weight/{name}", (name,), None)


def test_a_group_is_what_makes_and_reads_a_tensor() -> None:
    net = Net()
    x = net.b.input("x", DType.FLOAT, (1, 3, 8, 8))
    first = net.relu(net.conv(x, 4))
    net.b.output("y", net.conv(net.op("Add", net.conv(first, 4), first), 4))
    plan, seen = planned(net)
    one, two, total, last = [node.result.name for node in plan.forms]
    assert plan.made(next(iter(plan.forms)).result).name == first.name
    found = groups(plan, {tensor(plan, name): 1.0 for name in ("x", first.name, two, total)})
    assert found == [
        Group((one,), 1.0), Group((one, two, total), 1.0), Group((two, total), 1.0), Group((total, last), 1.0)
    ]  # fmt: skip
    assert groups(plan, {weight(two): 2.0}) == [Group((two,), 2.0)]  # though a tensor has that name, too
    assert groups(plan, {tensor(plan, two, total): 3.0}) == [Group((two, total, last), 3.0)]
    assert works(plan, seen) == pytest.approx({one: 3 / 11, two: 4 / 11, total: 0, last: 4 / 11}, abs=0.01)


def test_nothing_to_quantize_has_no_groups() -> None:
    net = Net()
    net.b.output("y", net.op("Exp", net.b.input("x", DType.FLOAT, (1, 3, 8, 8))))
    plan, seen = planned(net)
    assert groups(plan, {}) == []
    assert works(plan, seen) == {}


def test_what_saves_most_for_its_work_goes_first() -> None:
    work = {"a": 0.1, "b": 0.5, "c": 0.2, "d": 0.2}
    found = [Group(("a",), 1.0), Group(("b",), 2.0), Group(("c", "d"), 8.0)]
    assert order(found, work) == [("c", "d"), ("a",), ("b",)]


def test_beside_what_is_float_less_is_lost() -> None:
    """c alone is worth more than b, but where a is float already, only b is between a tensor and single precision."""
    work = {"a": 0.1, "b": 0.3, "c": 0.3}
    found = [Group(("a",), 9.0), Group(("a", "b"), 2.5), Group(("c",), 3.0), Group(("b",), 1.0)]
    assert order(found, work) == [("a",), ("b",), ("c",)]


def test_each_node_goes_once_and_noise_that_is_none_last() -> None:
    work = {"a": 0.0, "b": 0.0, "c": 1.0}
    steps = order([Group(("b", "c"), 0.0), Group(("a", "b"), 1.0), Group(("a",), 0.0)], work)
    assert steps == [("a", "b"), ("c",)]


@dataclass(frozen=True)
class Counted(Trials):
    """Trials whose noise and drop fall with every node that is excluded; the file's name says how many are."""

    def trial(self, quantizing: QuantizeStatic, name: str) -> Trial:
        count = len(quantizing.exclude.split("|")) if quantizing.exclude else 0
        return Trial(quantizing, Path(str(count)), Candidate(name, 0, Fidelity(1 / (1 + count), 1, 1), 9))

    def rounded(self, trial: Trial) -> Trial:
        return trial


@dataclass(frozen=True)
class Steps(Budget):
    """Holds from so many excluded nodes on."""

    least: int = 0

    def graded(self, trial: Trial) -> Trial:
        drop = float(int(trial.path.name) < self.least)
        self.tried.append(trial)
        return trial._replace(candidate=replace(trial.candidate, drop=drop))


@pytest.fixture
def ordered(monkeypatch: pytest.MonkeyPatch) -> Callable[[list[tuple[str, ...]]], None]:
    """Sets the order in which nodes go back, in place of one that is measured."""

    def given(steps: list[tuple[str, ...]]) -> None:
        def given_steps(_: Trials, __: QuantizeStatic) -> list[tuple[str, ...]]:
            return steps

        monkeypatch.setattr(floating, "steps", given_steps)

    return given


@pytest.mark.parametrize("least", [0, 1, 2, 3, 6, 7, 11, 40])
def test_no_more_than_is_needed(least: int, ordered: Callable[[list[tuple[str, ...]]], None], tmp_path: Path) -> None:
    ordered([("n0", "n1"), *((f"n{index}",) for index in range(2, 40))])
    budget = Steps([], Target(), None, 0.5, 1.0, least=least)
    trials = Counted(tmp_path, tmp_path, [], References((), ()), Target(), None, silent)
    found, excluded = within(trials, budget, trials.trial(QuantizeStatic(), "whole"))
    needed = 0 if least == 0 else max(least, 2)  # the first step has two
    assert budget.holds(found)
    assert excluded == tuple(f"n{index}" for index in range(needed))
    assert len(budget.tried) <= 2 * 7


def test_a_budget_out_of_reach_ends_with_everything_float(
    ordered: Callable[[list[tuple[str, ...]]], None], tmp_path: Path
) -> None:
    ordered([(f"n{index}",) for index in range(5)])
    budget = Steps([], Target(), None, 0.5, 1.0, least=99)
    trials = Counted(tmp_path, tmp_path, [], References((), ()), Target(), None, silent)
    found, excluded = within(trials, budget, trials.trial(QuantizeStatic(), "whole"))
    assert not budget.holds(found)
    assert len(excluded) == 5
