"""The corpus of traps: no pass alone, and no pipeline, may change what one of its models means.

Each runs as it came and after every pass and pipeline, on hostile inputs with each dynamic dim 0, 1 and more. Where all
rules that fired are EXACT the bits must be the same, else ordinary numbers within rounding. Names, order, types and
shapes of inputs and outputs stay, the result is valid, and a second run changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx.checker import check_model  # pyright: ignore[reportUnknownVariableType]  os.PathLike of anything

from planish import ir, passes
from planish.ir import DType
from planish.passes.run import Fp
from planish.runtime.errors import SessionError
from planish.runtime.session import Feed, Result, Session
from tests.conformance.traps import Trap, kinds, traps
from tests.equivalence import EXACT_RULES, FAITHFUL, PLAIN, differences, feeds_for, same_interface
from tests.hostile import Kind, Limits

PIPELINES = ("simplify", "fuse", "deploy")
_ROUNDINGS = 300
_FEW = 8


class Run(NamedTuple):
    """Inputs of one kind, and what the model makes of them; None where it refuses them."""

    kind: Kind
    feeds: dict[str, Feed]
    results: list[Result] | None


@pytest.mark.parametrize("kind", kinds())
def test_the_models_are_valid_and_run(kind: str) -> None:
    for trap in traps(kind)[::_FEW]:
        assert any(run.results is not None for run in runs_of(trap, trap.model())), trap.name


@pytest.mark.parametrize("kind", kinds())
def test_deploy_changes_nothing_of_some(kind: str) -> None:
    assert [failure for trap in traps(kind)[::_FEW] for failure in failures(trap, ("deploy",))] == []


@pytest.mark.slow
@pytest.mark.parametrize("kind", kinds())
def test_no_pass_and_no_pipeline_changes_anything(kind: str) -> None:
    assert [failure for trap in traps(kind) for failure in failures(trap, (*FAITHFUL, *PIPELINES))] == []


def test_there_are_many() -> None:
    names = [trap.name for kind in kinds() for trap in traps(kind)]
    assert len(names) == len(set(names)) > 900


def test_a_wrong_rewrite_is_told() -> None:
    """The model of a trap, and one whose bits, shapes or names differ."""
    (trap,) = (trap for trap in traps("types-1") if trap.name == "add_add-int32")
    before = trap.model()
    after = onnx.ModelProto()
    after.CopyFrom(before)
    after.graph.node[1].op_type = "Add"
    assert list(wrong(Session(after.SerializeToString(), PLAIN), runs_of(trap, before), exact=True))
    assert not list(wrong(Session(before.SerializeToString(), PLAIN), runs_of(trap, before), exact=True))


def failures(trap: Trap, pipelines: Sequence[str]) -> Iterator[str]:
    """What each pipeline breaks, in words."""
    proto = trap.model()
    runs = runs_of(trap, proto)
    modes: tuple[Fp, ...] = ("strict",) if trap.is_strict else ("strict", "default")
    for fp in modes:
        for pipeline in pipelines:
            for failure in _after(trap, proto, pipeline, fp, runs):
                yield f"{trap.name}: {pipeline} --fp {fp}: {failure}"


def runs_of(trap: Trap, proto: onnx.ModelProto) -> list[Run]:
    session = Session(proto.SerializeToString(), PLAIN)
    inputs = trap.inputs
    found: list[Run] = []
    for kind in inputs.kinds:
        for feeds in feeds_for(proto, inputs, (kind,)):
            try:
                found.append(Run(kind, feeds, session.run(feeds)))
            except SessionError:
                found.append(Run(kind, feeds, None))
    return found


def _after(trap: Trap, proto: onnx.ModelProto, pipeline: str, fp: Fp, runs: Sequence[Run]) -> Iterator[str]:
    after, rules = _run(proto, pipeline, fp)
    if not rules and after.SerializeToString() == proto.SerializeToString():
        return
    if trap.is_checked:
        check_model(after, full_check=True)
    same_interface(proto, after, opset=False)
    again, more = _run(after, pipeline, fp)
    if more or again.SerializeToString() != after.SerializeToString():
        yield f"a second run does {more}, or writes other bytes"
    exact = EXACT_RULES.issuperset(rules)
    if fp == "strict" and not exact:
        yield f"not all of {rules} are exact"
    yield from (f"{rules} {text}" for text in wrong(Session(after.SerializeToString(), PLAIN), runs, exact=exact))


def _run(proto: onnx.ModelProto, pipeline: str, fp: Fp) -> tuple[onnx.ModelProto, list[str]]:
    graph = ir.load(proto)
    rules = [rewrite.rule for record in passes.run(graph, pipeline, fp=fp) for rewrite in record.rewrites]
    return ir.emit(graph), rules


def wrong(session: Session, runs: Sequence[Run], *, exact: bool) -> Iterator[str]:
    """Where a session gives other results: other bits, or what rounding does not explain of ordinary numbers."""
    for run in runs:
        if run.results is None or (run.kind != "ordinary" and not exact):
            continue
        shapes = {name: feed.shape for name, feed in run.feeds.items() if isinstance(feed, np.ndarray)}
        for place, (found, expected) in enumerate(zip(session.run(run.feeds), run.results, strict=True)):
            for text in differences(found, expected, None if exact else _bound):
                yield f"output {place} of {run.kind} {shapes}: {text}"


def _bound(expected: NDArray[np.generic]) -> NDArray[np.float64]:
    """Some roundings of the largest number among the results, or of 1."""
    sizes = np.abs(expected.astype(np.float64))
    largest = np.max(sizes, where=np.isfinite(sizes), initial=1.0)
    return np.full(sizes.shape, _ROUNDINGS * Limits.of(DType.of(expected)).epsilon * largest)
