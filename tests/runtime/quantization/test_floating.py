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
from planish.runtime.quantization.floating import Group, groups, within
from planish.runtime.quantization.trials import Budget, Trial, Trials
from tests.equivalence import PLAIN
from tests.passes.quantize.topologies import Net


def planned(net: Net) -> tuple[Plan, Calibration]:
    graph = ir.load(ir.emit(net.b.graph()))
    feeds = [{"x": np.random.default_rng(0).standard_normal((1, 3, 8, 8)).astype(np.float32)}]
    seen = runtime.calibrate(graph, feeds, target=PLAIN)
    return QuantizeStatic(ranges=seen).plan(graph), seen


def test_a_group_is_what_makes_and_reads_a_tensor() -> None:
    net = Net()
    x = net.b.input("x", DType.FLOAT, (1, 3, 8, 8))
    first = net.relu(net.conv(x, 4))
    net.b.output("y", net.conv(net.op("Add", net.conv(first, 4), first), 4))
    plan, seen = planned(net)
    found = {group.nodes: group.work for group in groups(plan, seen)}
    one, two, total, last = [node.result.name for node in plan.forms]
    assert set(found) == {(one,), (two,), (last,), (one, two, total), (two, total), (total, last)}
    assert found[one,] == pytest.approx(3 / 11, abs=0.01)
    assert found[one, two, total] == pytest.approx(7 / 11, abs=0.01)


def test_nothing_to_quantize_has_no_groups() -> None:
    net = Net()
    net.b.output("y", net.op("Exp", net.b.input("x", DType.FLOAT, (1, 3, 8, 8))))
    assert groups(*planned(net)) == []


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


def everything(order: list[Group]) -> Callable[[Trials, Trial], list[Group]]:
    def ordered(trials: Trials, found: Trial) -> list[Group]:
        del trials, found
        return order

    return ordered


@pytest.mark.parametrize("least", [0, 1, 2, 3, 6, 7, 11, 40])
def test_no_more_than_is_needed(least: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    order = [Group((f"n{index}", f"n{index + 1}"), 0.1) for index in range(39)]
    monkeypatch.setattr(floating, "_ordered", everything(order))
    budget = Steps([], Target(), None, 0.5, 1.0, least=least)
    trials = Counted(tmp_path, tmp_path, [], References((), ()), Target(), None, silent)
    found, excluded = within(trials, budget, trials.trial(QuantizeStatic(), "whole"))
    needed = 0 if least == 0 else max(least, 2)  # a group has two, and the next one shares one of them
    assert budget.holds(found)
    assert excluded == tuple(f"n{index}" for index in range(needed))
    assert len(budget.tried) <= 2 * 7


def test_a_budget_out_of_reach_ends_with_everything_float(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    order = [Group((f"n{index}",), 0.1) for index in range(5)]
    monkeypatch.setattr(floating, "_ordered", everything(order))
    budget = Steps([], Target(), None, 0.5, 1.0, least=99)
    trials = Counted(tmp_path, tmp_path, [], References((), ()), Target(), None, silent)
    found, excluded = within(trials, budget, trials.trial(QuantizeStatic(), "whole"))
    assert not budget.holds(found)
    assert len(excluded) == 5
