"""What a quantized model lost, by tensor: whole nets, models whose tensors go by other names, and bounded memory."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pytest

from planish import ir, passes
from planish.ir.types import Array
from planish.passes.errors import CalibrationError
from planish.passes.kernels import kernels_for
from planish.passes.quantize.quantize_static import QuantizeStatic
from planish.runtime.quantization_error import QuantizationErrors, quantization_errors
from planish.runtime.quantization_error_report import quantization_errors_text, sparkline
from planish.runtime.session import Session
from tests.passes.quantize.statically import ONE_THREAD, Static, quantized
from tests.passes.quantize.topologies import TOPOLOGIES

Feeds = list[dict[str, Array]]


def found_of(static: Static, folder: Path, feeds: Feeds | None = None, pipeline: str = "") -> QuantizationErrors:
    (folder / "float.onnx").write_bytes(static.before.SerializeToString())
    graph = ir.load(static.after)
    if pipeline:
        passes.run(graph, pipeline, kernels=kernels_for("cpu", ["com.microsoft"]))
    ir.save(graph, folder / "quantized.onnx")
    return quantization_errors(folder / "float.onnx", folder / "quantized.onnx", feeds or list(map(dict, static.feeds)))


@pytest.mark.parametrize("name", TOPOLOGIES)
def test_nets(name: str, tmp_path: Path) -> None:
    topology = TOPOLOGIES[name]
    static = quantized(topology.graph(dynamic=True), topology.feeds(), first=topology.first)
    found = found_of(static, tmp_path)
    assert found.samples == 4
    errors = {error.name: error for error in found.tensors}
    last = errors[static.before.graph.output[0].name]
    snr = -20 * np.log10(static.error())
    assert last.snr == pytest.approx(snr, abs=0.1)
    assert all(error.snr is None or error.snr > 15 for error in found.tensors)
    assert all(error.alone is None or error.snr is None or error.alone > error.snr - 3 for error in found.tensors)
    assert all(error.beyond == 0 for error in found.tensors if error.codes and name not in ("silu", "hard swish"))
    assert found.weights
    assert all(weight.snr is None or weight.snr > 30 for weight in found.weights)
    assert all(sum(weight.histogram) == weight.elements for weight in found.weights)


def test_operators_on_codes_are_read_too(tmp_path: Path) -> None:
    topology = TOPOLOGIES["residual"]
    static = quantized(topology.graph(), topology.feeds())
    long = {error.name: error for error in found_of(static, tmp_path).tensors}
    short = {error.name: error for error in found_of(static, tmp_path, pipeline="to-qoperator").tensors}
    assert len(short) >= 8
    assert short.items() <= long.items()


def test_what_is_beyond_the_range_shows(tmp_path: Path) -> None:
    topology = TOPOLOGIES["mlp"]
    static = quantized(topology.graph(), topology.feeds())
    wide: Feeds = [{"x": np.asarray(feed["x"], np.float32) * np.float32(8)} for feed in static.feeds]
    errors = {error.name: error for error in found_of(static, tmp_path, wide).tensors}
    assert errors["x"].beyond is not None
    assert errors["x"].beyond > 0.3
    assert (errors["x"].highest or 0) > 0.1
    assert errors["x"].snr == errors["x"].alone
    small: Feeds = [{"x": np.asarray(feed["x"], np.float32) * np.float32(1e-4)} for feed in static.feeds]
    errors = {error.name: error for error in found_of(static, tmp_path, small).tensors}
    assert errors["x"].vanished == 1
    assert errors["x"].used == 1
    assert errors["x"].snr == pytest.approx(0)


def test_a_broken_tensor_is_the_first_in_the_table(tmp_path: Path) -> None:
    topology = TOPOLOGIES["residual"]
    feeds = topology.feeds()
    static = quantized(topology.graph(), feeds)
    graph = ir.load(static.after)
    node = [node for node in graph.nodes if node.op == "QuantizeLinear"][3]
    scale = ir.constant(np.array(1e-3, np.float32))
    graph.set_operand(node, 1, scale)
    for user in node.result.users:
        graph.set_operand(user, 1, scale)
    (tmp_path / "float.onnx").write_bytes(static.before.SerializeToString())
    ir.save(graph, tmp_path / "broken.onnx")
    found = quantization_errors(tmp_path / "float.onnx", tmp_path / "broken.onnx", list(map(dict, feeds)))
    worst = min(found.tensors, key=lambda error: error.alone if error.alone is not None else 1e9)
    assert node.result.name == f"{worst.name}_quantized"
    assert (worst.highest or 0) > 0.3
    lines = quantization_errors_text(found).splitlines()
    assert any(line.startswith(f"{worst.name} ") for line in lines[2:7])


def test_other_names_other_inputs_and_no_samples(tmp_path: Path) -> None:
    first, other = TOPOLOGIES["mlp"], TOPOLOGIES["audio"]
    static = quantized(first.graph(), first.feeds())
    (tmp_path / "float.onnx").write_bytes(static.before.SerializeToString())
    ir.save(static.graph, tmp_path / "quantized.onnx")
    ir.save(other.graph(), tmp_path / "other.onnx")
    paths = tmp_path / "float.onnx", tmp_path / "quantized.onnx"
    with pytest.raises(CalibrationError, match=r"feeds 'z', and .* has no such input: its inputs are x"):
        quantization_errors(*paths, [{"z": np.zeros((4, 24), np.float32)}])
    with pytest.raises(CalibrationError, match="there are no samples"):
        quantization_errors(*paths, [])
    renamed = ir.load(paths[1])
    for value in [*renamed.inputs, *(value for node in renamed.nodes for value in node.results)]:
        value.name = f"{value.name}_other"
    renamed.output_names = tuple([f"{name}_other" for name in renamed.output_names])
    ir.save(renamed, tmp_path / "renamed.onnx")
    with pytest.raises(CalibrationError, match="share no tensor"):
        quantization_errors(paths[0], tmp_path / "renamed.onnx", list(map(dict, static.feeds)))


def test_tensors_are_looked_at_once_and_nothing_is_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    topology = TOPOLOGIES["residual"]
    static = quantized(topology.graph(), topology.feeds())
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    found = found_of(static, tmp_path)
    assert not list((tmp_path / "temporary").iterdir())
    elements = np.asarray(static.feeds[0]["x"]).size
    assert {error.name: error.elements for error in found.tensors}["x"] == 4 * elements


def test_a_float_model_has_no_codes(tmp_path: Path) -> None:
    topology = TOPOLOGIES["mlp"]
    static = quantized(topology.graph(), topology.feeds(), QuantizeStatic(exclude="*"))
    found = found_of(static, tmp_path)
    assert not found.weights
    assert all(error.codes == "" and error.snr is None for error in found.tensors)
    assert "exact" in quantization_errors_text(found)
    (result,) = Session(static.after.SerializeToString(), ONE_THREAD).run(static.feeds[0])
    assert found.tensors[-1].elements == 4 * np.asarray(result).size


def test_sparklines() -> None:
    assert sparkline((0, 1, 4, 8)) == " ▂▅█"
    assert sparkline((0, 0)) == "  "
    assert sparkline(()) == ""
    assert sparkline((1, 10**9)) == "▁█"
