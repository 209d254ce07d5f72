"""The driver: rules fire wherever they match, each rewrite is counted, and nothing is looked at without need."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx
import pytest

from planish import ir, passes
from planish.ir import Graph, Node, Value
from planish.ir.verify import verify
from planish.passes import PassError, PassManager
from planish.passes.manager import Fixpoint, RulePass
from planish.passes.pattern import Op, Var
from planish.passes.rewrite import Contract, Match, Replacement, Rule, rewrite, rule
from planish.passes.run import Run
from tests.equivalence import Inputs, agree, model, op_types, rewritten
from tests.passes.fuse.nets import net, normal, statistics

x = Var("x")


def swap(before: str, after: str, contract: Contract = Contract.EXACT) -> Rule:
    """A rule that replaces one operator of one operand by another."""

    def apply(m: Match) -> Value:
        return m.add(after, (m[x],))

    return Rule(f"{before}-to-{after}".lower(), Op(before, (x,)), contract, apply, f"{before}(x) -> {after}(x)")


@dataclass(frozen=True)
class Rules(RulePass):
    """A pass made of the given rules."""

    name: ClassVar[str] = "rules"
    given: tuple[Rule, ...] = ()

    def rules(self) -> Sequence[Rule]:
        return self.given


def chain(op: str, count: int) -> Graph:
    """`count` nodes of one operator in a row, then an Abs."""
    body = "  ".join(f"a{i + 1} = {op}(a{i})" for i in range(count))
    return ir.load(model(f"g (float[N] a0) => (float[N] y) {{ {body}  y = Abs(a{count}) }}"))


def ops(graph: Graph) -> list[str]:
    return [node.op for node in graph.walk()]


def test_a_rule_has_the_name_and_the_picture_of_its_function() -> None:
    @rule(Op("Relu", (x,)), contract=Contract.APPROXIMATE, needs="small numbers")
    def relu_of_nothing(m: Match) -> Value | None:
        """Relu(x) -> x"""
        return m[x]

    assert (relu_of_nothing.name, relu_of_nothing.summary) == ("relu-of-nothing", "Relu(x) -> x")
    assert (relu_of_nothing.contract, relu_of_nothing.needs) == (Contract.APPROXIMATE, "small numbers")


def test_every_rewrite_is_numbered() -> None:
    graph, run = chain("Neg", 5), Run(pass_name="here")
    rewrite(graph, [swap("Neg", "Exp")], run)
    assert ops(graph) == ["Exp"] * 5 + ["Abs"]
    assert [rewrite.number for rewrite in run.rewrites] == [1, 2, 3, 4, 5]
    assert str(run.rewrites[1]) == "#2 here/neg-to-exp: a2 -> a2"


@pytest.mark.parametrize("limit", range(7))
def test_the_limit_stops_after_so_many(limit: int) -> None:
    graph, run = chain("Neg", 5), Run(limit=limit)
    if limit:
        rewrite(graph, [swap("Neg", "Exp")], run)
    assert len(run.rewrites) == min(limit, 5)
    assert ops(graph).count("Exp") == min(limit, 5)
    verify(graph)


def test_what_a_rule_makes_is_looked_at_again() -> None:
    graph, run = chain("Neg", 3), Run()
    rewrite(graph, [swap("Exp", "Sin"), swap("Neg", "Exp")], run)
    assert ops(graph) == ["Sin", "Sin", "Sin", "Abs"]
    assert len(run.rewrites) == 6


def test_the_first_rule_that_fits_fires() -> None:
    graph, run = chain("Neg", 1), Run()
    rewrite(graph, [swap("Neg", "Exp"), swap("Neg", "Sin")], run)
    assert ops(graph) == ["Exp", "Abs"]


def test_rules_that_undo_each_other_are_stopped() -> None:
    with pytest.raises(PassError, match=r"pass endless.*its rules undo each other without end"):
        rewrite(chain("Neg", 2), [swap("Neg", "Exp"), swap("Exp", "Neg")], Run(pass_name="endless"))


def test_declining_leaves_no_trace() -> None:
    def decline(m: Match) -> Value | None:
        m.add("Exp", (m[x],))
        m.constant(np.zeros(3, np.float32))
        return m.decline("for the sake of it")

    graph, run = chain("Neg", 2), Run()
    before = ir.emit(graph).SerializeToString()
    rewrite(graph, [Rule("declines", Op("Neg", (x,)), Contract.EXACT, decline, "")], run)
    assert run.rewrites == []
    assert run.log == []
    assert ir.emit(graph).SerializeToString() == before
    assert all(value.has_one_use for node in graph.nodes for value in node.results)


@pytest.mark.parametrize("fp", ["strict", "default", "fast"])
def test_contracts_say_what_may_fire(fp: passes.Fp) -> None:
    rules = [
        swap("Neg", "Exp", Contract.EXACT),
        swap("Sin", "Cos", Contract.REASSOCIATES),
        swap("Tan", "Erf", Contract.APPROXIMATE),
    ]
    graph = ir.load(model("g (float[N] x) => (float[N] y) { a = Neg(x)  b = Sin(a)  c = Tan(b)  y = Abs(c) }"))
    records = PassManager([Rules(tuple(rules))], fp=fp).run(graph)
    assert len(records[0].rewrites) == {"strict": 1, "default": 2, "fast": 3}[fp]


def counting(counts: Counter[Node]) -> Callable[[Node], bool]:
    def count(node: Node) -> bool:
        counts[node] += 1
        return True

    return count


@pytest.mark.parametrize("length", [50, 400])
def test_the_cost_follows_nodes_and_rewrites(length: int) -> None:
    """Each node is looked at once, and again only where a rewrite happened beside it."""
    counts: Counter[Node] = Counter()
    picture = Op("Neg", (Op("Neg", (x,)),), where=counting(counts))
    graph, run = chain("Neg", length), Run()
    rewrite(graph, [Rule("two", picture, Contract.EXACT, lambda m: m[x], "Neg(Neg(x)) -> x")], run)
    assert len(run.rewrites) == length // 2
    assert ops(graph) == ["Abs"]
    assert counts.total() <= 2 * (length + 6 * len(run.rewrites))  # the quick test and the match both ask


@pytest.mark.parametrize("length", [50, 400])
def test_one_rewrite_among_many_nodes(length: int) -> None:
    counts: Counter[Node] = Counter()
    rules = [swap("Sin", "Cos"), Rule("never", Op("Neg", where=counting(counts)), Contract.EXACT, lambda _: None, "")]
    before = "  ".join(f"a{i + 1} = Neg(a{i})" for i in range(length))
    after = "  ".join(f"b{i + 1} = Neg(b{i})" for i in range(length))
    graph = ir.load(
        model(f"g (float[N] a0) => (float[N] y) {{ {before}  b0 = Sin(a{length})  {after}  y = Abs(b{length}) }}")
    )
    rewrite(graph, rules, Run())
    assert counts.total() <= 2 * (2 * length + 2)


def test_only_what_changed_is_looked_at_in_the_next_round() -> None:
    """Passes of a fixpoint start from what others did since, and from all that a picture can reach from there."""
    counts: Counter[Node] = Counter()
    first = Rules((Rule("looks", Op("Neg", where=counting(counts)), Contract.EXACT, lambda _: None, ""),))
    second = Rules((swap("Sin", "Neg"),))
    body = "  ".join(f"a{i + 1} = Neg(a{i})" for i in range(100))
    graph = ir.load(model(f"g (float[N] a0) => (float[N] y) {{ {body}  y = Sin(a100) }}"))
    PassManager([Fixpoint((first, second))]).run(graph)
    assert counts.total() <= 2 * 100 + 2 * 2
    made = next(node for node in graph.nodes if node.result is graph.outputs[0])
    assert counts[made] >= 1


def test_a_change_below_a_picture_wakes_its_root() -> None:
    """The weight becomes a constant after the fusion had its turn; its root reads the convolution, not the weight."""
    body = "k = Neg(w)  c = Conv(x, k)  y = BatchNormalization(c, s, o, m, v)"
    source = net(body, {"w": normal(6, 4, 1, 1), **statistics(6)}, "N,4,2,2", "N,6,2,2")
    graph = ir.load(source)
    passes.run(graph, "fixpoint(fuse-conv-bn,fold-constants)")
    assert op_types(ir.emit(graph).graph) == ["Conv"]


def test_a_reader_that_goes_wakes_the_root_above_the_next() -> None:
    """Abs(Sin(Neg(x))) was looked at before the Neg lost its other reader."""
    picture = Op("Abs", (Op("Sin", (Op("Neg", (x,)),)),))
    rules = [
        Rule("three", picture, Contract.EXACT, lambda m: m.add("Cos", (m[x],)), "Abs(Sin(Neg(x))) -> Cos(x)"),
        Rule("drops", Op("Exp"), Contract.EXACT, lambda m: m.add("Tan", (graph.inputs[0],)), "Exp(...) -> Tan(a)"),
    ]
    graph = ir.load(model("g (float[N] a) => (float[N] y, float[N] z) { n = Neg(a) s = Sin(n) y = Abs(s) z = Exp(n) }"))
    run = Run()
    rewrite(graph, rules, run)
    assert [made.rule for made in run.rewrites] == ["drops", "three"]
    assert ops(graph) == ["Cos", "Tan"]


def test_types_stay_up_to_date() -> None:
    """What is known after a rewrite is what would be known had the model been loaded so."""
    graph = ir.load(
        model(
            "g (float[N,4] x) => (float[A,B] y) <int64[1] one = {1}, int64[1] four = {4}, int64[1] m = {-1}> {"
            " k = Mul(one, four)  t = Concat<axis = 0>(m, k)  r = Reshape(x, t)  s = Shape(r)  y = Expand(r, s) }"
        )
    )
    passes.run(graph, "fold-constants")
    verify(graph)
    again = ir.load(ir.emit(graph))
    assert [str(value.type) for value in graph.outputs] == [str(value.type) for value in again.outputs]


NESTED = """g (float[N] x, bool c) => (float[N] y) {
    a = Neg(x)
    y = If(c) <then_branch = t () => (float[N] p) { b = Neg(a)  p = Abs(b) },
               else_branch = e () => (float[N] q) { q = If(c) <
                   then_branch = t2 () => (float[N] p2) { d = Neg(a)  p2 = Neg(d) },
                   else_branch = e2 () => (float[N] q2) { q2 = Abs(a) }
               > }>
}"""


def test_rules_fire_in_nested_graphs() -> None:
    graph = ir.load(model(NESTED))
    run = Run()
    rewrite(graph, [swap("Neg", "Exp")], run)
    verify(graph)
    assert ops(graph) == ["Exp", "If", "Exp", "Abs", "If", "Exp", "Exp", "Abs"]
    assert len(run.rewrites) == 4


def test_a_node_that_dies_takes_along_what_only_it_kept() -> None:
    graph = ir.load(
        model(
            "g (float[N] x) => (float[N] y) {"
            " r = RandomNormalLike(x)  a = Exp(r)  b = Neg(x)  c = Add(a, b)  d = Sub(c, c)  y = Abs(x) }"
        )
    )
    rewrite(graph, [Rule("drops", Op("Sub"), Contract.EXACT, lambda m: m.add("Exp", (graph.inputs[0],)), "")], Run())
    assert ops(graph) == ["RandomNormalLike", "Exp", "Abs"], "what is random stays"


def broken(apply: Callable[[Match], Replacement]) -> Rules:
    return Rules((Rule("breaks", Op("Neg", (x,)), Contract.EXACT, apply, "Neg(x) -> something wrong"),))


def of_another_type(m: Match) -> Value:
    return m.add("Cast", (m[x],), {"to": 7})


def of_another_shape(m: Match) -> Value:
    return m.add("Concat", (m[x], m[x]), {"axis": 0})


def of_another_graph(m: Match) -> Value:
    elsewhere = ir.load(model("g (float[4] x) => (float[4] y) { z = Exp(x)  y = Abs(z) }"))
    return m.add("Exp", (elsewhere.nodes[0].result,))


def made_too_late(m: Match) -> Value:
    late = Node("Exp", (m[x],))
    m.graph.insert(late)
    return m.add("Exp", (late.result,))


def of_wrong_operands(m: Match) -> Value:
    return m.add("MatMul", (m[x], m.constant(np.zeros((3, 3), np.float32))))


def raising(m: Match) -> Value:
    raise ValueError(f"no {m.root.op} here")


@pytest.mark.parametrize(
    ("apply", "message"),
    [
        (of_another_type, "recorded as|float"),
        (of_another_shape, "Add cannot broadcast an axis of 8 with one of 4"),
        (of_another_graph, "read before it is made, or from another graph"),
        (made_too_late, "read before it is made"),
        (of_wrong_operands, "rule breaks, node 'a': MatMul cannot multiply"),
        (raising, "pass rules, rule breaks, node 'a': ValueError: no Neg here"),
    ],
)
def test_a_broken_rule_is_caught(apply: Callable[[Match], Replacement], message: str) -> None:
    graph = ir.load(model("g (float[4] x) => (float[4] y) { a = Neg(x)  b = Abs(a)  y = Add(a, b) }"))
    with pytest.raises(PassError, match=message) as caught:
        PassManager([broken(apply)]).run(graph)
    if apply in {of_another_type, of_another_shape, of_wrong_operands, raising}:
        assert caught.value.pass_name == "rules", "what is wrong around a rewrite is noticed when its pass is done"
        assert caught.value.node is not None
    if "rule breaks" in message:
        assert caught.value.rule == "breaks"


def test_a_replacement_that_only_renames_an_output_is_none() -> None:
    graph, run = ir.load(model("g (float[N] x) => (float[N] y) { y = Neg(x) }")), Run()
    rewrite(graph, [Rule("drops", Op("Neg", (x,)), Contract.EXACT, lambda m: m[x], "Neg(x) -> x")], run)
    assert run.rewrites == []
    assert ops(graph) == ["Neg"]


LIMITED = """g (float[N,4] x) => (float[A,B] y, float[N,4] z) <
    float[4] w = {1, 2, 3, 4}, float[4] u = {1, 2, 3, 4}, float k = {-0.0}, int64 zero = {0}, int64[1] axis = {0},
    int64[1] minus = {-1}, bool on = {1}
> {
    s = Shape(x)  n = Gather(s, zero)  n1 = Unsqueeze(n, axis)  t = Concat<axis = 0>(n1, minus)
    a = Mul(x, w)  b = Mul(x, u)  c = Identity(a)  d = Add(c, b)  e = Add(d, k)  f = Reshape(e, t)
    h = Add(w, u)  i = Neg(h)  z = Mul(d, i)  dead = Exp(z)
    y = If(on) <then_branch = p () => (float[A,B] r) { q = Abs(f)  r = Neg(q) },
                else_branch = o () => (float[A,B] v) { v = Exp(f) }>
}"""


def test_every_prefix_of_a_run_is_equivalent() -> None:
    """limit=N stops after the N-th rewrite, and each says the same as in the whole run."""
    source = model(LIMITED)
    whole = rewritten(source, "simplify", inputs=Inputs(refusals=True)).rewrites
    assert len(whole) >= 12
    assert [rewrite.number for rewrite in whole] == list(range(1, len(whole) + 1))
    for limit in range(len(whole) + 1):
        graph = ir.load(source)
        made = [rewrite for record in passes.run(graph, "simplify", limit=limit) for rewrite in record.rewrites]
        assert made == whole[:limit]
        assert agree(source, ir.emit(graph), Inputs(refusals=True), None) > 0


@pytest.mark.parametrize("pipeline", ["fuse", "simplify,fuse"])
def test_origins_name_the_nodes_of_the_loaded_model(pipeline: str) -> None:
    body = "c = Conv(x, w)  d = BatchNormalization(c, s, o, m, v)  e = Mul(d, k)  y = Relu(e)"
    source = net(body, {"w": normal(6, 4, 1, 1), **statistics(6), "k": normal(6, 1, 1)}, "N,4,2,2", "N,6,2,2")
    for node in source.graph.node:
        node.name = f"the {node.op_type}"
    graph = ir.load(source)
    passes.run(graph, pipeline)
    after = ir.emit(graph)
    assert origins(after) == {"Conv": ["the Conv", "the BatchNormalization", "the Mul"], "Relu": []}
    again = ir.load(after)
    passes.run(again, pipeline)
    assert origins(ir.emit(again)) == origins(after), "a second run keeps them"


def origins(proto: onnx.ModelProto) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for node in proto.graph.node:
        values = [entry.value for entry in node.metadata_props if entry.key == "planish.origin"]
        found[node.op_type] = sorted(values[0].split("\n"), key=_ORDER.index) if values else []
    return found


_ORDER = ["the Conv", "the BatchNormalization", "the Mul", "the Relu", "a", "b"]


def test_merged_nodes_come_from_both() -> None:
    found = rewritten(
        "g (float[N] x) => (float[N] y) { a = Exp(x)  b = Exp(x)  y = Sub(a, b) }", "merge-common-subexpressions"
    )
    assert origins(found.after)["Exp"] == ["a", "b"]
