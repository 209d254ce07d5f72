"""The operands of GatherBlockQuantized of com.microsoft: a table of embeddings as bytes, with scales by block."""

from __future__ import annotations

import math

from planish.ir import Node, Value
from planish.ir.types import Array
from planish.passes.kernels import CONTRIB, Kernels
from planish.passes.quantize.matmul_n_bits import block_of, packed_operands
from planish.passes.quantize.rounding.least_output_error import Rounded
from planish.passes.quantize.scheme import Floats

OP = f"{CONTRIB}::GatherBlockQuantized"
_BYTE = 8


def is_gathered_alone(table: Value, bits: int, kernels: Kernels) -> bool:
    """Whether the target has the operator, and all that reads a table [rows, width] looks up rows, of whole bytes."""
    if CONTRIB not in kernels.domains or OP not in kernels.table or table.constant is None:
        return False
    width = math.prod(table.constant.shape[1:])
    return width * bits % _BYTE == 0 and all(_looks_up(user, table) for user in table.users)


def _looks_up(user: Node, table: Value) -> bool:
    return user.op == "Gather" and user.operands[0] is table and user.operands[1] is not table


def table_operands(found: Rounded) -> tuple[Array, Floats, Array | None]:
    """Of codes [width, rows] with blocks of a row: codes u8 [rows, bytes], the lowest bits first, scales [rows, blocks]
    and, where the scheme is not symmetric, zero points u8 [rows, bytes]: without them they are 2^(bits - 1).
    """
    packed, scale, zero_point = packed_operands(found)
    width, rows = found.codes.shape
    bits = found.parameters.scheme.dtype.bits
    return packed.reshape(rows, -1)[:, : width * bits // _BYTE].copy(), scale, zero_point


def attributes_of(found: Rounded) -> dict[str, int]:
    return {
        "bits": found.parameters.scheme.dtype.bits,
        "block_size": block_of(found),
        "gather_axis": 0,
        "quantize_axis": 1,
    }
