"""The manager runs passes in order, verifies, counts, lets others look on, and says who failed."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import numpy as np
import onnx
import pytest

from planish import ir, passes
from planish.ir import Graph, GraphError, Node, Value
from planish.ir.verify import verify
from planish.passes import (
    DumpEach,
    Fixpoint,
    Instrument,
    Pass,
    PassError,
    PassManager,
    Reproducer,
    VerifyEach,
    format_pipeline,
)
from planish.passes.manager import RulePass
from planish.passes.pattern import Op, Var
from planish.passes.rewrite import Contract, Match, Rule, rule
from planish.passes.run import Fp, Rewrite, Run
from planish.passes.simplify.fold_constants import FoldConstants
from planish.passes.simplify.remove_dead_nodes import RemoveDeadNodes
from planish.passes.simplify.remove_noops import RemoveNoops
from tests.equivalence import model

BODY = "a = Identity(x)  k = Add(w, w)  b = Mul(a, k)  dead = Exp(b)  c = Identity(b)  y = Neg(c)"
TEXT = f"g (float[N,2] x) => (float[N,2] y) <float[2] w = {{1, 2}}> {{ {BODY} }}"


@dataclass(frozen=True)
class Renames(Pass):
    """Replaces the first Neg by an Abs, rounds times over all turns."""

    name: ClassVar[str] = "renames"
    rounds: int = 1

    def run(self, graph: Graph, run: Run, start: Sequence[Node] | None = None) -> None:
        if len(run.rewrites) >= self.rounds:
            return
        for node in graph.nodes:
            if node.op in {"Neg", "Abs"} and not run.exhausted:
                made = Node("Abs" if node.op == "Neg" else "Neg", node.operands)
                graph.insert(made, before=node)
                made.result.type = node.result.type
                graph.replace_all_uses_with(node.result, made.result)
                graph.erase(node)
                run.log.append(made)
                run.record("rename", (node.label,), made.label)
                return


@rule(Op("Neg", (Var("x"),)), contract=Contract.APPROXIMATE)
def something_near(m: Match) -> Value | None:
    """Neg(x) -> Abs(x)"""
    return m.add("Abs", m.root.operands)


@dataclass(frozen=True)
class Approximates(RulePass):
    name: ClassVar[str] = "approximates"

    def rules(self) -> Sequence[Rule]:
        return (something_near,)


@dataclass(frozen=True)
class Notes(Pass):
    """Says something at every turn."""

    name: ClassVar[str] = "notes"

    def run(self, graph: Graph, run: Run, start: Sequence[Node] | None = None) -> None:
        run.note(f"{graph.nodes[-1].op} stays: it is no Conv")


@dataclass(frozen=True)
class Rounds(Approximates):
    name: ClassVar[str] = "rounds"
    lossy: ClassVar[bool] = True


@dataclass(frozen=True)
class Breaks(Pass):
    """Leaves an edge that goes backwards, or raises."""

    name: ClassVar[str] = "breaks"
    how: str = "order"

    def run(self, graph: Graph, run: Run, start: Sequence[Node] | None = None) -> None:
        last = graph.nodes[-1]
        if self.how == "raises":
            raise RuntimeError("out of luck")
        if self.how == "graph error":
            raise GraphError("does not look right", last)
        if self.how == "order":
            graph.set_operand(graph.nodes[0], 0, last.result)
        if self.how == "dangling":
            graph.set_operand(last, 0, Node("Exp", (graph.inputs[0],)).result)
        if self.how == "type":
            for node in graph.nodes:
                node.result.type = ir.TensorType(ir.DType.INT64, (3,))
            run.log.extend(graph.nodes)


@dataclass
class Watching(Instrument):
    """Writes down what it is told, and vetoes what it is to."""

    vetoed: str = ""
    told: list[str] = field(default_factory=list[str])

    def before(self, name: str, graph: Graph) -> bool:
        self.told.append(f"before {name}")
        return name != self.vetoed

    def after(self, name: str, graph: Graph, rewrites: Sequence[Rewrite]) -> None:
        self.told.append(f"after {name}: {len(rewrites)}")

    def failed(self, name: str, graph: Graph, error: PassError) -> None:
        self.told.append(f"failed {name}: {error}")


def graph(text: str = TEXT) -> Graph:
    return ir.load(model(text))


def test_records_count_what_each_pass_did() -> None:
    noops, folds, dead = passes.run(graph(), "remove-noops,fold-constants,remove-dead-nodes")
    assert [record.name for record in (noops, folds, dead)] == ["remove-noops", "fold-constants", "remove-dead-nodes"]
    assert [len(record.rewrites) for record in (noops, folds, dead)] == [2, 1, 2]
    assert [(r.nodes_before, r.nodes_after) for r in (noops, folds, dead)] == [(6, 4), (4, 3), (3, 2)]
    assert all(record.seconds > 0 for record in (noops, folds, dead))
    numbers = [rewrite.number for record in (noops, folds, dead) for rewrite in record.rewrites]
    assert numbers == [1, 2, 3, 4, 5]


def test_a_pass_in_two_places_has_two_records() -> None:
    records = passes.run(graph(), "remove-dead-nodes,remove-noops,remove-dead-nodes")
    assert [record.name for record in records] == ["remove-dead-nodes", "remove-noops", "remove-dead-nodes"]
    assert [len(record.rewrites) for record in records] == [1, 2, 0]


def test_a_fixpoint_has_one_record_a_pass_over_all_rounds() -> None:
    inside = graph("g (float[N] x) => (float[N] y) { a = Neg(x)  y = Exp(a) }")
    first, second = PassManager([Fixpoint((Renames(3), Renames(4)))]).run(inside)
    assert [len(record.rewrites) for record in (first, second)] == [2, 2]
    assert [node.op for node in inside.nodes] == ["Neg", "Exp"]


@pytest.mark.parametrize("rounds", [1, 2, 5])
def test_a_fixpoint_is_bounded(rounds: int) -> None:
    """Each of the two wakes the other for ever."""
    inside = graph("g (float[N] x) => (float[N] y) { a = Neg(x)  y = Exp(a) }")
    watching = Watching()
    records = PassManager([Fixpoint((Renames(98), Renames(99)), rounds)], instruments=[watching]).run(inside)
    assert [len(record.rewrites) for record in records] == [rounds, rounds]
    assert watching.told.count("before renames") == 2 * rounds


def test_a_fixpoint_ends_when_a_round_changes_nothing() -> None:
    watching = Watching()
    PassManager([Fixpoint((RemoveNoops(), FoldConstants()))], instruments=[watching]).run(graph())
    assert watching.told.count("before fold-constants") == 1, "what noops did lies before its first turn"
    assert watching.told.count("before remove-noops") == 2


@pytest.mark.parametrize("limit", range(7))
def test_the_limit_holds_across_passes(limit: int) -> None:
    inside = graph()
    records = passes.run(inside, "remove-noops,fold-constants,remove-dead-nodes", limit=limit)
    assert sum(len(record.rewrites) for record in records) == min(limit, 5)
    verify(inside)


def test_a_veto_leaves_a_pass_out() -> None:
    watching, inside = Watching("fold-constants"), graph()
    records = passes.run(inside, "remove-noops,fold-constants", instruments=[watching])
    assert [len(record.rewrites) for record in records] == [2, 0]
    assert watching.told == ["before remove-noops", "after remove-noops: 2", "before fold-constants"]


def test_every_instrument_is_asked_although_one_says_no() -> None:
    first, second = Watching("remove-noops"), Watching()
    passes.run(graph(), "remove-noops", instruments=[first, second])
    assert second.told == ["before remove-noops"]


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("raises", "pass breaks: RuntimeError: out of luck"),
        ("graph error", "pass breaks, node 'y': does not look right"),
        ("order", "read before it is made"),
        ("dangling", "read before it is made, or from another graph"),
        ("type", "pass breaks, node 'a': .*recorded as int64"),
    ],
)
def test_a_broken_pass_is_caught_at_once(how: str, message: str) -> None:
    """Under verify-each the very pass is named, and what follows does not run."""
    watching = Watching()
    with pytest.raises(PassError, match=message) as caught:
        PassManager([Breaks(how), RemoveDeadNodes()], instruments=[VerifyEach(), watching]).run(graph())
    assert caught.value.pass_name == "breaks"
    assert [line.split(":")[0] for line in watching.told] == ["before breaks", "failed breaks"]


@pytest.mark.parametrize("how", ["order", "dangling"])
def test_a_broken_graph_does_not_get_out(how: str) -> None:
    """Without verify-each the end notices."""
    with pytest.raises(PassError, match="verification after the last pass"):
        PassManager([Breaks(how)]).run(graph())


def test_a_broken_graph_does_not_get_in() -> None:
    inside = graph()
    Breaks().run(inside, Run())
    with pytest.raises(PassError, match="verification before the first pass"):
        passes.run(inside, "remove-noops")


def test_a_failed_verification_shows_the_node_and_its_neighbours() -> None:
    with pytest.raises(PassError) as caught:
        PassManager([Breaks()], instruments=[VerifyEach()]).run(graph())
    assert caught.value.node is not None
    assert caught.value.node.label == "a"
    assert isinstance(caught.value.__cause__, GraphError)


def test_the_reproducer_leaves_what_is_needed(tmp_path: Path) -> None:
    inside = graph()
    with pytest.raises(PassError):
        PassManager([RemoveNoops(), Breaks("raises")], instruments=[Reproducer(tmp_path / "bundle")]).run(inside)
    before = onnx.load_model_from_string((tmp_path / "bundle" / "before.onnx").read_bytes())
    assert [node.op_type for node in before.graph.node] == ["Add", "Mul", "Exp", "Neg"], (
        "as it was before the pass that failed"
    )
    told = (tmp_path / "bundle" / "failure.txt").read_text()
    assert "pass breaks: RuntimeError: out of luck" in told
    assert "--pipeline breaks" in told


def test_the_reproducer_leaves_nothing_where_nothing_failed(tmp_path: Path) -> None:
    passes.run(graph(), "simplify", instruments=[Reproducer(tmp_path / "bundle")])
    assert list(tmp_path.iterdir()) == []


def test_dumps_are_numbered(tmp_path: Path) -> None:
    passes.run(graph(), "remove-noops,fuse-gemm-bn,fold-constants", instruments=[DumpEach(tmp_path / "dumps")])
    assert sorted(path.name for path in (tmp_path / "dumps").iterdir()) == [
        "001-remove-noops.txt",
        "003-fold-constants.txt",
    ]
    first = (tmp_path / "dumps" / "001-remove-noops.txt").read_text()
    assert "Identity" not in first
    assert "Add" in first


def test_options_are_those_that_differ() -> None:
    assert FoldConstants().options == {}
    assert FoldConstants(growth=5).options == {"growth": 5}


def test_stages_may_be_passes() -> None:
    records = passes.run(graph(), [RemoveNoops(), Fixpoint((RemoveDeadNodes(),))])
    assert [record.name for record in records] == ["remove-noops", "remove-dead-nodes"]


def lossy() -> Iterator[str]:
    return (name for name, kind in passes.PASSES.items() if kind.lossy)


def test_no_named_pipeline_gives_up_accuracy() -> None:
    assert not any(name in format_pipeline(stages) for name in lossy() for stages in passes.PIPELINES.values())


@pytest.mark.parametrize(("fp", "fires"), [("strict", False), ("default", True), ("fast", True)])
def test_a_lossy_pass_runs_where_it_is_named_but_not_under_strict(fp: Fp, fires: bool) -> None:
    """Its approximate rules fire by default; those of a pass that pipelines hold need --fp fast."""
    for stage, fired in ((Rounds(), fires), (Approximates(), fp == "fast")):
        inside = graph("g (float[N] x) => (float[N] y) { y = Neg(x) }")
        (record,) = passes.run(inside, (stage,), fp=fp)
        assert bool(record.rewrites) is fired


def test_what_a_pass_says_stands_in_its_record_once() -> None:
    inside = graph("g (float[N] x) => (float[N] y) { a = Neg(x)  y = Exp(a) }")
    noted, renamed, silent = passes.run(inside, (Fixpoint((Notes(), Renames(2))), RemoveDeadNodes()))
    assert noted.notes == ["Exp stays: it is no Conv"]
    assert renamed.notes == silent.notes == []


@pytest.mark.parametrize("name", passes.PASSES)
def test_an_empty_model(name: str) -> None:
    inside = ir.load(model("g (float[N] x) => (float[N] y) { y = Identity(x) }"))
    (record,) = passes.run(inside, name)
    assert record.rewrites == []
    assert (record.nodes_before, record.nodes_after) == (1, 1)


SCRIPT = """
import hashlib, sys
import onnx
from planish import ir, passes
graph = ir.load(onnx.load_model_from_string(open(sys.argv[1], "rb").read()))
records = passes.run(graph, "simplify,fuse")
rewrites = "\\n".join(str(rewrite) for record in records for rewrite in record.rewrites)
print(hashlib.sha256(ir.emit(graph).SerializeToString() + rewrites.encode()).hexdigest(), len(rewrites))
"""

WIDE = """g (float[N,4] x, bool q) => (float[A,B] y, float[N,4] z) <
    float[4] w = {1, 2, 3, 4}, float[4] u = {1, 2, 3, 4}, int64 zero = {0}, int64[1] axis = {0}, int64[1] m = {-1}
> {
    s = Shape(x)  n = Gather(s, zero)  n1 = Unsqueeze(n, axis)  t = Concat<axis = 0>(n1, m)
    a = Mul(x, w)  b = Mul(x, u)  c = Identity(a)  d = Add(c, b)  f = Reshape(d, t)
    h = Add(w, u)  i = Neg(h)  z = Mul(d, i)  e1 = Exp(z)  e2 = Sin(z)  e3 = Cos(e1)
    y = If(q) <then_branch = p () => (float[A,B] r) { k = Abs(f)  l = Add(w, u)  r = Neg(k) },
               else_branch = o () => (float[A,B] v) { v = Exp(f)  k = Exp(v) }>
}"""


@pytest.mark.slow
def test_the_order_of_hashes_does_not_show(tmp_path: Path) -> None:
    """Rewrites, their numbers and the bytes are the same whatever Python's seed for hashes."""
    path = tmp_path / "wide.onnx"
    path.write_bytes(model(WIDE).SerializeToString())
    found = {
        subprocess.run(
            [sys.executable, "-c", SCRIPT, str(path)],
            env={**os.environ, "PYTHONHASHSEED": str(seed)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in range(5)
    }
    assert len(found) == 1
    assert int(found.pop().split()[1]) > 100


def test_weights_of_the_caller_are_not_written_to() -> None:
    held = "float[2,2,1,1] w = {1, 2, 3, 4}, float k = {2}"
    source = model(f"g (float[1,2,2,2] x) => (float[1,2,2,2] y) <{held}> {{ c = Conv(x, w)  y = Mul(c, k) }}")
    before = source.SerializeToString()
    inside = ir.load(source)
    weight = next(value.constant for value in inside.initializers if value.name == "w")
    assert weight is not None
    array = weight.array().copy()
    passes.run(inside, "fuse")
    assert source.SerializeToString() == before
    np.testing.assert_array_equal(weight.array(), array)


def test_a_pass_does_not_run_again_on_what_it_left() -> None:
    class Counts(Instrument):
        def __init__(self) -> None:
            self.ran: list[str] = []

        def before(self, name: str, graph: Graph) -> bool:
            self.ran.append(name)
            return True

    counts = Counts()
    passes.run(graph(), "remove-noops,remove-noops,fold-constants,remove-noops", instruments=[counts])
    assert counts.ran[:2] == ["remove-noops", "fold-constants"], "nothing came between the first two"
