"""Every net runs, repeats for its seed, and comes out of the pipelines smaller and equal."""

from __future__ import annotations

import pytest

from planish import ir, passes, runtime
from planish.models.builders import BUILDERS
from planish.runtime.providers import Target

REMOVED = {
    "tutorial-cnn": {"Shape", "Gather", "Unsqueeze", "Concat", "Dropout"},
    "digits-cnn": {"BatchNormalization", "Shape", "Gather", "Unsqueeze", "Concat", "Dropout"},
    "residual-convnet": {"BatchNormalization"},
    "separable-convnet": {"BatchNormalization"},
    "transformer-block": {"Shape", "Unsqueeze", "Concat"},
    "branching-net": set[str](),
}


@pytest.mark.parametrize("name", BUILDERS)
def test_the_net_is_valid_and_the_same_for_its_seed(name: str) -> None:
    build = BUILDERS[name]
    ir.verify(build())
    once, again, other = (ir.emit(build(seed=seed)).SerializeToString(deterministic=True) for seed in (3, 3, 4))
    assert once == again != other


@pytest.mark.parametrize("name", BUILDERS)
def test_the_net_becomes_smaller_and_stays_equal(name: str) -> None:
    before, after = BUILDERS[name](), BUILDERS[name]()
    passes.run(after, "simplify,fuse")
    assert REMOVED[name] <= {node.op for node in before.walk()}
    assert not REMOVED[name] & {node.op for node in after.walk()}
    assert sum(1 for _ in after.walk()) < sum(1 for _ in before.walk())
    report = runtime.compare(before, after, target=Target(threads=1))
    assert report.equal, report.reason
    assert len(report.bindings) == 4
    assert all(run.verdict == "equal" for run in report.runs)
    assert report.notes == ()


def test_the_constant_branch_is_taken() -> None:
    graph = BUILDERS["branching-net"]()
    passes.run(graph, "simplify,fuse")
    assert [node.op for node in graph.nodes].count("If") == 1
