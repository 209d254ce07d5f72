"""Codes as MatMulNBits takes them: what ONNX Runtime computes from them is x times what they stand for."""

import numpy as np
import pytest
from onnx import helper

from planish.passes.quantize.matmul_n_bits import block_of, packed_operands
from planish.passes.quantize.scheme import dequantize
from planish.passes.quantize.stored_weights import rounded, scheme_for
from tests.passes.quantize.quantized import far, net, normal, results


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize(
    ("rows", "columns", "block"),
    [(64, 8, 32), (65, 3, 32), (33, 1, 32), (7, 5, 32), (1, 1, 16), (96, 4, 16), (50, 6, 0)],
)
def test_what_they_stand_for(bits: int, symmetric: bool, rows: int, columns: int, block: int) -> None:
    weight = normal(rows, columns) + np.float32(0.3)
    found = rounded(weight, scheme_for(bits, rows, block, symmetric=symmetric), "nearest", None)
    codes, scale, zeros = packed_operands(found)
    weights = {"codes": codes, "scale": scale} | ({} if zeros is None else {"zeros": zeros})
    assert (zeros is None) == symmetric
    product = helper.make_node(
        "MatMulNBits", ["x", *weights], ["y"], domain="com.microsoft", K=rows, N=columns, bits=bits,
        block_size=block_of(found),
    )  # fmt: skip
    proto = net([product], weights, x=("N", rows))
    proto.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    x = normal(3, rows, seed=1)
    assert far(x.astype(np.float64) @ dequantize(*found), results(proto, x)) < 1e-6
