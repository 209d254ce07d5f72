"""Budgets of time: by a table of operators, which a file holds."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from planish import ir, passes
from planish.ir import Builder, DType, Graph, Value
from planish.passes import PassError, PassRecord, PipelineError
from planish.passes.errors import CalibrationError
from planish.passes.prune.operator_call import EMPTY_RUN, Call, Shape, call_of
from planish.passes.prune.operator_table import MissingTimesError, OperatorTable, load_operator_table
from planish.passes.prune.prune_blocks import PruneBlocks
from planish.passes.prune.prune_channels import PruneChannels
from planish.passes.prune.prune_heads import PruneHeads
from planish.passes.prune.ratios import Ratios
from planish.passes.prune.selection import Scope
from tests.passes.prune.test_prune_blocks import tower
from tests.passes.prune.topologies import TOPOLOGIES, Net

_EMPTY = 0.25
Stage = PruneChannels | PruneBlocks


def wide() -> Graph:
    n = Net(("N", 3, 16, 16))
    x = n.op("Relu", n.conv(n.x, (3, 64)))
    x = n.op("Relu", n.conv(x, (64, 96), strides=(2, 2)))
    return n.head(n.op("Relu", n.conv(x, (96, 128), strides=(2, 2))), 128)


def seconds(call: Call) -> float:
    """As if each element of the first operand met each row of a second one; what has none takes no time."""
    shapes = [shape for shape in call.operands if shape]
    return float(np.prod(shapes[0])) * shapes[1][0] if len(shapes) > 1 else 0.0


def done(graph: Graph, stage: Stage) -> tuple[Graph, PassRecord]:
    """Run a pass with what it asks for, and nothing else."""
    table = {EMPTY_RUN: _EMPTY}
    lacking = failure(graph, with_table(stage, table))
    assert isinstance(lacking, MissingTimesError)
    table |= {call.key: seconds(call) + _EMPTY for call in lacking.calls}
    loaded = ir.load(ir.emit(graph))
    (record,) = passes.run(loaded, (with_table(stage, table),))
    return loaded, record


def with_table(stage: Stage, table: dict[str, float]) -> Stage:
    return replace(stage, times=OperatorTable(table))


def failure(graph: Graph, stage: Stage) -> BaseException | None:
    with pytest.raises(PassError) as found:
        passes.run(ir.load(ir.emit(graph)), (stage,))
    return found.value.__cause__


def time_of(graph: Graph) -> float:
    """Of a graph as it is, with the extents that passes assume; what runs behind a Conv is in it."""
    return sum(
        seconds(call)
        for node in ir.load(ir.emit(graph)).walk()
        if (call := call_of(node, shape_of)) is not None and node.op != "Relu"
    )


def shape_of(value: Value) -> Shape:
    return tuple([dim if isinstance(dim, int) else {"N": 1, "T": 128}[str(dim)] for dim in value.shape or ()])


def widths(graph: Graph) -> list[int]:
    shapes = [node.operands[1].shape for node in graph.walk() if node.op == "Conv" and node.operands[1] is not None]
    return [dim for shape in shapes if shape is not None and isinstance(dim := shape[0], int)]


@pytest.mark.parametrize("scope", ["local", "global"])
def test_the_fewest_units_that_get_there(scope: Scope) -> None:
    """Whole blocks, so that the time of what is left is that of the table."""
    for part in (0.9, 0.6, 0.3):
        stage = PruneChannels(latency=part, round_to=16, scope=scope)
        found, record = done(wide(), stage)
        assert record.rewrites
        assert time_of(found) / time_of(wide()) <= part
        left = [time_of(give_back(found, place)) for place in range(3) if widths(found)[place] < (64, 96, 128)[place]]
        assert max(left) / time_of(wide()) > part


def give_back(graph: Graph, place: int) -> Graph:
    """Of the convolution at a place 16 channels more stay."""
    gone = [whole - left for whole, left in zip((64, 96, 128), widths(graph), strict=True)]
    gone[place] -= 16
    loaded = ir.load(ir.emit(wide()))
    names = ("Conv_out", "Conv_out_1", "Conv_out_2")
    ratios = Ratios.from_mapping({name: float(count) for name, count in zip(names, gone, strict=True)})
    passes.run(loaded, (PruneChannels(ratios=ratios),))
    assert widths(loaded) == [whole - n for whole, n in zip((64, 96, 128), gone, strict=True)]
    return loaded


def test_the_first_that_fits_where_less_takes_longer() -> None:
    """As times that were measured may say: some counts of channels take four times as long as they should."""
    stage = PruneChannels(latency=0.9, round_to=16, keep="Conv_out_2")
    lacking = failure(wide(), with_table(stage, {}))
    assert isinstance(lacking, MissingTimesError)
    for slow, left in (((48,), 32), ((16, 32), 48)):
        shapes = [(1, count, 16, 16) for count in slow]
        table = {call.key: seconds(call) * (4 if call.operands[0] in shapes else 1) for call in lacking.calls}
        loaded = ir.load(ir.emit(wide()))
        passes.run(loaded, (with_table(stage, {EMPTY_RUN: 1e-9, **table}),))
        assert widths(loaded) == [left, 96, 128]


def test_blocks_and_heads() -> None:
    found, record = done(tower((1.0, 0.01, 0.02, 0.5)), PruneBlocks(latency=0.8))
    assert record.rewrites
    assert time_of(found) / time_of(tower((1.0, 0.01, 0.02, 0.5))) <= 0.8
    graph = TOPOLOGIES["attention"]()
    found, record = done(graph, PruneHeads(latency=0.9))
    assert record.rewrites
    assert time_of(found) < time_of(graph)


def test_what_is_not_there_is_said() -> None:
    with pytest.raises(PassError, match=r"latency=0\.5 takes times, which `planish profile-target MODEL --pipeline`"):
        passes.run(wide(), "prune-channels{latency=0.5}")
    lacking = failure(wide(), PruneChannels(latency=0.5, times=OperatorTable({EMPTY_RUN: 1.0}, "t.json")))
    assert "t.json: lacks the time of 'Conv " in str(lacking)
    assert "others: measure them by `planish profile-target MODEL --pipeline`" in str(lacking)
    with pytest.raises(PipelineError, match="prune-channels takes times with latency"):
        PruneChannels(macs=0.5, times=OperatorTable({}))
    with pytest.raises(PipelineError, match="takes latency above 0 and up to 1, not 2"):
        PruneBlocks(latency=2)
    with pytest.raises(PipelineError, match="not params and latency together"):
        PruneHeads(latency=0.5, params=0.5)


def test_out_of_reach_and_without_floats() -> None:
    stage = PruneChannels(latency=0.001, round_to=16)
    lacking = failure(wide(), with_table(stage, {}))
    assert isinstance(lacking, MissingTimesError)
    table = {EMPTY_RUN: _EMPTY, **{call.key: seconds(call) + _EMPTY for call in lacking.calls}}
    assert "latency=0.001 is out of reach: 0.0" in str(failure(wide(), with_table(stage, table)))
    b = Builder("doubles")
    x = b.input("x", DType.DOUBLE, ("N", 4))
    b.output("y", b.node("MatMul", (b.node("MatMul", (x, b.constant(np.ones((4, 8))))), b.constant(np.ones((8, 2))))))
    error = failure(b.graph(), with_table(PruneChannels(latency=0.5), {}))
    assert "cannot be told: of MatMul" in str(error)


def test_a_file(tmp_path: Path) -> None:
    path = tmp_path / "times.json"
    path.write_text(json.dumps({"target": {}, "seconds": {EMPTY_RUN: [1e-6], "Conv abc 1x2": [3e-6]}}))
    table = load_operator_table(path)
    assert table.measured == {EMPTY_RUN: 1e-6, "Conv abc 1x2": 3e-6}
    text = f'prune-channels{{latency=0.5,times="{path}"}}'
    assert passes.parse(passes.format_pipeline(passes.parse(text))) == passes.parse(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"seconds": []}',
        '{"seconds": {"a": 1}}',
        '{"seconds": {"a": [0]}}',
        '{"seconds": {"a": [true]}}',
    ],
)
def test_files_that_hold_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "t.json").write_text(text)
    with pytest.raises(CalibrationError, match=r"t\.json"):
        load_operator_table(tmp_path / "t.json")
