"""Each mutation keeps uses right both ways, in nested graphs too, and refuses what would break the graph."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from planish.ir import Builder, DType, Graph, GraphError, Node, Use, Value, constant
from planish.ir.emit_names import encloses
from planish.ir.tensor import ArrayTensor


def check(graph: Graph) -> None:
    """Every use is counted where it is made, and nowhere else; neighbours agree; owners are known."""
    made: Counter[tuple[Value, Node]] = Counter()
    values: dict[Value, None] = {}
    stack = [graph]
    while stack:
        here = stack.pop()
        values |= dict.fromkeys((*here.inputs, *here.initializers))
        before = here.returns
        for node in (*here.nodes, here.returns):
            assert node.graph is here
            assert node.before is before
            assert before.after is node
            before = node
            made.update((operand, node) for operand in node.operands if operand is not None)
            values |= dict.fromkeys(operand for operand in node.operands if operand is not None)
            values |= dict.fromkeys(node.results)
            assert all(result.producer is node and result.graph is here for result in node.results)
            assert [result.index for result in node.results] == list(range(len(node.results)))
            assert all(nested.owner is node for nested in node.graphs)
            stack.extend(node.graphs)
        assert len(here) == len(here.nodes)
    for value in values:
        readers = {node: count for (read, node), count in made.items() if read is value}
        assert value.readers == readers
        assert set(value.users) == set(readers)
        assert value.is_used == bool(readers)
        assert value.has_one_use == (sum(readers.values()) == 1)
        assert sorted((id(use.user), use[1]) for use in value.uses) == sorted(
            (id(user), i) for user in readers for i, operand in enumerate(user.operands) if operand is value
        )


def chain() -> tuple[Graph, Value, Node, Node]:
    """x -> first -> second -> y, where second reads first twice."""
    b = Builder()
    x = b.input("x", DType.FLOAT, (2,))
    first = b.node("Relu", (x,), name="first")
    second = b.node("Add", (first, first), name="second")
    b.output("y", second)
    graph = b.graph()
    assert first.producer is not None
    assert second.producer is not None
    return graph, x, first.producer, second.producer


def nested() -> tuple[Graph, Node, Graph, Value]:
    """An If whose branches hold an If whose branches read `outside`, two levels up."""
    b = Builder()
    c = b.input("c", DType.BOOL, ())
    outside = b.node("Neg", (b.input("x", DType.FLOAT, (2,)),), name="outside", result="outside")
    then, other = b.body("then"), b.body("other")
    inner_then, inner_other = then.body("inner_then"), then.body("inner_other")
    inner_then.output("p", inner_then.node("Relu", (outside,), name="deep"))
    inner_other.output("q", outside)
    bodies = {"then_branch": inner_then.graph(), "else_branch": inner_other.graph()}
    then.output("r", then.node("If", (c,), bodies, name="inner"))
    other.output("s", other.node("Exp", (outside,)))
    y = b.node("If", (c,), {"then_branch": then.graph(), "else_branch": other.graph()}, name="outer")
    b.output("y", y)
    assert y.producer is not None
    return b.graph(), y.producer, inner_then.graph(), outside


def test_uses_are_slots() -> None:
    graph, x, first, second = chain()
    check(graph)
    assert first.result.uses == (Use(second, 0), Use(second, 1))
    assert first.result.users == (second,)
    assert second.result.users == (graph.returns,)
    assert x.has_one_use
    assert not first.result.has_one_use


def test_insert_puts_a_node_in_its_place() -> None:
    graph, x, first, second = chain()
    third, fourth, fifth = Node("Neg", (x,)), Node("Abs", (first.result,)), Node("Exp", (x,))
    graph.insert(third, before=first)
    graph.insert(fourth, before=second)
    graph.insert(fifth)
    assert graph.nodes == (third, first, fourth, second, fifth)
    assert x.users == (first, third, fifth)
    check(graph)


def test_inserting_a_node_again_moves_it() -> None:
    graph, _, first, second = chain()
    graph.insert(first)
    assert graph.nodes == (second, first)
    graph.insert(first, before=second)
    graph.insert(first, before=first)
    graph.insert(second, before=graph.returns)
    assert graph.nodes == (first, second)
    assert first.result.uses == (Use(second, 0), Use(second, 1))
    check(graph)


def test_a_node_moves_between_graphs() -> None:
    graph, owner, _, outside = nested()
    other = owner.subgraph("else_branch")
    (exp,) = other.nodes
    graph.insert(exp, before=owner)
    assert exp.graph is graph
    assert exp.result.graph is graph
    assert len(other) == 0
    assert other.outputs == (exp.result,)
    assert outside.users.count(exp) == 1
    check(graph)


def test_insert_refuses_a_place_in_another_graph() -> None:
    graph, owner, inner, _ = nested()
    (deep,) = inner.nodes
    stray = Node("Relu", (graph.inputs[1],))
    version = graph.version
    with pytest.raises(GraphError, match="cannot insert Relu before deep, which is not in this graph"):
        graph.insert(stray, before=deep)
    with pytest.raises(GraphError, match="cannot insert Neg before deep, which is not in this graph"):
        graph.insert(graph.nodes[0], before=deep)
    assert graph.version == version
    assert stray not in graph.inputs[1].users
    assert graph.nodes[1] is owner
    check(graph)


def test_set_operand_changes_one_slot() -> None:
    graph, x, first, second = chain()
    graph.set_operand(second, 1, x)
    assert second.operands == (first.result, x)
    check(graph)
    graph.set_operand(second, 0, None)
    assert second.operands == (None, x)
    assert not first.result.is_used
    check(graph)
    graph.set_operand(second, 0, x)
    assert x.uses == (Use(first, 0), Use(second, 0), Use(second, 1))
    check(graph)


def test_what_changes_nothing_is_no_change() -> None:
    graph, x, first, second = chain()
    version = graph.version
    graph.set_operand(second, 0, first.result)
    graph.replace_all_uses_with(x, x)
    graph.insert(first, before=first)
    assert graph.version == version


def test_replacing_reaches_nested_graphs_and_results() -> None:
    graph, owner, inner, outside = nested()
    x = graph.inputs[1]
    graph.replace_all_uses_with(outside, x)
    assert not outside.is_used
    assert inner.nodes[0].operands == (x,)
    assert inner.outputs == (inner.nodes[0].result,)
    (inner_if,) = owner.subgraph("then_branch").nodes
    assert inner_if.subgraph("else_branch").outputs == (x,)
    check(graph)
    graph.replace_all_uses_with(owner.result, x)
    assert graph.outputs == (x,)
    assert graph.output_names == ("y",)
    check(graph)


def test_replacing_by_a_value_that_is_read_already() -> None:
    graph, x, first, second = chain()
    graph.set_operand(second, 1, x)
    graph.replace_all_uses_with(first.result, x)
    assert second.operands == (x, x)
    check(graph)


def test_set_results() -> None:
    graph, x, first, second = chain()
    graph.set_results((x,))
    assert graph.outputs == (x,)
    assert not second.result.is_used
    check(graph)
    with pytest.raises(GraphError, match="has 1 outputs and was given 2"):
        graph.set_results((x, first.result))
    graph.set_results((x, x), ("a", "b"))
    assert graph.output_names == ("a", "b")
    check(graph)


def test_erase_refuses_what_is_read() -> None:
    graph, _, first, second = chain()
    for node in (first, second):
        with pytest.raises(GraphError, match=f"cannot erase {node.label}: its results are still read"):
            graph.erase(node)
    check(graph)
    graph.set_results((graph.inputs[0],))
    graph.erase(second)
    graph.erase(first)
    assert len(graph) == 0
    assert first.graph is None
    check(graph)


def test_erase_takes_nested_uses_along() -> None:
    graph, owner, _, outside = nested()
    graph.set_results((graph.inputs[1],))
    graph.erase(owner)
    assert not outside.is_used
    assert not graph.inputs[0].is_used
    check(graph)


def test_a_branch_outlives_the_node_that_it_moved_from() -> None:
    graph, owner, _, outside = nested()
    branches = {name: owner.subgraph(name) for name in ("then_branch", "else_branch")}
    again = Node("If", owner.operands, branches, name="again")
    graph.insert(again, before=owner)
    graph.replace_all_uses_with(owner.result, again.result)
    graph.erase(owner)
    assert branches["then_branch"].owner is again
    assert outside.is_used
    check(graph)


def test_erase_refuses_a_node_of_another_graph() -> None:
    graph, owner, inner, _ = nested()
    graph.set_results((graph.inputs[1],))
    with pytest.raises(GraphError, match="cannot erase outer: it is not in graph 'inner_then'"):
        inner.erase(owner)
    check(graph)


def test_erasing_constants() -> None:
    b = Builder()
    x = b.input("x", DType.FLOAT, (2,))
    scale = b.input("scale", DType.FLOAT, (1,), default=np.ones(1, np.float32))
    w, spare = (b.initializer(name, np.ones(2, np.float32)) for name in ("w", "spare"))
    b.output("y", b.node("Add", (x, w)))
    graph = b.graph()
    graph.erase(spare)
    assert list(graph.initializers) == [scale, w]
    with pytest.raises(GraphError, match="cannot erase the constant %w: it is still read"):
        graph.erase(w)
    for value in (scale, spare, constant(np.ones(1), "loose")):
        with pytest.raises(GraphError, match=f"cannot erase %{value.name}: it is no constant of graph 'graph'"):
            graph.erase(value)


def test_every_mutation_counts_on_the_root() -> None:
    graph, _, inner, outside = nested()
    x = graph.inputs[1]
    (deep,) = inner.nodes
    spare = graph.add_initializer("spare", ArrayTensor(np.ones(1)))
    changes: list[Callable[[], None]] = [
        lambda: inner.set_operand(deep, 0, x),
        lambda: graph.replace_all_uses_with(outside, x),
        lambda: inner.insert(Node("Neg", (x,))),
        lambda: inner.set_results((x,)),
        lambda: inner.erase(deep),
        lambda: graph.erase(spare),
    ]
    versions = [graph.version]
    for change in changes:
        change()
        versions.append(graph.version)
    assert versions == sorted(set(versions))


def test_the_graphs_around() -> None:
    graph, owner, inner, _ = nested()
    then = owner.subgraph("then_branch")
    assert inner.root is graph
    assert encloses(graph, inner)
    assert encloses(then, inner)
    assert not encloses(inner, then)
    assert not encloses(owner.subgraph("else_branch"), inner)
    assert not encloses(graph, None)
    assert [node.label for node in graph.walk()] == ["outside", "outer", "inner", "deep", "Exp"]


def test_the_nodes_may_change_while_they_are_walked() -> None:
    graph, x, *_ = chain()
    for node in graph.nodes:
        graph.replace_all_uses_with(node.result, x)
        graph.erase(node)
    assert graph.outputs == (x,)
    check(graph)


def test_names_of_unknown_extents_are_shared_with_nested_graphs() -> None:
    graph, _, inner, _ = nested()
    names = [graph.fresh_name(), inner.fresh_name(), graph.fresh_name(), Graph("later", outer=inner).fresh_name()]
    assert len(set(names)) == 4


def test_attributes_fall_back_on_the_schema() -> None:
    node = Node("Gemm", (), {"alpha": 2.0})
    assert (node.get_float("alpha"), node.get_float("beta"), node.get_int("transA")) == (2.0, 1.0, 0)
    assert Node("Conv").get_ints("pads") is None
    assert Node("Conv", (), {"pads": ()}).get_ints("pads") == ()
    with pytest.raises(GraphError, match="Gemm needs the attribute 'alpha' as str, and has"):
        node.get_str("alpha")
    with pytest.raises(GraphError, match="Conv needs the attribute 'group' as a list of ints, and has 1"):
        Node("Conv").get_ints("group")
    with pytest.raises(GraphError, match="If lacks its graph attribute 'then_branch'"):
        Node("If").subgraph("then_branch")


def test_an_error_shows_the_node_and_its_neighbours() -> None:
    graph, x, first, second = chain()
    second.origin = ("conv1", "bn1")
    with pytest.raises(GraphError) as raised:
        graph.erase(first)
    assert raised.value.message == "cannot erase first: its results are still read"
    assert str(raised.value).splitlines()[1:] == [
        "  > first: %Relu#0 = Relu(%x)",
        "    read by second: %Add#0 = Add(%Relu#0, %Relu#0)",
    ]
    assert "comes from conv1, bn1" in str(GraphError("wrong", second))
    assert str(x) == "%x"


class Mutations(RuleBasedStateMachine):
    """Any sequence of mutations leaves every use counted; the reference is what the operands say."""

    def __init__(self) -> None:
        super().__init__()
        self.graph, owner, self.inner, _ = nested()
        self.graphs = [self.graph, owner.subgraph("then_branch"), owner.subgraph("else_branch"), self.inner]

    def values(self) -> list[Value]:
        return [*self.graph.inputs, *(result for node in self.graph.walk() for result in node.results)]

    def alive(self) -> list[Graph]:
        return [g for g in self.graphs if g is self.graph or (g.owner is not None and encloses(self.graph, g))]

    @rule(data=st.data())
    def insert(self, data: st.DataObject) -> None:
        where = data.draw(st.sampled_from(self.alive()))
        operands = data.draw(st.lists(st.sampled_from([*self.values(), None]), min_size=1, max_size=3))
        where.insert(Node("Sum", operands), before=data.draw(st.sampled_from([None, where.returns, *where.nodes])))

    @rule(data=st.data())
    @precondition(lambda self: any(not node.graphs for node in self.graph.walk()))
    def move(self, data: st.DataObject) -> None:
        node = data.draw(st.sampled_from([node for node in self.graph.walk() if not node.graphs]))
        where = data.draw(st.sampled_from(self.alive()))
        where.insert(node, before=data.draw(st.sampled_from([None, *where.nodes])))

    @rule(data=st.data())
    def set_operand(self, data: st.DataObject) -> None:
        node = data.draw(st.sampled_from([g.returns for g in self.alive()] + list(self.graph.walk())))
        if node.operands:
            index = data.draw(st.integers(0, len(node.operands) - 1))
            self.graph.set_operand(node, index, data.draw(st.sampled_from(self.values())))

    @rule(data=st.data())
    def replace(self, data: st.DataObject) -> None:
        old, new = data.draw(st.tuples(st.sampled_from(self.values()), st.sampled_from(self.values())))
        self.graph.replace_all_uses_with(old, new)

    @rule(data=st.data())
    @precondition(lambda self: len(list(self.graph.walk())) > 0)
    def erase(self, data: st.DataObject) -> None:
        node = data.draw(st.sampled_from(list(self.graph.walk())))
        home = node.graph
        assert home is not None
        read = any(result.is_used for result in node.results)
        inside = {inner for g in node.graphs for inner in (*g.walk(), g.returns)}
        escaping = [v for inner in inside for v in inner.results if any(u not in inside for u in v.users)]
        if escaping:
            return  # a value of a body that is read outside of it: the verifier's business, not this test's
        if read:
            with pytest.raises(GraphError, match="still read"):
                home.erase(node)
        else:
            home.erase(node)

    @invariant()
    def every_use_is_counted(self) -> None:
        check(self.graph)


TestMutations = Mutations.TestCase
