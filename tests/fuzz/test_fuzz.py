"""Passes keep what random models mean; failures that were found stay fixed; and a wrong pass would be found."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, cast

import numpy as np
import onnx
import pytest
from hypothesis import Phase, given, reject, seed, settings
from onnx import printer

from planish import passes
from planish.ir import DType, Value
from planish.passes.manager import RulePass
from planish.passes.pattern import Op, Var
from planish.passes.rewrite import Contract, Match, Rule, rule
from planish.passes.run import Fp
from tests.equivalence import FAITHFUL, RefusedError
from tests.fuzz.campaign import REGRESSIONS, Campaign
from tests.fuzz.check import EVERY_PASS, WrongError, check
from tests.fuzz.generator import Fuzzed, fuzzed
from tests.fuzz.reduction import reduced
from tests.fuzz.worker import PATIENCE, failure, modes

OPEN: dict[str, str] = {}
"""Regressions that are not fixed yet, and how the kinds of their failures begin, which are passed over elsewhere."""
TOGETHER = (*passes.PIPELINES, "simplify,fuse", EVERY_PASS)
GENERATE = (Phase.generate,)  # `reduced` is quicker than hypothesis's own shrinking
FEW, ALONE, ALL = 40, 100, 200
PARTS = 8
TURNS = 5
_ROOT = Path(__file__).parents[2]


def hold(graphs: int, pipelines: Sequence[str], folder: Path, aims: Sequence[str] = ()) -> None:
    """Through worker processes, as some models kill ONNX Runtime as they come; the same models each time."""
    known = tuple(OPEN.values())
    campaign = Campaign(graphs, seed=0, only=tuple(pipelines), keep=folder, open=known, aims=tuple(aims))
    campaign.work()
    assert list(campaign.failures.values()) == []
    assert campaign.total.runs > graphs


def test_the_pipelines_on_a_few(tmp_path: Path) -> None:
    hold(FEW, (*passes.PIPELINES, "simplify,fuse"), tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("part", range(PARTS))
def test_each_pass_alone(part: int, tmp_path: Path) -> None:
    """On models of their own idioms: nearly each invites one of them."""
    alone = FAITHFUL[part::PARTS]
    hold(ALONE, alone, tmp_path, aims=alone)


@pytest.mark.slow
def test_all_passes_together(tmp_path: Path) -> None:
    hold(ALL, TOGETHER, tmp_path)


@pytest.mark.parametrize("path", sorted(REGRESSIONS.glob("*.onnx")), ids=lambda path: path.stem)
def test_what_was_found_stays_fixed(path: Path, request: pytest.FixtureRequest) -> None:
    if path.stem in OPEN:
        request.applymarker(pytest.mark.xfail(raises=WrongError, strict=True, reason=OPEN[path.stem]))
    proto = onnx.load_model_from_string(path.read_bytes())
    mode = next(entry.value for entry in proto.metadata_props if entry.key == "fuzz.fp")
    check(proto, (*TOGETHER, *FAITHFUL), cast("Fp", mode))


# What the fuzzer is worth: wrong passes that it must find

x = Var("x")


@rule(Op("Reshape"), contract=Contract.EXACT)
def forgets_a_shape(m: Match) -> Value | None:
    """Reshape(x, shape) -> x, where only the rank is the same"""
    operand = m.root.operands[0]
    return operand if operand is not None and operand.rank == m.root.result.rank else None


@rule(Op("Relu", (Op("Neg", (x,)),)), contract=Contract.EXACT)
def confuses_bounds(m: Match) -> Value | None:
    """Relu(Neg(x)) -> Neg(Relu(x))"""
    return m.add("Neg", (m.add("Relu", (m[x],)),))


@rule(Op("ReduceMean"), contract=Contract.REASSOCIATES)
def is_imprecise(m: Match) -> Value | None:
    """ReduceMean(x, axes) -> ReduceMean(x, axes) * 1.00003, once"""
    if m.root.result.dtype is not DType.FLOAT or any(user.op == "Mul" for user in m.root.result.users):
        return None
    mean = m.add("ReduceMean", m.root.operands, m.root.attributes)
    return m.add("Mul", (mean, m.constant(np.asarray(1.00003, np.float32))))


@rule(Op("RandomUniformLike"), contract=Contract.EXACT)
def removes_chance(m: Match) -> Value | None:
    """RandomUniformLike(x) -> Abs(x)"""
    return m.add("Abs", m.root.operands) if m.root.operands[0] is not None else None


WRONG = (forgets_a_shape, confuses_bounds, is_imprecise, removes_chance)


@pytest.mark.slow
@pytest.mark.parametrize("name", [wrong.name for wrong in WRONG])
def test_a_wrong_rule_is_found_and_shrunk(name: str) -> None:
    """In a process of its own: some models kill ONNX Runtime as they come, and then others are looked through."""
    died = 0
    for turn in range(1, TURNS + 1):
        command = [sys.executable, "-c", f"from tests.fuzz.test_fuzz import find; find({name!r}, {turn})"]
        ended = subprocess.run(command, cwd=_ROOT, capture_output=True, text=True, check=False)
        if ended.returncode >= 0:
            assert ended.returncode == 0, ended.stderr[-3000:]
            return
        died += 1
    pytest.fail(f"ONNX Runtime died {died} times")


def find(name: str, turn: int) -> None:
    """Fails unless the wrong rule of that name is found on the models of one seed, and shrunk."""
    (wrong,) = [rule for rule in WRONG if rule.name == name]

    @dataclass(frozen=True)
    class Wrong(RulePass):
        """A pass of that rule alone."""

        name: ClassVar[str] = "wrong"

        def rules(self) -> Sequence[Rule]:
            return (wrong,)

    found: list[tuple[onnx.ModelProto, str]] = []

    @seed(turn)
    @settings(max_examples=3000, deadline=None, database=None, phases=GENERATE, suppress_health_check=PATIENCE)
    @given(fuzzed())
    def search(case: Fuzzed) -> None:
        try:
            check(case.model, ("wrong",), modes(case)[0])
        except RefusedError:
            reject()
        except WrongError as error:
            found.append((case.model, error.kind))
            raise

    def alike(candidate: onnx.ModelProto) -> bool:
        """Smaller models may fail for reasons of their own."""
        error = failure(candidate, ("wrong",), "default")
        return error is not None and error.kind == found[-1][1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(passes, "PASSES", {**passes.PASSES, "wrong": Wrong})
        with pytest.raises(WrongError, match="wrong"):
            search()
        model = reduced(found[-1][0], alike)
    assert sum(node.op_type != "Constant" for node in model.graph.node) <= 6, printer.to_text(model)
