"""The whole walk: what is written, what is reported, and what is refused before the work."""

from __future__ import annotations

from pathlib import Path

import pytest

from planish import ir, passes, runtime
from planish.ir import Builder, DType, Graph, GraphError
from planish.models.builders import residual_convnet, tutorial_cnn
from planish.passes import Instrument, PassError, PipelineError
from planish.passes.kernels import CONTRIB
from planish.runtime.compile import optimize
from planish.runtime.providers import Target
from tests.equivalence import model as text_model


@pytest.fixture
def model(tmp_path: Path) -> Path:
    ir.save(residual_convnet(), tmp_path / "model.onnx")
    return tmp_path / "model.onnx"


def test_the_package_gives_the_function() -> None:
    assert runtime.optimize is optimize


def test_the_result_is_what_passes_and_save_would_give(model: Path, tmp_path: Path) -> None:
    result = runtime.optimize(model, tmp_path / "out.onnx", pipeline="simplify,fuse")
    graph = ir.load(model)
    records = passes.run(graph, "simplify,fuse")
    ir.save(graph, tmp_path / "by_hand.onnx")
    assert (tmp_path / "out.onnx").read_bytes() == (tmp_path / "by_hand.onnx").read_bytes()
    assert [record.name for record in result.records] == [record.name for record in records]
    assert (result.nodes_before, result.nodes_after) == (29, 21)
    assert result.bytes_before == model.stat().st_size
    assert result.bytes_after == (tmp_path / "out.onnx").stat().st_size
    assert [rewrite.number for rewrite in result.rewrites] == list(range(1, len(result.rewrites) + 1))
    assert (result.source, result.target) == (model, tmp_path / "out.onnx")
    assert runtime.compare(model, tmp_path / "out.onnx").equal


def test_without_a_target_nothing_is_written(model: Path, tmp_path: Path) -> None:
    result = runtime.optimize(str(model))
    assert (result.target, result.bytes_after) == (None, None)
    assert list(tmp_path.iterdir()) == [model]
    assert len(result.graph) == result.nodes_after


def test_limit_keeps_the_first_rewrites(model: Path, tmp_path: Path) -> None:
    everything = runtime.optimize(model).rewrites
    for limit in (0, 1, len(everything) - 1):
        result = runtime.optimize(model, tmp_path / f"{limit}.onnx", limit=limit)
        assert result.rewrites == everything[:limit]
        assert runtime.compare(model, tmp_path / f"{limit}.onnx").equal


ATTENTION = """g (float[N,L,8] x, float[N,1,L,L] mask) => (float[N,L,8] y) {
    hs = Constant<value_ints = [0, 0, 2, 4]>()  ms = Constant<value_ints = [0, 0, 8]>()  a = Abs(x)  b = Exp(x)
    r = Reshape(x, hs)  q = Transpose<perm = [0, 2, 1, 3]>(r)  s = Reshape(a, hs)  k = Transpose<perm = [0, 2, 3, 1]>(s)
    t = Reshape(b, hs)  v = Transpose<perm = [0, 2, 1, 3]>(t)  n = MatMul(q, k)  e = Add(n, mask)
    p = Softmax<axis = -1>(e)  o = MatMul(p, v)  m = Transpose<perm = [0, 2, 1, 3]>(o)  y = Reshape(m, ms) }"""


def test_only_a_target_that_allows_it_gets_more_than_standard_operators(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(text_model(ATTENTION).SerializeToString())
    for name, target in (("default", None), ("cpu", Target()), ("cuda", Target("cuda", domains=frozenset((CONTRIB,))))):
        runtime.optimize(tmp_path / "model.onnx", tmp_path / f"{name}.onnx", target=target)
        assert (tmp_path / f"{name}.onnx").read_bytes() == (tmp_path / "default.onnx").read_bytes()
    result = runtime.optimize(
        tmp_path / "model.onnx", tmp_path / "out.onnx", target=Target(domains=frozenset(("", CONTRIB)))
    )
    assert f"{CONTRIB}::MultiHeadAttention" in [node.op for node in result.graph.nodes]
    assert runtime.compare(tmp_path / "model.onnx", tmp_path / "out.onnx").equal


def test_strict_keeps_every_bit(tmp_path: Path) -> None:
    ir.save(tutorial_cnn(), tmp_path / "model.onnx")
    result = runtime.optimize(tmp_path / "model.onnx", tmp_path / "out.onnx", fp="strict")
    assert result.rewrites
    assert runtime.compare(tmp_path / "model.onnx", tmp_path / "out.onnx", exact=True).equal


def test_external_data_and_opset(model: Path, tmp_path: Path) -> None:
    result = runtime.optimize(model, tmp_path / "out.onnx", external_data="always", opset=21)
    data = tmp_path / "out.onnx.data"
    assert result.bytes_after == (tmp_path / "out.onnx").stat().st_size + data.stat().st_size
    assert ir.load(tmp_path / "out.onnx").opset_imports == {"": 21}
    again = runtime.optimize(tmp_path / "out.onnx", tmp_path / "inside.onnx", external_data="never")
    assert again.bytes_before == result.bytes_after
    assert not (tmp_path / "inside.onnx.data").exists()


def test_progress_tells_each_pass_and_goes_up(model: Path, tmp_path: Path) -> None:
    seen: list[tuple[str, float]] = []
    runtime.optimize(model, tmp_path / "out.onnx", progress=lambda what, part: seen.append((what, part)))
    assert [part for _, part in seen] == sorted(part for _, part in seen)
    assert seen[0] == (f"loading {model}", 0.0)
    assert seen[-1] == ("done", 1.0)
    assert "fuse-conv-bn" in [what for what, _ in seen]


class Faulty(Instrument):
    """Fails in the middle of the work."""

    def before(self, name: str, graph: Graph) -> bool:
        return name != "fold-constants"

    def after(self, name: str, graph: Graph, rewrites: object) -> None:
        raise RuntimeError(f"{name} is not liked")


def test_a_failing_pass_leaves_no_file(model: Path, tmp_path: Path) -> None:
    with pytest.raises(PassError, match=r"remove-dead-nodes.*is not liked"):
        runtime.optimize(model, tmp_path / "out.onnx", instruments=(Faulty(),))
    assert list(tmp_path.iterdir()) == [model]


class Never(Instrument):
    def before(self, name: str, graph: Graph) -> bool:
        raise AssertionError("a pass ran")


def test_bad_targets_and_pipelines_are_refused_before_a_pass_runs(model: Path, tmp_path: Path) -> None:
    for target in (model, tmp_path, tmp_path / "none" / "out.onnx"):
        with pytest.raises(GraphError):
            runtime.optimize(model, target, instruments=(Never(),))
    with pytest.raises(PipelineError, match="no pass 'simplifi'"):
        runtime.optimize(model, tmp_path / "out.onnx", pipeline="simplifi", instruments=(Never(),))
    assert list(tmp_path.iterdir()) == [model]


def test_functions_are_dissolved_or_kept(tmp_path: Path) -> None:
    b = Builder()
    b.output("y", b.node("Relu", (b.input("x", DType.FLOAT, ("n",)),)))
    proto = ir.emit(b.graph())
    function = proto.functions.add(name="Twice", domain="local", input=["a"], output=["c"])
    function.opset_import.add(domain="", version=21)
    function.node.add(op_type="Add", input=["a", "a"], output=["c"])
    proto.opset_import.add(domain="local", version=1)
    proto.graph.node[0].op_type, proto.graph.node[0].domain = "Twice", "local"
    (tmp_path / "model.onnx").write_bytes(proto.SerializeToString())
    inlined = runtime.optimize(tmp_path / "model.onnx", tmp_path / "inlined.onnx").graph
    kept = runtime.optimize(tmp_path / "model.onnx", tmp_path / "kept.onnx", functions="keep").graph
    assert [node.op for node in inlined.nodes] == ["Add"]
    assert [node.op for node in kept.nodes] == ["local::Twice"]
    assert runtime.compare(tmp_path / "inlined.onnx", tmp_path / "kept.onnx", exact=True).equal


def test_as_dict_is_plain(model: Path, tmp_path: Path) -> None:
    found = runtime.optimize(model, tmp_path / "out.onnx").as_dict()
    assert found["source"] == str(model)
    assert found["nodes_after"] == 21
    assert isinstance(found["rewrites"], list)
