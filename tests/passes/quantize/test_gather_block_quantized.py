"""Tables of embeddings as GatherBlockQuantized: numbers within half a step of their block, rows as of Gather."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import pytest
from onnx import TensorProto, numpy_helper

from planish import ir, passes
from planish.passes.kernels import cpu, kernels_for
from planish.passes.quantize.dequantized import unpacked
from tests.equivalence import op_types
from tests.passes.quantize.quantized import Array, Doubles, far, net, node, normal, quantized, results

PASS = "quantize-weights"
ALLOWED = kernels_for("cpu", ["com.microsoft"])
LOOKUP = [node("Gather", ["table", "x"], ["y"], "lookup")]
IDS = np.array([[0, 299, -1, -300], [7, 7, 8, 9]])


def lookup(table: Array, dtype: int = TensorProto.INT64) -> onnx.ModelProto:
    return net(LOOKUP, {"table": table}, x=("N", "L"), dtype=dtype, rank=3)


def stored(after: onnx.ModelProto, bits: int, width: int) -> tuple[Doubles, Doubles]:
    """What the codes stand for, and the step of each number."""
    (gather,) = after.graph.node
    arrays = {tensor.name: numpy_helper.to_array(tensor) for tensor in after.graph.initializer}
    attributes = {attribute.name: attribute.i for attribute in gather.attribute}
    packed, scales = arrays[gather.input[0]], arrays[gather.input[2]].astype(np.float64)
    codes = unpacked(packed, bits, width).astype(np.float64)
    blocks = scales.shape[1]
    zeros = np.full(scales.shape, 1 << (bits - 1))
    if len(gather.input) > 3:
        zeros = unpacked(arrays[gather.input[3]], bits, blocks)
    steps, offsets = (np.repeat(part, attributes["block_size"], axis=1)[:, :width] for part in (scales, zeros))
    return (codes - offsets) * steps, steps


@pytest.mark.parametrize("width", [32, 24, 2, 70])
@pytest.mark.parametrize("block", [0, 16, 32])
@pytest.mark.parametrize("options", ["bits=4", "bits=8", "bits=4,symmetric=true", "bits=8,symmetric=true"])
def test_each_number_is_within_half_a_step(options: str, block: int, width: int) -> None:
    table = normal(300, width)
    table[7] *= 1000
    table[8] = 0
    table[9, :1] = 1e6
    table[299] = 1e-30
    bits = 8 if "8" in options else 4
    proto = lookup(table)
    after, _ = quantized(proto, f"{PASS}{{{options},block={block},least=1,form=matmulnbits}}", kernels=ALLOWED)
    assert op_types(after.graph) == ["GatherBlockQuantized"]
    real, steps = stored(after, bits, width)
    found = results(after, IDS)
    assert np.array_equal(found, real.astype(np.float32)[IDS].astype(np.float64))
    assert (np.abs(found - table[IDS]) <= steps[IDS] * (0.5 + 1e-3)).all()


def test_it_is_smaller_and_as_good() -> None:
    proto = lookup(normal(1000, 64))
    sizes, errors = {}, {}
    for name, options, kernels in (
        ("8", "", cpu()),
        ("b8", "bits=8,form=matmulnbits", ALLOWED),
        ("b4", "bits=4", ALLOWED),
    ):
        after, _ = quantized(proto, f"{PASS}{{{options}}}", kernels=kernels)
        sizes[name] = len(after.SerializeToString())
        errors[name] = far(results(proto, IDS), results(after, IDS))
    assert sizes["b4"] < 0.66 * sizes["8"]
    assert errors["b8"] < errors["8"]
    assert errors["b4"] < 0.1


@pytest.mark.parametrize("dtype", [TensorProto.INT32, TensorProto.INT64])
def test_indices_of_both_types_none_and_too_large(dtype: int) -> None:
    after, _ = quantized(lookup(normal(300, 32), dtype), PASS, kernels=ALLOWED)
    numbers = np.int32 if dtype == TensorProto.INT32 else np.int64
    assert results(after, IDS.astype(numbers)).shape == (2, 4, 32)
    assert results(after, np.zeros((0, 3), numbers)).shape == (0, 3, 32)
    assert not results(after, np.array([[300, -301, 1 << 30]], numbers)).any()  # Gather would fail


def test_tables_that_are_read_twice_are_stored_once() -> None:
    nodes = [*LOOKUP, node("Neg", ["x"], ["m"]), node("Gather", ["table", "m"], ["b"]), node("Add", ["y", "b"], ["z"])]
    proto = net(nodes, {"table": normal(300, 32)}, x=("N", "L"), dtype=TensorProto.INT64, outputs=("z",), rank=3)
    after, record = quantized(proto, PASS, kernels=ALLOWED)
    assert (len(record.rewrites), len(after.graph.initializer)) == (2, 3)
    assert op_types(after.graph).count("GatherBlockQuantized") == 2


@pytest.mark.parametrize("form", ["folded", "dq"])
def test_other_forms_and_targets_take_standard_operators(form: str) -> None:
    proto = lookup(normal(300, 32))
    standard = ["Gather", "Cast", "Gather", "Mul"]
    assert op_types(quantized(proto, f"{PASS}{{bits=8}}", kernels=ALLOWED)[0].graph) == standard
    assert op_types(quantized(proto, f"{PASS}{{form={form}}}", kernels=ALLOWED)[0].graph) == standard
    assert op_types(quantized(proto, PASS)[0].graph) == standard
    without = replace(ALLOWED, table={op: kernels for op, kernels in ALLOWED.table.items() if "GatherBlock" not in op})
    assert op_types(quantized(proto, PASS, kernels=without)[0].graph) == standard


def test_rows_of_half_bytes_take_standard_operators() -> None:
    proto = lookup(normal(300, 33))
    assert op_types(quantized(proto, PASS, kernels=ALLOWED)[0].graph) == ["Gather", "Cast", "Gather", "Mul"]
    pipeline = f"{PASS}{{bits=8,form=matmulnbits}}"
    assert op_types(quantized(proto, pipeline, kernels=ALLOWED)[0].graph) == ["GatherBlockQuantized"]


def test_remove_quantization_takes_it_back() -> None:
    for options in ("bits=4", "bits=8,symmetric=true,block=16,form=matmulnbits"):
        after, _ = quantized(lookup(normal(300, 40)), f"{PASS}{{{options}}}", kernels=ALLOWED)
        graph = ir.load(after)
        passes.run(graph, "remove-quantization")
        back = ir.emit(graph)
        assert op_types(back.graph) == ["Gather"]
        assert far(results(after, IDS), results(back, IDS)) < 1e-6
