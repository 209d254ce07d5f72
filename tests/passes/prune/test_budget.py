"""Budgets: what is left costs no more than it may, one step less would, and what cannot be had is an error."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from planish import ir, passes
from planish.ir import DType, Graph
from planish.ir.ops.cost import macs
from planish.passes import PassError, PassRecord, PipelineError
from planish.passes.prune.budget import EXTENT
from planish.passes.prune.preparation import prepare
from planish.passes.prune.prune_channels import PruneChannels
from planish.passes.prune.prune_heads import PruneHeads
from planish.passes.prune.removal import Removal
from planish.passes.prune.selection import Scope, removal_steps, select
from planish.passes.prune.slicing import slice_channels
from planish.passes.run import Run
from planish.runtime.cli import main
from tests.passes.prune import counted
from tests.passes.prune.random_nets import RandomNet
from tests.passes.prune.test_integers import convolutions, products
from tests.passes.prune.topologies import TOPOLOGIES, Net, u_net

EXTENTS = {"N": 1, "T": EXTENT, "H": EXTENT, "W": EXTENT}


def strided() -> Graph:
    """The first layers are costly and hold few weights, the last hold most of them."""
    n = Net(("N", 3, 32, 32))
    x = n.op("Relu", n.conv(n.x, (3, 16)))
    x = n.op("Relu", n.conv(x, (16, 32), strides=(4, 4)))
    return n.head(n.op("Relu", n.conv(x, (32, 64), strides=(4, 4))), 64)


def branches() -> Graph:
    """Convolutions within an If shrink by themselves, and count once each."""
    n = Net(("N", 3, 8, 8))
    x = n.conv(n.x, (3, 8))
    condition = n.b.input("c", DType.BOOL, ())
    bodies: list[Graph] = []
    for width in (12, 16):
        body = n.b.body(f"body{width}")
        w, v = (n.random.standard_normal(s).astype(np.float32) for s in ((width, 8, 3, 3), (4, width, 1, 1)))
        y = body.node("Relu", (body.node("Conv", (x, body.constant(w)), {"pads": (1, 1, 1, 1)}),))
        body.output(f"y{width}", body.node("Conv", (y, body.constant(v))))
        bodies.append(body.graph())
    y = n.b.node("If", (condition,), {"then_branch": bodies[0], "else_branch": bodies[1]})
    return n.end(n.op("Relu", y))


NETS: dict[str, Callable[[], Graph]] = {
    **{name: TOPOLOGIES[name] for name in ("residual", "inverted-residual", "grouped", "attention", "split-concat")},
    "strided": strided,
    "u-net": u_net,
    "branches": branches,
}


def done(graph: Graph, stage: PruneChannels) -> tuple[onnx.ModelProto, PassRecord]:
    loaded = ir.load(ir.emit(graph))
    (record,) = passes.run(loaded, (stage,))
    return ir.emit(loaded), record


def budgeted(option: str, part: float, *, scope: Scope = "local", round_to: int = 1) -> PruneChannels:
    macs, params, ratio = (part if name == option else None for name in ("macs", "params", "ratio"))
    return PruneChannels(macs=macs, params=params, ratio=ratio, scope=scope, round_to=round_to)


def cost(model: Graph | onnx.ModelProto, option: str, extents: Mapping[str, int] = EXTENTS) -> int:
    return counted.macs(model, extents) if option == "macs" else counted.parameters(model)


def step(graph: Graph, stage: PruneChannels, count: int) -> onnx.ModelProto:
    """With as much gone as so many steps take."""
    loaded = ir.load(ir.emit(graph))
    prepare(loaded, Run())
    groups = stage.find(loaded).groups
    scores = [stage.scores_of("", group) for group in groups]
    steps = removal_steps(groups, scores, scope=stage.scope, round_to=stage.round_to)
    gone = [max([s.gone for s in steps[:count] if s.place == place], default=0) for place in range(len(groups))]
    slice_channels(loaded, Removal(groups, select(groups, scores, [float(n) for n in gone])), Run())
    return ir.emit(loaded)


def extents_of(model: onnx.ModelProto) -> list[tuple[int, ...]]:
    """Of the weights of matrices and filters, in the order of the nodes."""
    values = [v for node in ir.load(model).walk() for v in node.operands if v is not None and (v.rank or 0) > 1]
    return [value.constant.shape for value in values if value.constant is not None]


def least(graph: Graph, stage: PruneChannels, option: str, part: float) -> onnx.ModelProto:
    """What is left after the fewest steps that get there, each made and counted."""
    whole = cost(graph, option)

    def fits(count: int) -> bool:
        return cost(step(graph, stage, count), option) / whole <= part

    return step(graph, stage, bisect_left(range(1000), True, key=fits))


@pytest.mark.parametrize("scope", ["local", "global"])
@pytest.mark.parametrize("option", ["macs", "params"])
@pytest.mark.parametrize("name", NETS)
def test_the_fewest_units_that_get_there(name: str, option: str, scope: str) -> None:
    graph = NETS[name]()
    for part in (0.9, 0.6):
        (stage,) = passes.parse(f"prune-channels{{{option}={part},scope={scope},merge-bias=false}}")
        assert isinstance(stage, PruneChannels)
        found, record = done(graph, stage)
        assert record.rewrites
        assert cost(found, option) / cost(graph, option) <= part
        assert extents_of(found) == extents_of(least(graph, stage, option, part))


def test_a_part_of_the_cost_is_no_part_of_the_channels() -> None:
    """Of costly and of large layers others go; neither is what the same ratio leaves."""
    found = {option: done(strided(), budgeted(option, 0.5))[0] for option in ("macs", "params", "ratio")}
    left = {name: (cost(model, "macs") / cost(strided(), "macs")) for name, model in found.items()}
    assert 0.4 < left["macs"] <= 0.5
    assert left["ratio"] < 0.4
    assert extents_of(found["macs"]) != extents_of(found["params"])


def test_new_biases_are_parameters_too() -> None:
    """What a unit holds moves into the bias of its reader, which has none yet and gets one."""
    n = Net(("N", 3, 4, 4))
    x = n.op("Relu", n.conv(n.x, (3, 8), 1))
    graph = n.end(n.op("Conv", x, n.weight(64, 8, 1, 1)))
    for part in np.linspace(0.9, 0.3, 13).tolist():
        merged, kept = (done(graph, PruneChannels(params=part, merge_bias=merge))[0] for merge in (True, False))
        assert counted.parameters(merged) / counted.parameters(graph) <= part
        assert counted.parameters(kept) / counted.parameters(graph) <= part
        assert extents_of(merged)[0] <= extents_of(kept)[0]


def test_biases_that_layers_share_part_where_one_changes() -> None:
    n = Net(("N", 3, 4, 4))
    shared = n.b.initializer("b", n.random.standard_normal(64).astype(np.float32))
    ends = [n.op("Conv", n.op("Relu", n.conv(n.x, (3, 8), 1)), n.weight(64, 8, 1, 1), shared) for _ in range(2)]
    graph = n.end(n.op("Add", *ends))
    for part in (0.95, 0.8, 0.5):
        found, _ = done(graph, PruneChannels(params=part))
        assert counted.parameters(found) / counted.parameters(graph) <= part


@pytest.mark.parametrize("net", [convolutions, products])
def test_codes_count_as_floats_do(net: Callable[..., Graph]) -> None:
    """Of quantized nets, whose units go by chance."""
    graph = net(each=True)
    for option in ("macs", "params"):
        found = ir.load(ir.emit(graph))
        passes.run(found, f"prune-channels{{{option}=0.6,importance=random}}")
        assert 0.4 < cost(found, option) / cost(graph, option) <= 0.6


def test_weights_that_layers_share_count_once() -> None:
    n = Net(("N", 12))
    w = n.b.initializer("w", n.random.standard_normal((12, 48)).astype(np.float32))
    x = n.op("Relu", n.op("MatMul", n.op("MatMul", n.op("Relu", n.op("MatMul", n.x, w)), n.weight(48, 12)), w))
    graph = n.end(n.op("Gemm", x, w, transB=1))
    found, _ = done(graph, PruneChannels(params=0.7))
    assert 0.65 < cost(found, "params") / cost(graph, "params") <= 0.7


@pytest.mark.parametrize("round_to", [4, 5, 8])
def test_what_stays_is_round(round_to: int) -> None:
    graph = strided()
    for option in ("macs", "params"):
        found, _ = done(graph, budgeted(option, 0.7, round_to=round_to))
        assert cost(found, option) / cost(graph, option) <= 0.7
        widths = [shape[0] for shape in extents_of(found)[:3]]
        assert all(width % round_to == 0 or width in (16, 32, 64) for width in widths)
        assert widths != [16, 32, 64]


def test_names_that_are_kept_keep_all() -> None:
    graph = strided()
    found, _ = done(graph, PruneChannels(macs=0.8, keep="Conv_out_2"))
    assert cost(found, "macs") / cost(graph, "macs") <= 0.8
    assert extents_of(found)[2][0] == 64


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            "macs=0.0001",
            r"macs=0\.0001 is out of reach: 0\.0\d+ of the multiply-accumulates stay where all goes that may",
        ),
        ("params=0.0001", r"params=0\.0001 is out of reach: 0\.0\d+ of the parameters stay"),
        ("macs=0.2,keep=Conv*", r"macs=0\.2 is out of reach: 1 of the .*: keep=Conv\*"),
        ("macs=0.2,round-to=64", r"macs=0\.2 is out of reach: .*: round-to=64"),
    ],
)
def test_what_is_out_of_reach_is_an_error(options: str, message: str) -> None:
    with pytest.raises(PassError, match=message):
        passes.run(strided(), f"prune-channels{{{options}}}")


def test_a_model_without_groups() -> None:
    n = Net(("N", 3))
    graph = n.end(n.op("MatMul", n.x, n.weight(3, 5)))
    with pytest.raises(PassError, match=r"macs=0\.7 is out of reach: 1 of .*: y: an output has the shape"):
        passes.run(graph, "prune-channels{macs=0.7}")
    (record,) = passes.run(graph, "prune-channels{macs=1}")
    assert not record.rewrites
    n = Net(("N", 3))
    (record,) = passes.run(n.end(n.op("Relu", n.x)), "prune-channels{params=0.7}")  # a part of nothing
    assert not record.rewrites


def test_a_second_run_takes_the_same_part_of_what_is_left() -> None:
    graph = strided()
    once, _ = done(graph, PruneChannels(macs=0.7))
    twice, _ = done(ir.load(once), PruneChannels(macs=0.7))
    assert counted.macs(twice, EXTENTS) / counted.macs(once, EXTENTS) <= 0.7
    loaded = ir.load(ir.emit(graph))
    passes.run(loaded, "fixpoint(prune-channels{macs=0.7})")
    assert extents_of(ir.emit(loaded)) == extents_of(once)


def test_a_limit_stops_it_before_it_is_there() -> None:
    graph = strided()
    (record,) = passes.run(graph, "prune-channels{params=0.2}", limit=1)
    assert len(record.rewrites) == 1


def test_a_batch_does_not_matter_and_a_number_of_tokens_does() -> None:
    """What grows with the square of the tokens has no channel that may go, so more of the others must."""
    n = Net(("N", "T", 12))
    y = n.op("MatMul", n.op("Softmax", n.op("MatMul", n.x, n.op("Transpose", n.x, perm=(0, 2, 1)))), n.x)
    graph = n.end(n.linear(n.op("Relu", n.linear(y, (12, 48))), (48, 12)))
    inner: list[int] = []
    for tokens in (1, 16):
        found, _ = done(graph, PruneChannels(macs=0.8, extent=tokens))
        inner.append(extents_of(found)[0][1])
        for batch in (1, 7):
            extents = {"N": batch, "T": tokens}
            assert 0.75 < cost(found, "macs", extents) / cost(graph, "macs", extents) <= 0.8
    assert inner[0] > inner[1] > 1
    with pytest.raises(PassError, match="is out of reach"):
        done(graph, PruneChannels(macs=0.8, extent=4096))


def computed() -> Graph:
    """How many rows the last product has only the numbers tell."""
    n = Net(("N", 4))
    x = n.op("Relu", n.linear(n.x, (4, 16)))
    y = n.op("Relu", n.linear(x, (16, 16)))
    first = n.op("Squeeze", n.op("Slice", y, n.ints(0), n.ints(1), n.ints(1)), n.ints(1))
    y = n.op("Compress", y, n.op("Greater", first, n.weight(1)), axis=0)
    return n.end(n.b.node("MatMul", (y, n.weight(16, 3)), name="last"))


def test_what_does_not_count_is_named() -> None:
    _, record = done(computed(), PruneChannels(macs=0.8))
    assert record.rewrites
    assert [note for note in record.notes if note.startswith("last: the shapes are open, so that")]
    _, record = done(computed(), PruneChannels(params=0.8))
    assert not record.notes
    n = Net(("N", 4))
    x = n.op("Compress", n.x, n.op("Greater", n.op("ReduceMax", n.x, n.ints(1), keepdims=0), n.weight(1)), axis=0)
    graph = n.end(n.b.node("MatMul", (n.op("Relu", n.op("MatMul", x, n.weight(4, 8))), n.weight(8, 2)), name="last"))
    with pytest.raises(PassError, match=r"macs=0\.5 cannot be told: of .*last the shapes are open"):
        passes.run(graph, "prune-channels{macs=0.5}")


@pytest.mark.parametrize("name", ["prune-channels", "prune-heads", "prune-blocks"])
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("macs=0", "takes macs above 0 and up to 1, not 0"),
        ("params=1.5", "takes params above 0 and up to 1, not 1.5"),
        ("macs=nan", "takes macs above 0 and up to 1, not nan"),
        ("macs=half", "takes macs as .*float.*, not 'half'"),
        ("macs=0.5,params=0.5", "takes one of ratio, .*macs, params, latency, not macs and params together"),
        ("ratio=0.5,macs=0.5", "takes one of ratio, .*macs, params, latency, not ratio and macs together"),
        ("macs=0.5,extent=0", "takes extent of at least 1, not 0"),
    ],
)
def test_amounts_that_are_none(name: str, options: str, message: str) -> None:
    with pytest.raises(PipelineError, match=f"{name} {message}"):
        passes.parse(f"{name}{{{options}}}")


def test_amounts_of_one_pass_alone(tmp_path: Path) -> None:
    (tmp_path / "r.json").write_text('{"*": 0.5}')
    with pytest.raises(PipelineError, match="not ratio and ratios together"):
        passes.parse(f'prune-channels{{ratio=0.5,ratios="{tmp_path / "r.json"}"}}')
    with pytest.raises(
        PipelineError, match="takes one of ratio, count, macs, params, latency, not count and macs together"
    ):
        passes.parse("prune-blocks{count=1,macs=0.5}")


@pytest.mark.parametrize(
    "text",
    [
        "prune-channels{scope=global,macs=0.7,extent=64}",
        "prune-heads{params=0.75}",
        "prune-blocks{importance=l1,macs=0.5}",
    ],
)
def test_a_pipeline_reads_as_it_is_written(text: str) -> None:
    assert passes.format_pipeline(passes.parse(text)) == text


def test_from_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, target = tmp_path / "net.onnx", tmp_path / "small.onnx"
    ir.save(strided(), source)
    words = ["optimize", str(source), "-o", str(target), "--pipeline"]
    assert main([*words, "prune-channels{macs=0.7}"]) == 0
    small = ir.emit(ir.load(target))
    assert 0.6 < counted.macs(small, EXTENTS) / cost(strided(), "macs") <= 0.7
    target.unlink()
    assert main([*words, "prune-channels{macs=0.0001}"]) != 0
    assert "macs=0.0001 is out of reach" in capsys.readouterr().err
    assert not target.exists()


def test_heads_go_until_it_is_enough() -> None:
    graph = TOPOLOGIES["attention"]()
    for scope in ("local", "global"):
        (stage,) = passes.parse(f"prune-heads{{macs=0.8,scope={scope},merge-bias=false}}")
        assert isinstance(stage, PruneHeads)
        found, _ = done(graph, stage)
        assert cost(found, "macs") / cost(graph, "macs") <= 0.8
        assert extents_of(found) == extents_of(least(graph, stage, "macs", 0.8))
    with pytest.raises(PassError, match=r"macs=0\.1 is out of reach"):
        passes.run(graph, "prune-heads{macs=0.1}")


_QUIET = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]
_CHOICES = st.lists(st.tuples(*[st.integers(0, 1000)] * 3), min_size=1, max_size=8)


@given(_CHOICES, st.sampled_from((0.9, 0.6, 0.3)), st.booleans(), st.integers(1, 4))
@settings(max_examples=15, suppress_health_check=_QUIET, deadline=None)
def test_random_nets(choices: list[tuple[int, int, int]], part: float, over_all: bool, round_to: int) -> None:
    within_or_out_of_reach(RandomNet().grow(choices), part, over_all, round_to)


@pytest.mark.slow
@given(_CHOICES, st.floats(0.01, 1), st.booleans(), st.integers(1, 4))
@settings(max_examples=300, suppress_health_check=_QUIET, deadline=None)
def test_random_nets_at_length(choices: list[tuple[int, int, int]], part: float, over_all: bool, round_to: int) -> None:
    within_or_out_of_reach(RandomNet().grow(choices), part, over_all, round_to)


def within_or_out_of_reach(graph: Graph, part: float, over_all: bool, round_to: int) -> None:
    before = ir.emit(graph)
    for option in ("macs", "params"):
        stage = budgeted(option, part, scope="global" if over_all else "local", round_to=round_to)
        loaded = ir.load(before)
        reason = failure(loaded, stage)
        if reason:
            assert f"{option}={part:g} is out of reach" in reason
            continue
        after = ir.emit(loaded)
        assert elements_or_macs(after, option) <= part * elements_or_macs(before, option) * (1 + 1e-12)


def failure(graph: Graph, stage: PruneChannels) -> str:
    try:
        passes.run(graph, (stage,))
    except PassError as error:
        return str(error)
    return ""


def elements_or_macs(model: onnx.ModelProto, option: str) -> int:
    if option == "params":
        return counted.parameters(model)
    graph = ir.load(model)
    found = [macs(node) for node in graph.walk()]
    total = sum([count.substitute({"N": 1}) if isinstance(count, ir.Expr) else count or 0 for count in found])
    assert isinstance(total, int)
    return total
