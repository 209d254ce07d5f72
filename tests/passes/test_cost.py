"""What `deploy` looks at: in proportion to the nodes, and little where there is nothing to do; counted, not timed."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from planish import ir, passes
from planish.ir import Graph, Node
from planish.models.architectures import ARCHITECTURES, Exporter
from planish.passes.manager import Stage, node_count
from planish.passes.pattern import Op
from tests.bench.scale import build

DEPLOY = passes.PIPELINES["deploy"]
Count = Callable[[Graph, Sequence[Stage]], int]


@pytest.fixture
def attempts(monkeypatch: pytest.MonkeyPatch) -> Count:
    """How often a run tries a rule on a node, or a part of a rule's picture on a node beside it."""
    may_match = Op.may_match
    made = 0

    def counted(pattern: Op, node: Node) -> bool:
        nonlocal made
        made += 1
        return may_match(pattern, node)

    def count(graph: Graph, stages: Sequence[Stage]) -> int:
        nonlocal made
        made = 0
        passes.run(graph, stages)
        return made

    monkeypatch.setattr(Op, "may_match", counted)
    return count


def test_the_cost_grows_as_the_nodes_do(attempts: Count) -> None:
    """Each further layer costs what the one before it did."""
    few, some, many = (attempts(ir.load(build(layers)), DEPLOY) for layers in (8, 16, 64))
    layer = (some - few) / 8
    assert layer > 0
    assert many - some <= 1.01 * 48 * layer


@pytest.mark.parametrize(
    ("name", "exporter"), [("resnet50", "dynamo"), ("mobilenet-v3", "torchscript"), ("vit-small", "torchscript")]
)
def test_a_second_run_only_looks(name: str, exporter: Exporter, attempts: Count) -> None:
    """Each node a dozen times at most, by the rules of all passes together that could begin at it."""
    graph = ARCHITECTURES[name](exporter)
    first = attempts(graph, DEPLOY)
    graph = ir.load(ir.emit(graph))
    assert attempts(graph, DEPLOY) <= min(first, 12 * node_count(graph))


def test_a_pass_has_one_turn_where_nothing_changes(attempts: Count) -> None:
    """Fixpoints do not repeat, and in its further places in a pipeline a pass has nothing to look at."""
    graph = ARCHITECTURES["resnet50"]("torchscript")
    passes.run(graph, DEPLOY)
    assert attempts(graph, (*DEPLOY, *DEPLOY, *DEPLOY)) == attempts(graph, DEPLOY)
