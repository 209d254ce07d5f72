"""The order of the simplification passes does not matter: they meet at a graph of the same size."""

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from planish import ir, passes
from planish.passes import Fixpoint
from planish.passes.manager import node_count
from planish.passes.simplify.remove_dead_nodes import RemoveDeadNodes
from tests.zoo_models import EVERY

ORDERS = 20
pytestmark = [pytest.mark.slow, pytest.mark.network]


@pytest.mark.parametrize("name", EVERY)
def test_every_order_reaches_the_same_size(name: str, bring: Callable[[str], Path]) -> None:
    path = bring(name)
    fixpoints = [stage for stage in passes.PIPELINES["simplify"] if isinstance(stage, Fixpoint)]
    fixpoint = max(fixpoints, key=lambda stage: len(stage.stages))
    graph = ir.load(path)
    passes.run(graph, "simplify")
    sizes = [node_count(graph)]
    for seed in range(ORDERS):
        stages = [*fixpoint.stages, RemoveDeadNodes()]
        random.Random(seed).shuffle(stages)
        graph = ir.load(path)
        passes.run(graph, (Fixpoint(tuple(stages), rounds=16),))
        sizes.append(node_count(graph))
    assert len(set(sizes)) == 1, sizes
